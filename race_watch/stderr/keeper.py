"""The relay's own processes, from the fork on. Nothing in here returns."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import os
import signal
import time
from typing import NoReturn

from race_watch.events import Event
from race_watch.own_journal import OwnJournal
from race_watch.stderr.copying import READY, Copying
from race_watch.stderr.pipe import try_out

ROLE = "stderr"
NAME = "stderr-relay"

# Before one that was killed is replaced: it may be killed again and again.
_PAUSE_S = 0.02
# Fields of /proc/self/stat, counted behind the command's name.
_ARGUMENTS_BEGIN, _ARGUMENTS_END = 45, 46


def keep(run_dir: str, source: int, target: int, control: int, supervisor: int) -> NoReturn:
    """Has the copying done by a child, until it has ended by itself. All signals must be blocked."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # What is not touched stays shared with the supervisor.
    gc.disable()
    gc.freeze()
    source, target, control = _only(source, target, control)
    os.set_blocking(control, False)  # nothing of the supervisor's is waited for
    os.chdir("/")
    _rename(f"{NAME} of {supervisor}".encode())
    try_out(source, target)
    os.write(control, READY)
    looks = True
    while True:
        try:
            pid = os.fork()
        except OSError:
            _copy(run_dir, source, target, control, looks)
        if pid == 0:
            _copy(run_dir, source, target, control, looks)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            if os.WEXITSTATUS(status) == 0 or not looks:
                os._exit(0)
            looks = False  # It failed where the guard is not: perhaps it does not if it only copies.
        time.sleep(_PAUSE_S)


def _copy(run_dir: str, source: int, target: int, control: int, looks: bool) -> NoReturn:
    failed = 1
    try:
        facts = _Facts(run_dir)
        copying = Copying(source, target, control, facts.state if looks else None, facts.close)
        copying.run()
        failed = 0
    finally:
        os._exit(failed)


class _Facts:
    """A journal that is made when there is something to write: as a rule nothing is."""

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self._journal: OwnJournal | None = None

    def state(self, event: type[Event], *values: object) -> None:
        if self._journal is None:
            self._journal = OwnJournal(self._run_dir, ROLE)
        self._journal.state(event, *values)

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()


def _only(*descriptors: int) -> list[int]:
    """Closes all others: somebody may be waiting for the end of a pipe, or for a lock. Returns their new numbers."""
    kept = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3) for descriptor in descriptors]
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(int(name))
    for standard in range(3):
        if os.open(os.devnull, os.O_RDWR) != standard:
            raise OSError("cannot replace the standard streams")
    return kept


def _rename(name: bytes) -> None:
    """What ps and pkill know the process by."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open("/proc/self/comm", "wb") as file:
            file.write(NAME.encode())
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        begin, end = int(fields[_ARGUMENTS_BEGIN]), int(fields[_ARGUMENTS_END])
        # The copy of the arguments that the kernel made for the process, and shows; Python has its own.
        if 0 < begin < end:
            ctypes.memset(begin, 0, end - begin)
            ctypes.memmove(begin, name, min(len(name), end - begin - 1))
