"""The numbers behind the metrics: counters of live processes plus what dead ones left, each folded in once."""

from __future__ import annotations

from collections import Counter

from race_watch import metrics
from race_watch.fleet import Fleet
from race_watch.incidents import Incidents

Values = dict[tuple[str, ...], float]


class Totals:
    """Written by the watcher's thread; `snapshot` is swapped whole, so a scrape in another thread sees one moment."""

    def __init__(self) -> None:
        self.attached = 0
        self.records = 0
        self.lost: Counter[str] = Counter()
        self._folded: Counter[str] = Counter()
        self.snapshot: dict[str, Values] = self._collect(Fleet(), Incidents(Fleet()), Counter())

    def fold(self, counters: dict[str, int]) -> None:
        """Takes over the counters of a process that has ended."""
        self._folded.update(counters)

    def update(self, fleet: Fleet, incidents: Incidents, live: list[dict[str, int]]) -> None:
        """Renews the snapshot; `live` are the counters of the processes that are running."""
        counters = Counter(self._folded)
        for one in live:
            counters.update(one)
        self.snapshot = self._collect(fleet, incidents, counters)

    def _collect(self, fleet: Fleet, incidents: Incidents, counters: Counter[str]) -> dict[str, Values]:
        values: dict[str, Values] = {m.name: dict.fromkeys(m.sets, 0.0) for m in metrics.CATALOGUE}
        for group in incidents.groups.values():
            labels = (group.category, group.verdict, group.signature)
            values[metrics.INCIDENTS.name][labels] = values[metrics.INCIDENTS.name].get(labels, 0) + group.incidents
            values[metrics.OCCURRENCES.name][labels] = values[metrics.OCCURRENCES.name].get(labels, 0) + group.occurrences
        live = fleet.live()
        resources = [facts.resources for facts in live if facts.resources is not None]
        single = {
            metrics.PROCESSES: len(live),
            metrics.ATTACHED: self.attached,
            metrics.ROOMS: sum(r.rooms for r in resources),
            metrics.PARTICIPANTS: sum(r.participants for r in resources),
            metrics.OPEN_FDS: sum(max(r.open_fds, 0) for r in resources),
            metrics.FFI_HANDLES: sum(max(r.ffi_handles, 0) for r in resources),
            metrics.ROOM_EVENTS: counters["room_events"],
            metrics.EVENTS: self.records,
            metrics.SUPPRESSED: counters["exceptions_suppressed"],
            metrics.CAPTURED: counters["exceptions_seen"],
            metrics.LOG_RECORDS: counters["log_records"],
            metrics.TASKS: counters["tasks_watched"],
            metrics.HOOK_ERRORS: counters["hook_errors"],
            metrics.HOOKS_OFF: sum(len(facts.hooks_off) for facts in live),
        }
        for metric, value in single.items():
            values[metric.name][()] = value
        for reason in metrics.LOST_REASONS:
            values[metrics.LOST.name][(reason,)] = self.lost[reason]
        values[metrics.LOST.name][("cut",)] = counters["bodies_cut"]
        return values
