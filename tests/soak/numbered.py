"""A record that says which one it is, and shows whether it is whole: its text follows from its number, and has a check sum."""

from __future__ import annotations

import random
import string
import zlib

from race_watch.journal import layout

# After so many of them the worker says again that it is in a room: the journal is a ring, and the watcher has to know.
CONNECTED_EVERY = 16

_LETTERS = "".join(random.Random(1).choices(string.ascii_letters, k=8192))
# A long record takes up to 16 slots: a kill may come between two of them.
_LONG_EVERY = 5
_LONG_BYTES = 3500
_SHORT_BYTES = 200


def text(number: int) -> str:
    """The record's text; the sizes go through all there are."""
    size = number * 97 % _LONG_BYTES if number % _LONG_EVERY == 0 else number * 31 % _SHORT_BYTES
    at = number * 53 % (len(_LETTERS) - _LONG_BYTES)
    body = _LETTERS[at : at + size]
    return f"{number} {zlib.crc32(body.encode()):08x} {body}"


def number_of(found: str) -> int | None:
    """Which record this is, or None if that record is another text."""
    number = found.partition(" ")[0]
    return int(number) if number.isdecimal() and found == text(int(number)) else None


def slots(number: int) -> int:
    """How many slots of a journal it takes."""
    size = len(text(number))
    return 1 if size <= layout.BODY_BYTES else -(-size // layout.PART_BYTES)
