"""Growth by the hour, of a process of which nothing but a count is known: one that is looked at from outside."""

from __future__ import annotations

from race_watch.growth.reading import Reading, Resource, Unit
from race_watch.growth.slope import Slope, robust_slope
from race_watch.growth.stretches import Stretches

# What stands for a departure: so much time. The lowest count of each is compared: what comes and goes in it is no growth.
STRETCH_S = 300.0


class OverTime:
    """The same test as by departures, by stretches of time.

    Without live rooms and participants a load that rises all day looks like a leak until it falls again: what this finds says
    that a count has not come back yet, over at least ten stretches, not why. A false alarm under noise alone comes at most once
    in `UNITS_PER_FALSE_ALARM` stretches.
    """

    def __init__(self, resource: Resource) -> None:
        self._test = Stretches(resource, Unit("stretch of time", False), 0)
        self._lowest: Reading | None = None

    def add(self, t_s: float, value: int) -> Slope | None:
        """Takes a count, in order of time; returns the growth for each hour that it has confirmed."""
        lowest, reading = self._lowest, Reading(t_s, value, 0, 0, 0, (int(t_s // STRETCH_S),))
        if lowest is not None and lowest.counts == reading.counts:
            if value < lowest.value:
                self._lowest = reading
            return None
        self._lowest = reading
        alarm = self._test.add(lowest) if lowest is not None else None
        return _by_hours(alarm.points) if alarm is not None else None

    def slope(self) -> Slope | None:
        """The growth for each hour as far as the latest stretches tell, alarm or none; None while there are too few."""
        readings = self._test.readings()
        return _by_hours(readings) if len(readings) >= 3 else None


def _by_hours(readings: list[Reading]) -> Slope | None:
    return robust_slope([(reading.t_s / 3600, reading.value, reading.load) for reading in readings])
