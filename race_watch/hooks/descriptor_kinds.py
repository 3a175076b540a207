"""What the open descriptors are, told without opening one: by `readlink` and, for sockets, by `getsockopt` on the number.

So it works at EMFILE, and nothing here owns a descriptor of the host's, not even for a moment as a `socket` object would. A
number that is closed meanwhile, or means something else by now, is classified as what it is. Imported when LiveKit is, which
has loaded ctypes.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator

from race_watch.hooks.descriptors import listed_fds, open_fds

_LINK = "/proc/self/fd/%d"
# Numbers that one walk looks at. A process has the lowest ones open.
_LOOKED_AT = 4096
# At 20 us a number and worse where the machine is busy, a step stays below 1 ms.
_A_STEP = 32

_STARTS = (("/", "file"), ("pipe:", "pipe"), ("anon_inode:[eventpoll]", "epoll"), ("anon_inode:[eventfd]", "eventfd"))
_SOCKETS: dict[tuple[int, int], str] = {
    (socket.AF_INET, socket.SOCK_STREAM): "tcp",
    (socket.AF_INET6, socket.SOCK_STREAM): "tcp",
    (socket.AF_INET, socket.SOCK_DGRAM): "udp",
    (socket.AF_INET6, socket.SOCK_DGRAM): "udp",
}
KINDS = (*dict.fromkeys((*(kind for _, kind in _STARTS), *_SOCKETS.values())), "unix", "other")

_getsockopt = ctypes.CDLL(None).getsockopt


def classified() -> Iterator[tuple[dict[str, int], bool] | None]:
    """Looks at one descriptor after the other; yields None after each step, then counts by kind and whether that is all."""
    left = open_fds(listed_fds)
    kinds: dict[str, int] = {}
    for number in range(_LOOKED_AT):
        if left <= 0:
            break
        try:
            link = os.readlink(_LINK % number)
        except OSError:
            link = ""
        if link:
            kind = _kind(number, link)
            kinds[kind] = kinds.get(kind, 0) + 1
            left -= 1
        if number % _A_STEP == _A_STEP - 1:
            yield None
    # Where some were closed meanwhile, all numbers have been looked at and none is left either.
    yield kinds, left <= 0 or sum(kinds.values()) >= open_fds(listed_fds)


def _kind(number: int, link: str) -> str:
    if link.startswith("socket:"):
        domain = _option(number, socket.SO_DOMAIN)
        return "unix" if domain == socket.AF_UNIX else _SOCKETS.get((domain, _option(number, socket.SO_TYPE)), "other")
    return next((kind for start, kind in _STARTS if link.startswith(start)), "other")


def _option(number: int, name: int) -> int:
    value, size = ctypes.c_int(-1), ctypes.c_uint(4)
    _getsockopt(number, socket.SOL_SOCKET, name, ctypes.byref(value), ctypes.byref(size))
    return value.value
