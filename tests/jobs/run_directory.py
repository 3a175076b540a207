"""The run directory while the worker runs: how much is in it, and how long what nobody needs any more."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from race_watch.journal import directory
from race_watch.journal.layout import SUFFIX

_LOOK_S = 0.1


@dataclass(frozen=True)
class Size:
    journals: int = 0
    bytes: int = 0


class RunDirectory:
    """Context manager: looks at it ten times a second.

    Attributes:
        now: At the last look.
        peak: The most of each that there was at one look.
        left_s: The longest that a journal was seen after its process had gone.
        left: Journals of processes that are gone, at the last look.
        over: Looks at which there was more than race_watch says there is at most.
    """

    def __init__(self, runtime: Path) -> None:
        self.now = self.peak = Size()
        self.left_s = 0.0
        self.left = self.over = 0
        self._runtime = runtime
        self._dead_s: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> RunDirectory:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_S):
            self._look(time.monotonic())

    def _look(self, now_s: float) -> None:
        sizes = {}
        for path in self._runtime.glob(f"*/*{SUFFIX}"):
            with suppress(FileNotFoundError):
                sizes[path.name] = path.stat().st_size
        self.now = Size(len(sizes), sum(sizes.values()))
        self.peak = Size(max(self.peak.journals, self.now.journals), max(self.peak.bytes, self.now.bytes))
        self.over += self.now.journals > directory.JOURNALS_KEPT or self.now.bytes > directory.JOURNALS_KEPT_BYTES
        self._dead_s = {name: self._dead_s.get(name, now_s) for name in sizes if not _lives(name)}
        self.left = len(self._dead_s)
        self.left_s = max(self.left_s, *(now_s - since_s for since_s in self._dead_s.values()), 0.0)


def _lives(journal: str) -> bool:
    """Whether its process is there; the name has boot, start in clock ticks, pid and more."""
    _, ticks, pid, _ = journal.split("-")
    try:
        stat = Path("/proc", pid, "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(b")")[2].split()[19].decode() == ticks
