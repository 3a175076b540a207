"""From one pipe into another by splice(2): a byte is in the one or in the other, so a kill neither loses nor repeats any.

tee(2) shows what is there first. Neither waits: what does not fit stays where it is.

A spliced piece takes one of the target's slots (16, as a rule) however short it is, where the worker's own writes would
have shared one. So when nobody reads, short pieces are held back: they join in the source, and nobody misses them. Else a
reader that comes only when the worker has ended would find a full pipe and a process that hangs on it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os
import struct
import termios
from collections.abc import Callable

# The most that is looked at and moved at a time: all that the source can hold.
PIECE_BYTES = 1024 * 1024
# A piece that makes good use of the slots it takes.
LONG_BYTES = 32 * 1024
# Shorter ones that may lie unread before more are held back.
SHORT_ONES = 4

_NO_WAIT = 2  # SPLICE_F_NONBLOCK in linux/fcntl.h
_SIZE = struct.Struct("i")


class Mover:
    """Moves what comes to `source` on to `target`.

    Attributes:
        seen: Bytes at the head of the source that were looked at and wait to be moved.
    """

    def __init__(self, source: int, target: int) -> None:
        self.seen = 0
        self._source = source
        self._target = target
        self._short = 0
        self._lying = 0

    def there(self) -> int:
        """Bytes in the source."""
        return unread(self._source)

    def look(self) -> bytes:
        """Returns what is new in the source; all of it is still there.

        Raises:
            OSError: There is no room for a further pipe.
        """
        if self.seen and self.there() <= self.seen:
            return b""
        read, write = self._copies
        length = _tee()(self._source, write, PIECE_BYTES, _NO_WAIT)
        copy = os.read(read, length) if length else b""
        new = copy[self.seen :]
        self.seen = max(self.seen, len(copy))
        return new

    def look_away(self) -> None:
        """As `look`, without a copy."""
        self.seen = self.there()

    def is_due(self) -> bool:
        """Whether what was seen should be moved now, or is better held back."""
        if self.seen >= LONG_BYTES or self._short < SHORT_ONES:
            return True
        before, self._lying = self._lying, unread(self._target)
        if self._lying == 0:
            self._short = 0
        return self._lying != before  # somebody reads, or writes too

    @functools.cached_property
    def _copies(self) -> tuple[int, int]:
        read, write = os.pipe()
        enlarge(write)
        return read, write

    def move(self) -> None:
        """Moves what was seen, as far as it fits.

        Raises:
            BrokenPipeError: Nobody will read it.
        """
        length = self.seen
        try:
            moved = os.splice(self._source, self._target, length, flags=_NO_WAIT)
        except BlockingIOError:
            return
        self.seen -= moved
        if length < LONG_BYTES:
            self._short += 1
            if self._short >= SHORT_ONES:
                self._lying = unread(self._target)


def unread(pipe: int) -> int:
    """Bytes in a pipe, asked at either end."""
    size: int = _SIZE.unpack(fcntl.ioctl(pipe, termios.FIONREAD, bytes(_SIZE.size)))[0]
    return size


def enlarge(pipe: int) -> None:
    """Makes it as large as the system lets everybody, if it lets us."""
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIECE_BYTES)
    except OSError:
        return


def try_out(source: int, target: int) -> None:
    """Of no byte: only to hear now if there is no such call, or a sandbox forbids it.

    Raises:
        OSError: It is so.
    """
    _tee()(source, target, 0, _NO_WAIT)
    os.splice(source, target, 0, flags=_NO_WAIT)


@functools.cache
def _tee() -> Callable[[int, int, int, int], int]:
    """tee(2), for which os has no function; 0 where there is nothing to copy."""
    try:
        call = ctypes.CDLL(None, use_errno=True).tee
    except AttributeError:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint)
    call.restype = ctypes.c_ssize_t

    def tee(source: int, target: int, length: int, flags: int) -> int:
        copied: int = call(source, target, length, flags)
        if copied >= 0:
            return copied
        number = ctypes.get_errno()
        if number == errno.EAGAIN:
            return 0
        raise OSError(number, os.strerror(number))

    return tee
