"""The watcher half, wired: tails the journals of a run directory, runs the stages, folds processes that have ended.

One thread does all of it; a scrape sees the snapshot it leaves behind.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from race_watch import detectors
from race_watch.clock import monotonic_s
from race_watch.detectors.growth import Growth
from race_watch.detectors.growth_outside import GrowthOutside
from race_watch.detectors.process_end import END, WATCHERS, ProcessEnd
from race_watch.events import ExceptionSeenAgain, ProblemStated
from race_watch.findings import Finding
from race_watch.fleet import Fleet
from race_watch.incidents import Incident, Incidents
from race_watch.journal import directory, layout
from race_watch.journal.progress import Progress
from race_watch.journal.reader import ZOMBIE, JournalError, JournalReader
from race_watch.records import JournalEnded, Process, Record
from race_watch.sessions import Sessions
from race_watch.totals import Totals

_FOREVER_S = float("inf")
# Journals that are open at a time, a descriptor each; those of more processes are read when others have ended.
_OPEN_AT_ONCE = 512
_TRY_LATER = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
# A journal outlives its process for so long, until its end is judged: a watcher that is killed meanwhile leaves it to the next.
_END_JUDGED_S = 3.0
# A process that ends lets go of its journal some time before it is gone.
_GOING_S = 1.0
# A forkserver learns of its worker's end by a pipe, and has an interpreter to end: so long for it when the watcher finishes.
_FOLLOWS_S = 2.0
_LOOK_S = 0.02
# One that is gone waits for its parent to ask how it ended, which may be long in coming, or never. Less than the time after
# which it is said to survive a panic.
_UNASKED_S = 3.0


@dataclass
class Watcher:
    """Reads one run directory.

    Args:
        run_dir: Where the journals are.
        publish: Called with each incident when it is confirmed, and again when its count has settled (`again`).
        warn: Called with one line for what could not be read.
        keep: Leave the journals of ended processes in place, for `race-watch report`.
        resume: Keep and heed a note of what was told, for the next watcher of this directory.
        sessions: Given where spans are exported: takes every record, and tells incidents which session they are part of.
    """

    run_dir: str
    publish: Callable[[Incident, bool], None]
    warn: Callable[[str], None]
    keep: bool = False
    resume: bool = False
    told: set[str] = field(default_factory=set)
    fleet: Fleet = field(default_factory=Fleet)
    totals: Totals = field(default_factory=Totals)
    sessions: Sessions | None = None
    _readers: dict[str, JournalReader] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)
    # Journals whose writers are gone, and since when.
    _ending: dict[str, tuple[Process, float]] = field(default_factory=dict)
    _let_go_s: dict[str, float] = field(default_factory=dict)
    # What the processes that an earlier watcher has followed had counted when this one came.
    _counted: dict[str, dict[str, int]] = field(default_factory=dict)
    _fresh: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.incidents = Incidents(self.fleet, self.sessions.session_of if self.sessions is not None else None)
        self._detectors = detectors.build()
        ends = next(detector for detector in self._detectors if isinstance(detector, ProcessEnd))
        self.totals.ended, self.totals.sessions_lost = ends.reasons, ends.lost
        self.totals.growth = next(detector for detector in self._detectors if isinstance(detector, Growth))
        self.totals.outside = next(detector for detector in self._detectors if isinstance(detector, GrowthOutside))
        self._progress = Progress(self.run_dir if self.resume else None)

    def poll(self, now_s: float | None = None) -> None:
        """Reads what is new and publishes what is due. `now_s` is monotonic seconds; None reads the clock."""
        self._round(monotonic_s() if now_s is None else now_s, final=False)

    def finish(self) -> None:
        """Reads to the end and publishes everything that was waiting for more."""
        until_s = monotonic_s() + _FOLLOWS_S
        # Left behind, its journal would keep the directory for a day, after each end in order of a livekit-agents worker.
        while any(_is_to_follow(reader) for reader in self._readers.values()) and monotonic_s() < until_s:
            time.sleep(_LOOK_S)
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
        # What is written from here on may not be read any more.
        read_s = monotonic_s() if final else now_s
        self._fresh.clear()
        left_over = self._find_journals()
        records: list[Record] = []
        ended: list[tuple[str, float]] = []
        for path, reader in self._readers.items():
            # Asked before reading: what an ended process wrote is then there in full.
            alive = self._is_alive(path, reader, now_s)
            found = self._read(path, reader, final=final or not alive)
            records += found
            if not alive:
                end = self._end_of(path, reader, now_s)
                records.append(end)
                ended.append((path, end.t_s))
        self._process(records, now_s)
        for path, end_s in ended:
            self._fold(path, end_s)
        for path in [path for path, (_, since_s) in self._ending.items() if final or now_s - since_s >= _END_JUDGED_S]:
            self._remove(path)
        self.totals.update(self.fleet, self.incidents, [self._counters(*opened) for opened in self._readers.items()])
        self._progress.note(
            read_s,
            [reader.process.nonce for reader in self._readers.values()],
            {process.nonce: since_s for process, since_s in self._ending.values()},
            final=final,
        )
        return left_over and bool(ended)

    def _find_journals(self) -> bool:
        """Opens the journals that are new; returns whether some have to wait."""
        try:
            names = os.listdir(self.run_dir)
        except OSError:
            return False
        if not self.keep:
            directory.clear_unfinished(self.run_dir, names)
        for name in sorted(names):
            path = os.path.join(self.run_dir, name)
            if not name.endswith(layout.SUFFIX) or path in self._readers or path in self._done:
                continue
            if self._progress.is_kept(path) or self._progress.is_done(path):
                self._done.add(path)
                if self._progress.is_done(path):
                    self._unlink(path)
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
            self._fresh.add(path)
            process = self._readers[path].process
            if self._progress.is_counted(process.nonce):
                self._counted[path] = self._readers[path].counters()
            if process.role not in WATCHERS:
                self.totals.attached += 1
                self.fleet.of(process)
        return False

    def _counters(self, path: str, reader: JournalReader) -> dict[str, int]:
        """What the process has counted since an earlier watcher had it."""
        before = self._counted.get(path, {})
        return {name: count - before.get(name, 0) for name, count in reader.counters().items()}

    def _read(self, path: str, reader: JournalReader, *, final: bool) -> list[Record]:
        before = (reader.lost_overwritten, reader.lost_torn, reader.lost_malformed)
        records = reader.read(final=final)
        self.totals.records += len(records)
        # What is overwritten by now an earlier watcher has read.
        if not (path in self._fresh and path in self._counted):
            self.totals.lost["overwritten"] += reader.lost_overwritten - before[0]
        self.totals.lost["torn"] += reader.lost_torn - before[1]
        self.totals.lost["malformed"] += reader.lost_malformed - before[2]
        return records

    def _fold(self, path: str, end_s: float) -> None:
        """Takes a dead process's numbers over, once; its file stays until its end is judged."""
        reader = self._readers.pop(path)
        self.totals.fold(self._counters(path, reader))
        self._counted.pop(path, None)
        self._let_go_s.pop(path, None)
        if reader.process.role not in WATCHERS:
            self.fleet.ended(reader.process)
        reader.close()
        self._done.add(path)
        self._ending[path] = (reader.process, end_s)

    def _remove(self, path: str) -> None:
        process, _ = self._ending.pop(path)
        if self.keep:
            self._progress.keep(process.nonce)
            return
        self._done.discard(path)
        self._unlink(path)

    def _unlink(self, path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            self._done.add(path)
            self.warn(f"cannot remove {path}: {error.strerror}")

    def _process(self, records: Sequence[Record], now_s: float) -> None:
        for record in sorted(records, key=lambda r: (r.t_s, r.number)):
            if record.process.role not in WATCHERS:
                self.fleet.observe(record)
                if self.sessions is not None:
                    self.sessions.observe(record)
            for detector in self._detectors:
                detector.observe(record)
            if isinstance(record.event, ExceptionSeenAgain):
                self.incidents.seen_again(record.event.fact, record.event.channel, now_s)
            elif isinstance(record.event, ProblemStated) and record.event.text not in self.told:
                self.told.add(record.event.text)
                self.warn(record.event.text)
        for detector in self._detectors:
            for finding in detector.confirm(now_s):
                incident = None if self._is_told(finding) else self.incidents.add(finding, now_s)
                if incident is not None:
                    self.publish(incident, False)
        for incident in self.incidents.settled(now_s):
            self.publish(incident, True)

    def _is_told(self, finding: Finding) -> bool:
        # Of a process whose end was told there is no journal any more.
        return not finding.key.endswith(END) and self._progress.is_told(finding.process.nonce, finding.t_s)

    def _is_alive(self, path: str, reader: JournalReader, now_s: float) -> bool:
        """Whether a process has its journal, or is yet to be gone, or its parent yet to learn how it went."""
        held = reader.alive()
        if now_s == _FOREVER_S:
            # Its threads may take a moment to follow the first one.
            return held and reader.writer_state() != ZOMBIE
        state = "" if held else reader.writer_state()
        if not state:
            return held
        waits_s = _UNASKED_S if state == ZOMBIE else _GOING_S
        return now_s - self._let_go_s.setdefault(path, now_s) < waits_s

    def _end_of(self, path: str, reader: JournalReader, now_s: float) -> Record:
        """The end of a journal, as a record behind its last one."""
        last_s = max(reader.last_s, reader.process.monotonic_ns / 1e9)
        # When it ended nobody knows, if it had before anybody looked.
        t_s = last_s if now_s == _FOREVER_S or path in self._fresh else max(now_s, last_s)
        return Record(reader.process, sys.maxsize, t_s, JournalEnded(int(reader.writer_state() not in ("", ZOMBIE))))


def _is_to_follow(reader: JournalReader) -> bool:
    """Whether it is the journal of a forkserver that has outlived its worker."""
    process = reader.process
    is_there = process.role == "forkserver" and reader.alive() and reader.writer_state() not in ("", ZOMBIE)
    return is_there and not os.path.exists(f"/proc/{process.ppid}")
