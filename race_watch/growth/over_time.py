"""Growth by the hour, of a process of which nothing but counts is known: one that is measured from outside."""

from __future__ import annotations

from race_watch.growth.reading import Reading, Resource, Unit
from race_watch.growth.slope import Slope, robust_slope
from race_watch.growth.stretches import Alarm, Stretches

# What stands for a departure: so much time. The lowest count of each is compared: what comes and goes in it is no growth.
STRETCH_S = 300.0
# A process that fills with work grows as well, and then it does not: a leak goes on for so long, at half the rate to its end.
GOES_ON_S = 4 * 3600.0
_RATE_KEPT = 0.5


class OverTime:
    """The same test as by departures, by stretches of time; what it finds must go on.

    Without live rooms and participants a load that rises all day looks like a leak until it falls again: what this finds says
    that a count has grown for hours and has not come back yet, not why. Of the load nothing is known but the children that the
    process has: a worker holds something for each of its jobs. A false alarm under noise alone comes at most once in
    `UNITS_PER_FALSE_ALARM` stretches.
    """

    def __init__(self, resource: Resource) -> None:
        self._test = Stretches(resource, Unit("stretch of time", False), 0)
        self._lowest: Reading | None = None
        self._suspected: Alarm | None = None
        # The lowest counts since then.
        self._since: list[Reading] = []

    def add(self, t_s: float, value: int, children: int) -> Alarm | None:
        """Takes a count, in order of time; returns the growth that it has confirmed."""
        # A child is to its parent what a room is to a worker.
        lowest, reading = self._lowest, Reading(t_s, value, children, 0, 0, (int(t_s // STRETCH_S),))
        if lowest is not None and lowest.counts == reading.counts:
            if value < lowest.value:
                self._lowest = reading
            return None
        self._lowest = reading
        return self._take(lowest) if lowest is not None else None

    def readings(self) -> list[Reading]:
        """The lowest counts of the latest stretches, oldest first."""
        return self._test.readings()

    def _take(self, lowest: Reading) -> Alarm | None:
        alarm, suspected, since = self._test.add(lowest), self._suspected, self._since
        if suspected is None:
            self._suspected = alarm
            return None
        since.append(lowest)
        if lowest.t_s - suspected.points[-1].t_s < GOES_ON_S:
            return None
        self._suspected, self._since = None, []
        before, after, late = (by_the_hour(readings) for readings in (suspected.points, since, since[len(since) // 2 :]))
        if before is None or after is None or late is None or after.low <= 0:
            return None
        goes_on = min(after.value, late.value) >= before.value * _RATE_KEPT
        return Alarm([*suspected.points, *since], lowest) if goes_on else None


def by_the_hour(readings: list[Reading]) -> Slope | None:
    """What each hour adds."""
    return robust_slope([(reading.t_s / 3600, reading.value, reading.load) for reading in readings])
