"""PEP 440 specifiers as PromQL matchers, so that a rule can ask which workers run an affected version.

Only what the signatures use: releases of three numbers, bounded by <, <=, > and >=. A version's suffix (rc1, .post1) is not
looked at: it counts as its release.
"""

from __future__ import annotations

import re

_CLAUSE = re.compile(r"(<=|>=|<|>)(\d+)\.(\d+)\.(\d+)")
# What may follow the release in a version.
_SUFFIX = "([^0-9].*)?"
_ANY = "[0-9]+"


def matchers(specifier: str, label: str) -> str:
    """`label=~"..."` for each bound of the specifier; "" for one that takes every version.

    Raises:
        ValueError: The specifier has something else in it than bounds of three numbers.
    """
    found = []
    for clause in filter(None, specifier.replace(" ", "").split(",")):
        parsed = _CLAUSE.fullmatch(clause)
        if parsed is None:
            raise ValueError(f"{clause!r} of {specifier!r} is no bound like <=1.1.13")
        release = (int(parsed[2]), int(parsed[3]), int(parsed[4]))
        found.append(f'{label}=~"{_bounded(parsed[1], release)}"')
    return ", ".join(found)


def _bounded(bound: str, release: tuple[int, int, int]) -> str:
    """A regular expression of the releases on that side of the one given, with any suffix."""
    side = _above if bound.startswith(">") else _below
    major, minor, patch = release
    ways = [
        _joined(side(major), _ANY, _ANY),
        _joined(str(major), side(minor), _ANY),
        _joined(str(major), str(minor), side(patch)),
    ]
    if bound.endswith("="):
        ways.append(_joined(str(major), str(minor), str(patch)))
    return f"({'|'.join(way for way in ways if way)}){_SUFFIX}"


def _joined(*parts: str) -> str:
    # The dot in brackets: no backslash, which PromQL and YAML would want doubled.
    return "[.]".join(parts) if all(parts) else ""


def _above(number: int) -> str:
    """The integers greater than this one."""
    digits = str(number)
    ways = [f"[1-9][0-9]{{{len(digits)},}}"]
    for place, digit in enumerate(digits):
        if digit != "9":
            ways.append(digits[:place] + _digits(int(digit) + 1, 9) + "[0-9]" * (len(digits) - place - 1))
    return _either(ways)


def _below(number: int) -> str:
    """The integers less than this one; "" where there are none."""
    digits = str(number)
    ways = []
    if len(digits) == 2:
        ways.append("[0-9]")
    elif len(digits) > 2:
        ways.append(f"([0-9]|[1-9][0-9]{{1,{len(digits) - 2}}})")
    for place, digit in enumerate(digits):
        lowest = 1 if place == 0 and len(digits) > 1 else 0
        if int(digit) > lowest:
            ways.append(digits[:place] + _digits(lowest, int(digit) - 1) + "[0-9]" * (len(digits) - place - 1))
    return _either(ways)


def _digits(first: int, last: int) -> str:
    return str(first) if first == last else f"[{first}-{last}]"


def _either(ways: list[str]) -> str:
    return ways[0] if len(ways) == 1 else f"({'|'.join(ways)})" if ways else ""
