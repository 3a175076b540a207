"""Processes of ours and of our descendants': found, killed by descriptors that cannot mean another one, and reaped."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress

PATIENCE_S = 20.0
_PR_SET_CHILD_SUBREAPER = 36
_LOOK_S = 0.005


class SoakError(Exception):
    """Something did not come about in time, or not as it has to."""


class Target:
    """A process that can be killed, and only it: its number may be another one's later.

    Raises:
        ProcessLookupError: It is gone already.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    def kill(self) -> None:
        """Sends SIGKILL; it is not dead yet when this returns."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, signal.SIGKILL)

    def is_dead(self) -> bool:
        """Whether it has ended; somebody may still have to ask for it."""
        return bool(select.select([self._fd], [], [], 0)[0])

    def close(self) -> None:
        os.close(self._fd)


def adopt_orphans() -> None:
    """From now on all processes that our descendants leave become our children, for us to end and reap."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot adopt orphans")


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for it.

    Raises:
        SoakError: It takes too long.
    """
    due_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > due_s:
            raise SoakError(f"{what}: not within {PATIENCE_S:g} s")
        time.sleep(_LOOK_S)


def command_of(pid: int) -> str:
    """Its arguments; empty for a zombie and for one that is gone."""
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().replace(b"\0", b" ").decode(errors="replace")
    return ""


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def children(spared: Collection[int] = ()) -> list[int]:
    """Ours but these, at a moment when none had just ended: one that ends leaves us its own. Those that have are reaped."""
    while True:
        found = [pid for pid in all_pids() if pid not in spared and _parent_of(pid) == os.getpid()]
        if not [pid for pid in found if os.waitpid(pid, os.WNOHANG)[0]]:
            return found


def end_children(spared: Collection[int] = (), but: str = "") -> None:
    """Kills them, except those whose command begins so, and returns when they are dead."""

    def ended() -> bool:
        left = [pid for pid in children(spared) if not but or not command_of(pid).startswith(but)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)  # nobody else asks for it: the number is still its own
        return not left

    until(ended, "end of what was left")


def _parent_of(pid: int) -> int:
    with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])
    return 0
