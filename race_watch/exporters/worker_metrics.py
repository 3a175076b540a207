"""The worker's own /metrics: the numbers of ours, left in the run directory for the worker's hook to show among its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress

from race_watch.clock import monotonic_s
from race_watch.exporters.prometheus import SnapshotCollector
from race_watch.fleet import Fleet
from race_watch.journal.layout import METRICS_FILE, UNFINISHED
from race_watch.totals import Totals

# A scrape sees numbers as old as this. A file has 20 KB and costs 1.6 ms, what the worker spends on reading it 0.3 ms.
EVERY_S = 5.0


class WorkerMetrics:
    """There is no file unless a live process shows it: the worker's setting alone decides. Used by the watcher's thread."""

    def __init__(self, run_dir: str, totals: Totals, warn: Callable[[str], None]) -> None:
        self._path = os.path.join(run_dir, METRICS_FILE)
        self._collector = SnapshotCollector(totals)
        self._warn = warn
        self._due_s = 0.0
        self._failure = ""

    def polled(self, fleet: Fleet) -> None:
        """Leaves them anew, if somebody wants them and it is time."""
        now_s = monotonic_s()
        if now_s < self._due_s or not any(facts.process.identity.get("shows_metrics") for facts in fleet.live()):
            return
        self._due_s = now_s + EVERY_S
        try:
            self._store(now_s)
            self._failure = ""
        except OSError as error:
            before, self._failure = self._failure, error.strerror or str(error)
            if self._failure != before:
                self._warn(f"metrics for the worker's own /metrics cannot be left in its run directory: {self._failure}")

    def stop(self) -> None:
        """Nobody renews them: the worker shows none from now on."""
        for name in (self._path, self._path + UNFINISHED):
            with suppress(OSError):
                os.unlink(name)

    def _store(self, now_s: float) -> None:
        families = [
            (family.name, family.documentation, family.type, [(s.name, s.labels, s.value) for s in family.samples])
            for family in self._collector.collect()
        ]
        # Read while it is written: it appears whole or not at all.
        temporary = self._path + UNFINISHED
        with open(temporary, "w", encoding="utf-8", opener=_private) as file:
            json.dump({"made_s": now_s, "families": families}, file)
        os.replace(temporary, self._path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
