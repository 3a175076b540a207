"""The numbers behind the metrics: counters of live processes plus what dead ones left, each folded in once."""

from __future__ import annotations

import re
import threading
from collections import Counter
from dataclasses import dataclass

from race_watch import __version__, metrics
from race_watch.detectors.growth import Growth
from race_watch.detectors.growth_outside import GrowthOutside
from race_watch.fleet import Fleet
from race_watch.gauges import grown, held
from race_watch.incidents import Incident, Incidents
from race_watch.self_metrics import Own

Values = dict[tuple[str, ...], float]
Labels = tuple[str, ...]

_TRACE_ID, _SPAN_ID = re.compile("[0-9a-f]{32}"), re.compile("[0-9a-f]{16}")
_VERSION_CHARS = 32


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a trace backend has an incident, as lower-case hex."""

    trace_id: str
    span_id: str
    unix_s: float


class Totals:
    """Written by the watcher's thread; `snapshot` is swapped whole, so a scrape in another thread sees one moment.

    Attributes:
        own: What the watcher has measured of itself; in the next snapshot.
        growth, outside: The detectors that follow it, given by the watcher.
        ended, sessions_lost: Reason -> count; the detector's own counters, given by the watcher.
        traces: Labels of the incident counters -> the span of the latest incident that has one; swapped whole.
    """

    def __init__(self) -> None:
        self.attached = 0
        self.records = 0
        self.lost: Counter[str] = Counter()
        self.own = Own()
        self.growth: Growth | None = None
        self.outside: GrowthOutside | None = None
        self.ended: Counter[str] = Counter()
        self.sessions_lost: Counter[str] = Counter()
        self.traces: dict[Labels, Trace] = {}
        self._folded: Counter[str] = Counter()
        self._exports: Counter[Labels] = Counter()
        self._otlp_lost: Counter[Labels] = Counter()
        self._exporting = threading.Lock()
        self._builds: list[Labels] = [(__version__, "", "", "")]
        self.snapshot: dict[str, Values] = self._collect(Fleet(), Incidents(Fleet()), Counter())

    @property
    def measured(self) -> int:
        """How many processes were measured from outside, the ended ones included."""
        return self.outside.seen if self.outside is not None else 0

    def fold(self, counters: dict[str, int]) -> None:
        """Takes over the counters of a process that has ended."""
        self._folded.update(counters)

    def exported(self, exporter: str, outcome: str, count: int = 1) -> None:
        """Counts exports; `exporter` and `outcome` are of the catalogue. Called from any thread."""
        with self._exporting:
            self._exports[exporter, outcome] += count

    def not_exported(self, reason: str, count: int) -> None:
        """Counts what OTLP lost; `reason` is of the catalogue. Called from any thread."""
        with self._exporting:
            self._otlp_lost[(reason,)] += count

    def trace(self, incident: Incident) -> None:
        """Keeps the span of an incident as an exemplar for its counters."""
        trace_id, span_id = incident.trace_id or "", incident.span_id or ""
        if _TRACE_ID.fullmatch(trace_id) and _SPAN_ID.fullmatch(span_id):
            labels = (incident.category, incident.verdict, incident.signature)
            self.traces = {**self.traces, labels: Trace(trace_id, span_id, incident.time_unix_ns / 1e9)}

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
            values[metrics.OCCURRENCES.name][(group.category,)] += group.occurrences
        live = fleet.live()
        resources = [facts.resources for facts in live if facts.resources is not None]
        single = {
            metrics.PROCESSES: len(live),
            metrics.ATTACHED: self.attached,
            metrics.SESSIONS: fleet.sessions,
            metrics.ROOMS: sum(r.rooms for r in resources),
            metrics.PARTICIPANTS: sum(r.participants for r in resources),
            metrics.ROOM_EVENTS: counters["room_events"],
            metrics.EVENTS: self.records,
            metrics.SUPPRESSED: counters["exceptions_suppressed"],
            metrics.CAPTURED: counters["exceptions_seen"],
            metrics.LOG_RECORDS: counters["log_records"],
            metrics.TASKS: counters["tasks_watched"],
            metrics.HOOK_ERRORS: counters["hook_errors"],
            metrics.HOOKS_OFF: sum(len(facts.hooks_off) for facts in live),
            metrics.MISSING: self.own.missing,
            metrics.LAG: self.own.lag_s,
            metrics.POLLED: self.own.polled_unix_s,
            metrics.CPU: self.own.cpu_s,
        }
        for metric, value in single.items():
            values[metric.name][()] = value
        for metric_by_reason, by_reason in ((metrics.PROCESS_ENDED, self.ended), (metrics.SESSIONS_LOST, self.sessions_lost)):
            values[metric_by_reason.name].update({(reason,): count for reason, count in by_reason.items()})
        for reason in metrics.LOST_REASONS:
            values[metrics.LOST.name][(reason,)] = self.lost[reason]
        values[metrics.LOST.name][("cut",)] = counters["bodies_cut"]
        for metric, kinds in (held(live, self.outside) | grown(self.growth, self.outside)).items():
            values[metric.name].update(kinds)
        with self._exporting:
            values[metrics.EXPORTS.name].update(self._exports)
            values[metrics.OTLP_LOST.name].update(self._otlp_lost)
        self._builds = _builds(fleet) or self._builds
        values[metrics.BUILD_INFO.name] = dict.fromkeys(self._builds, 1.0)
        return values


def _builds(fleet: Fleet) -> list[Labels]:
    """The commonest combinations of versions, of processes that have livekit loaded."""
    found = Counter(
        tuple(
            version[:_VERSION_CHARS]
            for version in (
                __version__,
                str(facts.process.identity.get("python", "")),
                facts.sdk.get("livekit", ""),
                facts.sdk.get("livekit-agents", ""),
            )
        )
        for facts in fleet.live()
        if facts.sdk
    )
    return [labels for labels, _ in found.most_common(metrics.BUILDS_MAX)]
