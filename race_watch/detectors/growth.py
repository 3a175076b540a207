"""What a process holds grows with what has departed: handles, descriptors, threads, subscriptions, tasks."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from race_watch.events import DescriptorsClassified, HandleHeld, ResourcesSampled, RoomConnected
from race_watch.findings import Finding
from race_watch.growth.attribution import HOUR, Blame, amount, blame
from race_watch.growth.kinds import kind_slopes, mix
from race_watch.growth.process import Grown, ProcessGrowth
from race_watch.growth.reading import DESCRIPTORS, HANDLES, PARTICIPANT, RESOURCES, ROOM, UNITS, Reading, Resource
from race_watch.growth.slope import CONFIDENCE, Slope, robust_slope
from race_watch.growth.stretches import RARE_UNITS_PER_FALSE_ALARM, UNITS_PER_FALSE_ALARM
from race_watch.records import JournalEnded, Process, Record

NAME = "growth"
SUMMARY = "What a process holds grows with the participants, rooms or failed connects that are over"
CATEGORIES = {resource.category: ("unknown",) for resource in RESOURCES}

# Processes that are followed; beyond it the one that has been followed longest is forgotten.
_KEPT = 512
_CLASSIFICATIONS_KEPT = 32
_GAUGED = (PARTICIPANT, ROOM)
_GAUGE_READINGS = 5
_SURE_AFTER = 1.0
_UNIT_UNSURE = 0.8
_MAYBE_GARBAGE = 0.8


@dataclass(frozen=True, slots=True)
class Estimate:
    """A growth gauge: what each unit leaves of a resource, as far as the latest readings tell."""

    process: Process
    resource: str
    unit: str
    slope: Slope


@dataclass(slots=True)
class _Followed:
    process: Process
    growth: ProcessGrowth = field(default_factory=ProcessGrowth)
    rooms: set[int] = field(default_factory=set)
    latest: ResourcesSampled | None = None
    # When, how much of each unit there had been, and the descriptors' kinds.
    classified: deque[Reading] = field(default_factory=lambda: deque(maxlen=_CLASSIFICATIONS_KEPT))
    held: dict[str, str] = field(default_factory=dict)
    reported: set[tuple[str, str]] = field(default_factory=set)


class Growth:
    """Follows each process by itself, so that nothing is taken over when one replaces another."""

    def __init__(self) -> None:
        self._followed: dict[str, _Followed] = {}
        self._found: list[Finding] = []

    def observe(self, record: Record) -> None:
        event, nonce = record.event, record.process.nonce
        if isinstance(event, ResourcesSampled):
            followed = self._follow(record.process)
            followed.latest = event
            for grown in followed.growth.observe(record.t_s, event):
                self._found += _judge(followed, grown)
        elif isinstance(event, RoomConnected):
            rooms = self._follow(record.process).rooms
            if len(rooms) < 2:
                rooms.add(event.room)
        elif isinstance(event, DescriptorsClassified) and event.complete:
            followed = self._follow(record.process)
            last = followed.growth.last
            if last is not None:
                followed.classified.append(last._replace(t_s=record.t_s, kinds=event.kinds))
        elif isinstance(event, HandleHeld):
            self._follow(record.process).held[event.kind] = " <- ".join(event.chain)
        elif isinstance(event, JournalEnded):
            self._followed.pop(nonce, None)

    def confirm(self, now_s: float) -> list[Finding]:
        """Hands out what has been confirmed; that took records, not time."""
        found, self._found = self._found, []
        return found

    def estimates(self) -> Iterator[Estimate]:
        """For each process, resource and unit (participant, room) of which there have been a few: the slope, alarm or none."""
        for followed in self._followed.values():
            for (resource, place), test in followed.growth.tests.items():
                if UNITS[place] in _GAUGED and (slope := test.slope(_GAUGE_READINGS)) is not None:
                    yield Estimate(followed.process, resource.name, UNITS[place].name, slope)

    def hours_to_limit(self) -> dict[str, float]:
        """Process nonce -> hours until its descriptors run out at the rate of the latest readings; infinite where they do not grow."""
        found = {}
        for nonce, followed in self._followed.items():
            readings = followed.growth.tests[DESCRIPTORS, UNITS.index(PARTICIPANT)].readings()
            found[nonce] = _hours_to_limit(followed.latest, readings)
        return found

    def _follow(self, process: Process) -> _Followed:
        followed = self._followed.get(process.nonce)
        if followed is None:
            if len(self._followed) >= _KEPT:
                del self._followed[next(iter(self._followed))]
            followed = self._followed[process.nonce] = _Followed(process)
        return followed


def _judge(followed: _Followed, grown: Grown) -> list[Finding]:
    """The finding, unless this resource's growth by this unit has been reported."""
    points, resource = grown.alarm.points, grown.resource
    blamed = blame(points, grown.unit)
    if blamed is None or (resource.name, blamed.unit) in followed.reported:
        return []
    followed.reported.add((resource.name, blamed.unit))
    collections = (points[0].collections, points[-1].collections)
    garbage = resource is HANDLES and (collections[0] < 0 or collections[0] == collections[1])
    confidence = _SURE_AFTER * (_UNIT_UNSURE if blamed.others else 1.0) * (_MAYBE_GARBAGE if garbage else 1.0)
    return [
        Finding(
            key=f"growth:{followed.process.nonce}:{resource.name}:{blamed.unit}",
            category=resource.category,
            verdict="unknown",
            component=f"{resource.name} per {blamed.unit}",
            process=followed.process,
            t_s=grown.alarm.crossed.t_s,
            confidence=confidence,
            room=next(iter(followed.rooms)) if len(followed.rooms) == 1 else 0,
            channels=("resources",),
            evidence=_evidence(followed, grown, blamed, garbage=garbage),
            title=f"{resource.name} grow with every {blamed.unit}",
        )
    ]


def _evidence(followed: _Followed, grown: Grown, blamed: Blame, *, garbage: bool) -> dict[str, str]:
    points, resource, unit = grown.alarm.points, grown.resource, blamed.unit
    n = amount(grown.alarm.crossed, unit) - amount(points[0], unit)
    told = {
        "resource": resource.name,
        "unit": unit,
        "slope": f"{blamed.slope.value:.2f} per {unit} {_bound(blamed.slope)}",
        "n": f"{n:.1f} hours" if unit == HOUR else f"{n:.0f}",
        "readings": str(len(points)),
        "false_alarm_rate": _false_alarm_rate(grown.unit),
    }
    if blamed.others:
        told["unit_unsure"] = f"the readings fit as well: per {', per '.join(blamed.others)}"
    kinds = _kinds(followed, resource, points, unit)
    if kinds:
        told["kinds"] = kinds
    if garbage:
        told["garbage"] = "no full garbage collection since it began: what is only in reference cycles may go with the next"
    held = {kind: chain for kind, chain in followed.held.items() if resource is HANDLES and f"{kind} +" in kinds}
    if held:
        told["held_by"] = "; ".join(f"{kind}: {chain}" for kind, chain in held.items())
    hours = _hours_to_limit(followed.latest, points) if resource is DESCRIPTORS else math.inf
    if math.isfinite(hours):
        told["hours_to_limit"] = f"{hours:.1f}"
    return told


def _bound(slope: Slope) -> str:
    if math.isfinite(slope.low) and math.isfinite(slope.high):
        return f"({slope.low:.2f} to {slope.high:.2f}, {CONFIDENCE:.0%})"
    return "(too few readings for a bound)"


def _false_alarm_rate(place: int) -> str:
    unit = UNITS[place]
    rate = RARE_UNITS_PER_FALSE_ALARM if unit.rare else UNITS_PER_FALSE_ALARM
    return f"at most 1 in {rate:,} {unit.name}s"


def _kinds(followed: _Followed, resource: Resource, points: list[Reading], unit: str) -> str:
    if resource is not DESCRIPTORS:
        return mix(kind_slopes([(amount(point, unit), point.kinds, point.load) for point in points]))
    # They are classified now and then: from the last time before it began.
    began_s = points[0].t_s
    earlier = [reading for reading in followed.classified if reading.t_s <= began_s]
    told = [*(earlier[-1:] or list(followed.classified)[:1]), *(r for r in followed.classified if r.t_s > began_s)]
    return mix(kind_slopes([(amount(reading, unit), reading.kinds, reading.load) for reading in told]))


def _hours_to_limit(latest: ResourcesSampled | None, readings: list[Reading]) -> float:
    slope = robust_slope([(reading.t_s / 3600, reading.value, reading.load) for reading in readings])
    if latest is None or latest.fd_limit <= 0 or slope is None or slope.low <= 0:
        return math.inf
    return max(0, latest.fd_limit - latest.open_fds) / slope.value
