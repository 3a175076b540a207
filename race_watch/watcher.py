"""The watcher half, wired: tails the journals of a run directory, runs the stages, folds processes that have ended.

One thread does all of it; a scrape sees the snapshot it leaves behind.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from race_watch import detectors
from race_watch.clock import monotonic_s
from race_watch.events import ExceptionSeenAgain, ProblemStated
from race_watch.fleet import Fleet
from race_watch.incidents import Incident, Incidents
from race_watch.journal import layout
from race_watch.journal.reader import JournalError, JournalReader
from race_watch.records import Record
from race_watch.totals import Totals

_FOREVER_S = float("inf")
# Journals that are open at a time, a descriptor each; those of more processes are read when others have ended.
_OPEN_AT_ONCE = 512
_TRY_LATER = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


@dataclass
class Watcher:
    """Reads one run directory.

    Args:
        run_dir: Where the journals are.
        publish: Called with each incident when it is confirmed, and again when its count has settled (`again`).
        warn: Called with one line for what could not be read.
        keep: Leave the journals of ended processes in place, for `race-watch report`.
    """

    run_dir: str
    publish: Callable[[Incident, bool], None]
    warn: Callable[[str], None]
    keep: bool = False
    told: set[str] = field(default_factory=set)
    fleet: Fleet = field(default_factory=Fleet)
    totals: Totals = field(default_factory=Totals)
    _readers: dict[str, JournalReader] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.incidents = Incidents(self.fleet)
        self._detectors = detectors.build()

    def poll(self, now_s: float | None = None) -> None:
        """Reads what is new and publishes what is due. `now_s` is monotonic seconds; None reads the clock."""
        self._round(monotonic_s() if now_s is None else now_s, final=False)

    def finish(self) -> None:
        """Reads to the end and publishes everything that was waiting for more."""
        while self._round(_FOREVER_S, final=True):
            pass
        for incident in self.incidents.settled(_FOREVER_S, final=True):
            self.publish(incident, True)
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()

    def _round(self, now_s: float, *, final: bool) -> bool:
        """One look at all journals.

        Returns:
            Whether another one will find more journals: there were too many to open, and some are done with.
        """
        left_over = self._find_journals()
        records: list[Record] = []
        ended = []
        for path, reader in self._readers.items():
            # Asked before reading: what an ended process wrote is then there in full.
            alive = reader.alive()
            records += self._read(reader, final=final or not alive)
            if not alive:
                ended.append(path)
        self._process(records, now_s)
        for path in ended:
            self._fold(path)
        self.totals.update(self.fleet, self.incidents, [reader.counters() for reader in self._readers.values()])
        return left_over and bool(ended)

    def _find_journals(self) -> bool:
        """Opens the journals that are new; returns whether some have to wait."""
        try:
            names = os.listdir(self.run_dir)
        except OSError:
            return False
        for name in sorted(names):
            path = os.path.join(self.run_dir, name)
            if not name.endswith(layout.SUFFIX) or path in self._readers or path in self._done:
                continue
            if len(self._readers) >= _OPEN_AT_ONCE:
                return True
            try:
                self._readers[path] = JournalReader(path)
            except FileNotFoundError:
                continue
            except (JournalError, OSError) as error:
                if isinstance(error, OSError) and error.errno in _TRY_LATER:
                    return True
                self._done.add(path)
                self.warn(f"skipped a journal: {error}")
                continue
            self.totals.attached += 1
            self.fleet.of(self._readers[path].process)
        return False

    def _read(self, reader: JournalReader, *, final: bool) -> list[Record]:
        before = (reader.lost_overwritten, reader.lost_torn, reader.lost_malformed)
        records = reader.read(final=final)
        self.totals.records += len(records)
        self.totals.lost["overwritten"] += reader.lost_overwritten - before[0]
        self.totals.lost["torn"] += reader.lost_torn - before[1]
        self.totals.lost["malformed"] += reader.lost_malformed - before[2]
        return records

    def _fold(self, path: str) -> None:
        """Takes a dead process's numbers over, once, and removes its file."""
        reader = self._readers.pop(path)
        self.totals.fold(reader.counters())
        self.fleet.ended(reader.process)
        reader.close()
        if self.keep:
            self._done.add(path)
            return
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            self._done.add(path)
            self.warn(f"cannot remove {path}: {error.strerror}")

    def _process(self, records: Sequence[Record], now_s: float) -> None:
        for record in sorted(records, key=lambda r: (r.t_s, r.number)):
            self.fleet.observe(record)
            for detector in self._detectors:
                detector.observe(record)
            if isinstance(record.event, ExceptionSeenAgain):
                self.incidents.seen_again(record.event.fact, record.event.channel, now_s)
            elif isinstance(record.event, ProblemStated) and record.event.text not in self.told:
                self.told.add(record.event.text)
                self.warn(record.event.text)
        for detector in self._detectors:
            for finding in detector.confirm(now_s):
                incident = self.incidents.add(finding, now_s)
                if incident is not None:
                    self.publish(incident, False)
        for incident in self.incidents.settled(now_s):
            self.publish(incident, True)
