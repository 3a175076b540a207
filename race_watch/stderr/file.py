"""A worker whose stderr is a file: it keeps the very descriptor, and we read the file beside it."""

from __future__ import annotations

import fcntl
import os

from race_watch.clock import monotonic_s
from race_watch.events import StderrTold
from race_watch.stderr.lines import State, StderrLines

MODE = "a file, read beside the worker"

# What is read in a tick: signals wait meanwhile.
_TICK_BYTES = 1024 * 1024
# How far it may be behind; then it goes on near the end, where a death would be told.
_BEHIND_BYTES = 16 * _TICK_BYTES


class FileBeside:
    """Reads from the place where the worker begins to write.

    Raises:
        OSError: The file may not be read.
    """

    mode = MODE
    fd: int | None = None

    def __init__(self, stderr: int) -> None:
        self._stderr = stderr
        self._appends = bool(fcntl.fcntl(stderr, fcntl.F_GETFL) & os.O_APPEND)
        self._file = os.open(f"/proc/self/fd/{stderr}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._at = os.fstat(self._file).st_size if self._appends else self._written_to()
        self._lines = StderrLines()

    def handed_over(self) -> None:
        """Nothing was."""

    def poll(self, state: State) -> None:
        """Looks at what was written since; to be called some times a second.

        Raises:
            OSError: The file cannot be read any more.
        """
        new = self._read()
        now_s = monotonic_s()
        _tell(state, self._lines.feed(new, now_s) if new else self._lines.settle(now_s))

    def end(self, state: State) -> None:
        """Looks at the rest: the worker has ended."""
        try:
            for _ in range(_BEHIND_BYTES // _TICK_BYTES + 1):
                if not (new := self._read()):
                    break
                _tell(state, self._lines.feed(new, monotonic_s()))
            _tell(state, self._lines.end(monotonic_s()))
        except OSError:
            return

    def _read(self) -> bytes:
        size = os.fstat(self._file).st_size
        if size < self._at:  # truncated, as logrotate's copytruncate does
            self._at = 0 if self._appends else min(self._at, self._written_to())
        elif size - self._at > _BEHIND_BYTES:
            self._at = size - _TICK_BYTES
        new = os.pread(self._file, _TICK_BYTES, self._at)
        self._at += len(new)
        return new

    def _written_to(self) -> int:
        # The worker's descriptor and ours share their position.
        return os.lseek(self._stderr, 0, os.SEEK_CUR)


def _tell(state: State, facts: list[StderrTold]) -> None:
    for fact in facts:
        state(StderrTold, fact.kind, fact.thread, fact.place, fact.message)
