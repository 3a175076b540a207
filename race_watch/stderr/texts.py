"""What runtimes print to stderr as their process dies: one record a text.

Rust std (library/std/src/panicking.rs; the form before 1.73 quotes the message, the one from 1.91 on has the thread's
number), the SDK's `FFI Panic:` (livekit/rtc/_ffi_client.py), glibc (malloc/malloc.c, debug/, assert/assert.c), CPython's
`Py_FatalError`, libwebrtc (rtc_base/checks.cc) and the C++ runtimes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class GoesOn(Enum):
    """Which lines below belong to the message."""

    NOT = "none"
    PANIC = "the next one, and then those that are indented"
    INDENTED = "those that are indented"
    QUOTED = "up to the one that ends the quotation"
    CHECK = "those that begin with #"


@dataclass(frozen=True, slots=True)
class Text:
    """A text. The groups that `pattern` may have: thread, number, place, line, message."""

    kind: str
    pattern: re.Pattern[bytes]
    goes_on: GoesOn


_THREAD = rb"(?<!\w)thread '(?P<thread>.{1,64}?)'(?: \((?P<number>\d+)\))? panicked at "
_LINE = rb"^(?P<message>%b)$"
_PLACE = rb"(?P<place>[^'\s].{0,400}?:\d+:\d+)"

QUOTE_ENDS = re.compile(rb"(?P<message>.*)', " + _PLACE + rb"$")

TEXTS = tuple(
    Text(kind, re.compile(pattern), goes_on)
    for kind, goes_on, pattern in (
        ("rust_panic", GoesOn.PANIC, _THREAD + _PLACE + rb":$"),
        ("rust_panic", GoesOn.NOT, _THREAD + rb"'(?P<message>.*)', " + _PLACE + rb"$"),
        ("rust_panic", GoesOn.QUOTED, _THREAD + rb"'(?P<message>.*)$"),
        ("rust_panic", GoesOn.NOT, _LINE % rb"fatal runtime error: .+|memory allocation of \d+ bytes failed"),
        ("ffi_panic", GoesOn.NOT, rb"^FFI Panic: (?P<message>.*)$"),
        ("python_fatal", GoesOn.NOT, rb"^Fatal Python error: (?P<message>.*)$"),
        ("glibc", GoesOn.NOT, _LINE % rb"(?:malloc|free|realloc|\w{1,32}_chunk|(?:malloc|tcache)_\w{1,32})\(\): [a-z].*"),
        ("glibc", GoesOn.NOT, _LINE % rb"double free or corruption \(\S+\)|corrupted (?:size vs\. prev_|double-linked ).*"),
        (
            "glibc",
            GoesOn.NOT,
            _LINE % rb"\*\*\* (?:(?:stack smashing|buffer overflow|%%n in writable segment) detected \*\*\*|Error in `).*",
        ),
        ("glibc", GoesOn.NOT, rb"^Fatal glibc error: (?:(?P<place>[^\s:]+:\d+) )?(?P<message>.*)$"),
        ("glibc", GoesOn.NOT, rb"^[^:]{1,64}: (?P<place>[^\s:]+:\d+): (?P<message>.*: Assertion `.*' failed\.)$"),
        ("cpp_abort", GoesOn.CHECK, rb"^# Fatal error in:? (?P<place>.{1,400}), line (?P<line>\d+)$"),
        ("cpp_abort", GoesOn.NOT, rb"^libc\+\+abi: (?P<message>.*)$"),
        ("cpp_abort", GoesOn.INDENTED, _LINE % rb"terminate called (?:after|without|recursively).*"),
    )
)

_COLOUR = rb"\x1b\[[\d;]*[A-Za-z]"
_COLOURS = re.compile(_COLOUR)
# Begins with the line feed, which the regex engine finds as fast as memory is read.
_BEGINS = re.compile(
    rb"\n(?:" + _COLOUR + rb")*(?=[Ffmrtdc*#l])(?:FFI Panic: |Fatal (?:Python|glibc) error: |fatal runtime error: |"
    rb"memory allocation of |malloc|free\(\): |realloc\(\): |m\w{1,6}_chunk|tcache_|double free or |corrupted |"
    rb"\*\*\* |# Fatal error in|libc\+\+abi: |terminate called )"
)


def may_tell(lines: bytes) -> bool:
    """Whether one of the texts may be in there: cheap, for much text. A line feed has to precede each line."""
    return b" panicked at " in lines or b": Assertion `" in lines or _BEGINS.search(lines) is not None


def without_colours(line: bytes) -> bytes:
    """The line as it would be on a stderr that is no terminal."""
    return _COLOURS.sub(b"", line) if b"\x1b" in line else line
