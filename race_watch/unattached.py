"""Processes below us that use LiveKit's native library and are not watched: `python -I`, a foreign bootstrap, a full disk.

Source: `livekit/rtc/_ffi_client.py:get_ffi_lib` (0.18 to 1.2.0) maps `liblivekit_ffi.so` on import; Linux tells in /proc.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

_LIBRARY = b"liblivekit_ffi.so"
INTERVAL_S = 15.0


class Unattached:
    """Looks at /proc every INTERVAL_S: 25 us a process of the machine or container, 100 us more for one that nobody watches.

    Attributes:
        count: Of the last look: processes that were not watched at the look before either, so that one which is just
            attaching is not among them. Processes of another PID namespace (a sidecar's worker) are never seen.
    """

    def __init__(self) -> None:
        self.count = 0
        self._suspects: set[int] = set()
        self._next_s = float("-inf")

    def look(self, attached: Iterable[int], now_s: float) -> None:
        """`attached` are the pids of the processes with a journal."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + INTERVAL_S
        found = {pid for pid in _descendants(os.getpid()) - set(attached) if _uses_library(pid)}
        self.count = len(found & self._suspects)
        self._suspects = found


def _descendants(root: int) -> set[int]:
    children: dict[int, list[int]] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return set()
    for name in names:
        if name.isdigit():
            children.setdefault(_parent(name), []).append(int(name))
    found: set[int] = set()
    waiting = [root]
    while waiting:
        below = [pid for pid in children.get(waiting.pop(), ()) if pid not in found]
        found.update(below)
        waiting += below
    return found


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # After the name, which is in brackets and may be anything: state, parent.
            return int(file.read(1024).rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _uses_library(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            return any(_LIBRARY in line for line in file)
    except OSError:
        return False
