"""What a process that is measured from outside holds grows: a Node worker, say. Nobody counts participants there.

So it is told by the hour, and cannot be told from a load that rises for as long: the evidence says so, and nobody is blamed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from race_watch.detectors.growth import Estimate
from race_watch.events import ProcessMeasured
from race_watch.findings import Finding
from race_watch.growth.account import account, hours_to_limit
from race_watch.growth.attribution import HOUR, Blame
from race_watch.growth.kinds import counted
from race_watch.growth.over_time import STRETCH_S, OverTime, by_the_hour
from race_watch.growth.process import Grown
from race_watch.growth.reading import DESCRIPTORS, THREADS, Reading, Resource
from race_watch.growth.slope import Slope
from race_watch.growth.stretches import UNITS_PER_FALSE_ALARM, Alarm
from race_watch.records import OUTSIDE, JournalEnded, Process, Record

NAME = "growth_outside"
SUMMARY = "What a process that is measured from outside holds grows by the hour"
CATEGORIES = {resource.category: ("unknown",) for resource in (DESCRIPTORS, THREADS)}

_KEPT = 64
_PROGRAMS_KEPT = 256
# One for each stretch of time: ten hours and more.
_CLASSIFICATIONS_KEPT = 128
# It may be the load that has grown.
_CONFIDENCE = 0.7
_UNKNOWN_LOAD = (
    "not known: nobody counts participants in this process, so its growth is told against time; "
    "a load that rises all the while looks the same"
)
_RATE = f"at most 1 in {UNITS_PER_FALSE_ALARM:,} stretches of {STRETCH_S:.0f} s, by noise alone"
_ADVICE = {
    DESCRIPTORS: "If its load has not grown as well, something stays open: await room.disconnect() for every room; "
    "the kinds that grow say what is left open.",
    THREADS: "If its load has not grown as well, threads are left behind: await room.disconnect() for every room and close "
    "every source.",
}

_Key = tuple[str, int, int]


@dataclass(slots=True)
class Measured:
    """A process as last measured.

    Attributes:
        kinds: Of its descriptors, as `kind=count`, when they were last looked at.
        slopes: What each hour adds of the resources whose growth is confirmed, as far as the latest readings tell.
        hours_to_limit: Until its descriptors run out at that rate; infinite where their growth is not confirmed.
        stretch: The stretch of time in which these two were reckoned.
    """

    process: Process
    latest: ProcessMeasured
    kinds: tuple[str, ...] = ()
    slopes: dict[Resource, Slope] = field(default_factory=dict)
    hours_to_limit: float = float("inf")
    stretch: int = -1
    tests: dict[Resource, OverTime] = field(default_factory=lambda: {r: OverTime(r) for r in (DESCRIPTORS, THREADS)})
    # Readings with the descriptors' kinds, the lowest of each stretch of time.
    classified: deque[Reading] = field(default_factory=lambda: deque(maxlen=_CLASSIFICATIONS_KEPT))


class GrowthOutside:
    """Follows each process by its pid and its start: what replaces it begins anew.

    Attributes:
        seen: How many processes were measured so far.
    """

    def __init__(self) -> None:
        self.seen = 0
        self._measured: dict[_Key, Measured] = {}
        self._programs: Counter[str] = Counter()
        self._found: list[Finding] = []

    def observe(self, record: Record) -> None:
        event = record.event
        if isinstance(event, JournalEnded):
            for key in [key for key in self._measured if key[0] == record.process.nonce]:
                del self._measured[key]
        elif isinstance(event, ProcessMeasured):
            key = (record.process.nonce, event.pid, event.born_s)
            if not event.threads:
                self._measured.pop(key, None)
            else:
                self._learn(key, record, event)

    def confirm(self, now_s: float) -> list[Finding]:
        found, self._found = self._found, []
        return found

    def live(self, attached: Collection[int] = ()) -> list[Measured]:
        """The processes that are measured now, without these pids: one may have attached since it was measured."""
        return [measured for measured in self._measured.values() if measured.process.pid not in attached]

    def estimates(self) -> Iterator[Estimate]:
        """What each hour adds where growth is confirmed; where it is not, any morning looks like it."""
        for measured in self._measured.values():
            for resource, slope in measured.slopes.items():
                yield Estimate(measured.process, resource.name, HOUR, slope)

    def _learn(self, key: _Key, record: Record, event: ProcessMeasured) -> None:
        measured = self._measured.get(key)
        if measured is None or measured.latest.program != event.program:
            # Another program in the same process is another one.
            measured = self._begin(key, record, event)
        measured.latest, measured.kinds = event, event.kinds or measured.kinds
        _classify(measured, record.t_s)
        for resource, value in ((DESCRIPTORS, event.open_fds), (THREADS, event.threads)):
            if value < 0:
                continue
            alarm = measured.tests[resource].add(record.t_s, value, event.children)
            if alarm is not None and resource not in measured.slopes:
                self._judge(measured, key, resource, alarm)
        if measured.stretch != (stretch := int(record.t_s // STRETCH_S)):
            measured.stretch = stretch
            _estimate(measured)

    def _begin(self, key: _Key, record: Record, event: ProcessMeasured) -> Measured:
        self._measured.pop(key, None)
        if len(self._measured) >= _KEPT:
            del self._measured[next(iter(self._measured))]
        if len(self._programs) >= _PROGRAMS_KEPT:
            self._programs.clear()
        self.seen += 1
        self._programs[event.program] += 1
        # Under the nonce of the journal that tells of it, so that the next watcher knows what was told.
        identity = {"role": OUTSIDE, "attempt": self._programs[event.program]}
        process = replace(record.process, pid=event.pid, ppid=0, start_ticks=0, identity=identity)
        self._measured[key] = made = Measured(process, event)
        return made

    def _judge(self, measured: Measured, key: _Key, resource: Resource, alarm: Alarm) -> None:
        slope = by_the_hour(alarm.points)
        if slope is None:
            return
        measured.slopes[resource] = slope
        latest = measured.latest
        grown, blamed = Grown(resource, 0, alarm), Blame(HOUR, slope, ())
        evidence = account(grown, blamed, measured.classified, {}, latest.open_fds, latest.fd_limit)
        self._found.append(
            Finding(
                key=f"growth:{':'.join(map(str, key))}",
                category=resource.category,
                verdict="unknown",
                component=f"{resource.name} per {HOUR}",
                process=measured.process,
                t_s=alarm.crossed.t_s,
                confidence=_CONFIDENCE,
                channels=("outside",),
                evidence={
                    "process": f"{latest.program} (pid {latest.pid})",
                    **evidence,
                    "load": _UNKNOWN_LOAD,
                    "false_alarm_rate": _RATE,
                },
                title=f"{resource.name} of {latest.program} grow with every {HOUR}",
                advice=_ADVICE[resource],
            )
        )


def _estimate(measured: Measured) -> None:
    """Brings what is told of confirmed growth up to date."""
    for resource, known in measured.slopes.items():
        readings = measured.tests[resource].readings()
        measured.slopes[resource] = by_the_hour(readings) or known
        if resource is DESCRIPTORS:
            measured.hours_to_limit = hours_to_limit(readings, measured.latest.open_fds, measured.latest.fd_limit)


def _classify(measured: Measured, t_s: float) -> None:
    """Keeps the kinds if they are of this moment."""
    fds = measured.latest.open_fds
    if sum(counted(measured.kinds).values()) != fds:
        return
    reading = Reading(t_s, fds, measured.latest.children, 0, 0, (int(t_s // STRETCH_S),), measured.kinds)
    kept = measured.classified
    if not kept or kept[-1].counts != reading.counts:
        kept.append(reading)
    elif fds < kept[-1].value:
        kept[-1] = reading
