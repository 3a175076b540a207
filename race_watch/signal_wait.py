"""sigtimedwait(2), through ctypes.

Python's own (Modules/signalmodule.c, 3.10 to 3.13) returns what its memory held before, as if it were a signal, when the
call is interrupted and its time is up: a process that was stopped, frozen or traced for longer than that would pass on a
signal that nobody sent, or fail over a number that is none.
"""

from __future__ import annotations

import functools
import signal
import struct
from typing import Any, NamedTuple

_SET_BYTES = 128
_INFO_BYTES = 128
_TIME = struct.Struct("ll")
# siginfo_t (asm-generic/siginfo.h): number, errno and code, then a union that is aligned as a pointer and begins with the pid.
_INFO = struct.Struct("iii0Pi")


class Taken(NamedTuple):
    """A signal. `code` is positive where the kernel made it; else `pid` is who sent it."""

    number: int
    code: int
    pid: int


def take(numbers: frozenset[int], timeout_s: float) -> Taken | None:
    """Takes one pending signal of the blocked `numbers`, lowest number first; None when the time is up, or sooner."""
    try:
        import ctypes
    except ImportError:  # a Python that was built without it
        info = signal.sigtimedwait(numbers, timeout_s)
        return Taken(info.si_signo, info.si_code, info.si_pid) if info is not None and info.si_signo in numbers else None
    found = ctypes.create_string_buffer(_INFO_BYTES)
    time = _TIME.pack(int(timeout_s), int(timeout_s % 1 * 1e9))
    if _libc().sigtimedwait(_set_of(numbers), found, time) <= 0:
        return None
    number, _, code, pid = _INFO.unpack_from(found)
    return Taken(number, code, pid)


@functools.cache
def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None)


@functools.lru_cache(maxsize=64)
def _set_of(numbers: frozenset[int]) -> Any:
    import ctypes

    made = ctypes.create_string_buffer(_SET_BYTES)
    _libc().sigemptyset(made)
    for number in numbers:
        _libc().sigaddset(made, number)
    return made
