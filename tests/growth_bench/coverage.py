"""How often the stated interval of a slope holds the true one: at the alarm, and as a gauge meanwhile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from race_watch.growth.attribution import amount, blame
from race_watch.growth.process import ProcessGrowth
from race_watch.growth.reading import PARTICIPANT, ROOM, UNITS, Reading
from race_watch.growth.slope import Slope
from tests.growth_bench import lab
from tests.growth_bench.measure import LAB, worker_of
from tests.growth_bench.worker import Leak

ALARM, GAUGE = "alarm", "gauge"
# Departures after which the gauges are read.
_GAUGED_AT = (10, 20, 40, 80, 160, 320, 640)
_GAUGE_READINGS = 5
# Participants of a unit, on average.
_PARTICIPANTS = {PARTICIPANT.name: 1.0, ROOM.name: 1.25}


@dataclass(frozen=True)
class Interval:
    """A stated interval.

    Attributes:
        at: `ALARM` or `GAUGE`.
        bounded: On both sides.
        holds: It has what each unit left over its readings: of the leak, and of the cache that filled meanwhile.
        holds_leak: It has what the leak alone leaves.
        width: Half of it, relative to what each unit left.
    """

    kind: str
    at: str
    bounded: bool
    holds: bool
    holds_leak: bool
    width: float


def intervals(kind: str, seed: str, leak: Leak, limit: int) -> list[Interval]:
    """The intervals of a process under this kind of traffic: of the first alarm by participants or rooms, and of gauges."""
    worker = worker_of(kind, seed, leak)
    samples = lab.looped(seed, leak, limit) if kind == LAB else worker.run(limit)
    cached = worker.cached if leak.resource == "fds" else [0]
    growth, found, due = ProcessGrowth(), [], list(_GAUGED_AT)
    alarmed = leak.rate == 0
    for t_s, sample in samples:
        for grown in growth.observe(t_s, sample):
            points = grown.alarm.points
            blamed = blame(points, grown.unit) if grown.resource.name == leak.resource and not alarmed else None
            if blamed is not None and blamed.unit in _PARTICIPANTS:
                alarmed = True
                found.append(_judged(kind, ALARM, blamed.unit, leak, points, blamed.slope, cached))
        if due and sample.participants_departed >= due[0]:
            due.pop(0)
            for (resource, place), test in growth.tests.items():
                unit, slope = UNITS[place].name, test.slope(_GAUGE_READINGS)
                if resource.name == leak.resource and unit in _PARTICIPANTS and slope is not None:
                    found.append(_judged(kind, GAUGE, unit, leak, test.readings(), slope, cached))
        if alarmed and not due:
            break
    return found


def _judged(
    kind: str, at: str, unit: str, leak: Leak, readings: Sequence[Reading], slope: Slope, cached: Sequence[int]
) -> Interval:
    first, last = readings[0], readings[-1]
    filled = [cached[min(int(amount(reading, PARTICIPANT.name)), len(cached) - 1)] for reading in (first, last)]
    leaves = leak.rate * _PARTICIPANTS[unit]
    left = leaves + (filled[1] - filled[0]) / (amount(last, unit) - amount(first, unit))
    return Interval(
        kind,
        at,
        bounded=math.isfinite(slope.low) and math.isfinite(slope.high),
        holds=slope.low <= left <= slope.high,
        holds_leak=slope.low <= leaves <= slope.high,
        width=(slope.high - slope.low) / 2 / left if left else math.inf,
    )
