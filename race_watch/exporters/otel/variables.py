"""The standard OTEL_* variables, read as their specification says, and said where they cannot be used.

Never a value in a message: headers carry keys, and an endpoint may have a password in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SECONDS_BELOW = 1000


@dataclass(frozen=True, slots=True)
class Variables:
    """Reads an environment. An empty variable counts as unset. `problems` gets a line for each that cannot be used."""

    environ: Mapping[str, str]
    problems: list[str] = field(default_factory=list)

    def text(self, *names: str) -> str:
        """The first of these that is set."""
        return next((value for name in names if (value := self.environ.get(name, "").strip())), "")

    def flag(self, name: str) -> bool:
        return self.text(name).lower() == "true"

    def choice(self, names: tuple[str, ...], choices: tuple[str, ...], default: str) -> str:
        """One of `choices`; another value is said, and the default taken."""
        chosen = self.text(*names).lower() or default
        if chosen in choices:
            return chosen
        self.problems.append(f"{self._name(names)} is not one of {', '.join(choices)}; using {default}")
        return default

    def seconds(self, names: tuple[str, ...], default_s: float) -> float:
        """A duration that is given in milliseconds."""
        given = self.text(*names)
        if not given:
            return default_s
        if given.isdecimal() and int(given) > 0:
            return int(given) / 1000
        self.problems.append(f"{self._name(names)} is not a number of milliseconds; using {default_s:g} s")
        return default_s

    def timeout_s(self, names: tuple[str, ...], default_s: float) -> float:
        """An export timeout: milliseconds by the specification, but Python's SDK reads seconds, so small numbers are those."""
        try:
            given = float(self.text(*names) or default_s)
        except ValueError:
            given = 0.0
        if not 0 < given < float("inf"):
            self.problems.append(f"{self._name(names)} is not a time; using {default_s:g} s")
            return default_s
        return given if given < _SECONDS_BELOW else given / 1000

    def pairs(self, *names: str) -> dict[str, str]:
        """`key=value,...`, percent-decoded, the later names over the earlier ones. What is no pair is said and left out."""
        found: dict[str, str] = {}
        for name in names:
            for part in self.text(name).split(","):
                key, separator, value = part.partition("=")
                if separator and key.strip():
                    found[unquote(key).strip()] = unquote(value).strip()
                elif part.strip():
                    self.problems.append(f"{name} is not key=value,key=value; a part of it is left out")
        return found

    def headers(self, *names: str) -> dict[str, str]:
        """Request headers, given as `pairs`; their names in lower case."""
        found: dict[str, str] = {}
        for key, value in self.pairs(*names).items():
            if _TOKEN.fullmatch(key) and value.isprintable() and value.isascii():
                found[key.lower()] = value
            else:
                self.problems.append(f"{names[0]} has a header that cannot be sent; it is left out")
        return found

    def _name(self, names: tuple[str, ...]) -> str:
        return next((name for name in names if self.text(name)), names[0])
