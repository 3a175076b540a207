"""One resource counted by one unit: readings become stretches, short and long ones, and suspicions are confirmed.

Long stretches find small leaks under noise, short ones find large leaks soon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from race_watch.growth.reading import Reading, Resource, Unit
from race_watch.growth.rises import Rises
from race_watch.growth.slope import Slope, robust_slope

# Mean number of units between two false alarms of one resource by one unit.
UNITS_PER_FALSE_ALARM = 1_000_000
RARE_UNITS_PER_FALSE_ALARM = 10_000
# Departures in a stretch, and the share of the false alarms that the scale may give.
_SCALES: tuple[tuple[int, float], ...] = ((1, 1 / 2), (4, 1 / 6), (16, 1 / 6), (64, 1 / 6))
_RARE_SCALES: tuple[tuple[int, float], ...] = ((1, 1.0),)
_RARE_DOUBT = 64.0
# A stretch in which nothing departs ends after this time; those after the first tell of noise only.
_QUIET_S = 5.0
_RARE_QUIET_S = 1.0
_QUIET_LATER_S = 30.0
_QUIET_FIRST = 16
# Growth that went on over so many more stretches, the settling time over, is no burst that settles.
_GOES_ON = 4
# Readings of long stretches that a slope is rather taken from than from short ones.
_ENOUGH = 8


@dataclass(frozen=True, slots=True)
class Alarm:
    """Growth that is confirmed: the readings from the last one before it began on, and the one at which the test was sure."""

    points: list[Reading]
    crossed: Reading


@dataclass(slots=True)
class _Suspicion:
    crossed: Reading
    since_s: float
    before: list[Reading]
    excess: float
    bets: int
    judged: int = -1


class _Scale:
    def __init__(self, length: int, share: float, doubt: float, unit: int, rate: float) -> None:
        self.length = length
        self.rises = Rises(doubt, unit)
        self.threshold = math.log(max(rate / (length * share), 2.0))
        self.lowest: Reading | None = None
        self.suspicion: _Suspicion | None = None


class Stretches:
    """Takes the readings of one resource in order."""

    def __init__(self, resource: Resource, unit: Unit, index: int) -> None:
        self._settle_s = resource.settle_s
        self._index = index
        doubt, scales, rate, self._quiet_s = resource.doubt, _SCALES, UNITS_PER_FALSE_ALARM, _QUIET_S
        if unit.rare:
            doubt, scales, rate, self._quiet_s = _RARE_DOUBT, _RARE_SCALES, RARE_UNITS_PER_FALSE_ALARM, _RARE_QUIET_S
        self._scales = [_Scale(length, share, doubt, index, rate) for length, share in scales]
        self._lowest: Reading | None = None
        self._began_s = 0.0
        self._departed = False
        self._quiet = 0
        self._taken = 0
        self._judged = 0
        self._slope: Slope | None = None

    def add(self, reading: Reading) -> Alarm | None:
        """Takes a reading; returns the growth that it has confirmed."""
        lowest = self._lowest
        departed = lowest is not None and reading.counts[self._index] != lowest.counts[self._index]
        if lowest is None or departed or reading.t_s - self._began_s >= self._longest_s():
            self._quiet += not departed
            if lowest is not None:
                self._close(lowest)
            self._lowest, self._began_s, self._departed = reading, reading.t_s, departed
        elif reading.value <= lowest.value:
            self._lowest = reading
        return self._confirm(reading)

    def readings(self) -> list[Reading]:
        """Readings of the longest stretches of which there are enough, newest last, and the latest."""
        found = self._scales[0].rises.window
        for scale in self._scales:
            if len(scale.rises.window) >= _ENOUGH:
                found = scale.rises.window
        return [*found, self._lowest] if self._lowest is not None else list(found)

    def slope(self, least: int) -> Slope | None:
        """The slope over `readings`; None while there are fewer than `least` at which something had departed."""
        if self._lowest is None or self._taken == 0:
            return None
        if self._judged != self._taken:
            self._judged = self._taken
            points = [(reading.counts[self._index], reading.value, reading.load) for reading in self.readings()]
            few = len({x for x, _, _ in points}) < least
            self._slope = None if few else robust_slope(points)
        return self._slope

    def _longest_s(self) -> float:
        """How long a stretch lasts in which nothing departs, the departure that it begins with settled."""
        if self._departed:
            return max(self._quiet_s, self._settle_s)
        return self._quiet_s if self._quiet < _QUIET_FIRST else _QUIET_LATER_S

    def _close(self, reading: Reading) -> None:
        """A shortest stretch is over; with it the longer ones that it was the last of."""
        self._taken += self._departed
        for scale in self._scales:
            if scale.length == 1:
                self._take(scale, reading, self._began_s, departed=self._departed)
                continue
            lowest, length = scale.lowest, scale.length
            if lowest is None or reading.counts[self._index] // length != lowest.counts[self._index] // length:
                if lowest is not None:
                    self._take(scale, lowest, lowest.t_s, departed=True)
                scale.lowest = reading
            elif reading.value <= lowest.value:
                scale.lowest = reading

    def _take(self, scale: _Scale, reading: Reading, since_s: float, *, departed: bool) -> None:
        scale.rises.add(reading, departed=departed, noisy=self._scales[0].rises.noisy)
        rises, pending = scale.rises, scale.suspicion
        if pending is not None and rises.log_e < scale.threshold / 2:
            scale.suspicion = None
        elif pending is None and rises.log_e >= scale.threshold and rises.onset is not None:
            before = rises.before()
            excess = rises.excess(reading, before) or float(reading.value - rises.onset.value)
            scale.suspicion = _Suspicion(reading, since_s, before, excess, rises.bets)

    def _confirm(self, reading: Reading) -> Alarm | None:
        for scale in self._scales:
            pending, rises = scale.suspicion, scale.rises
            if pending is None or reading.t_s < pending.since_s + self._settle_s or pending.judged == rises.bets:
                continue
            excess = rises.excess(reading, pending.before)
            goes_on = rises.bets >= pending.bets + _GOES_ON and rises.log_e >= scale.threshold
            if excess is None and not goes_on:
                continue
            if excess is not None and excess < pending.excess / 2:
                scale.suspicion = None
                rises.reset(reading)
                continue
            alarm = Alarm([*rises.since(), reading], pending.crossed)
            slope = robust_slope([(point.counts[self._index], point.value, point.load) for point in alarm.points])
            if slope is None or not slope.rises:
                pending.judged = rises.bets
                continue
            scale.suspicion = None
            rises.reset(reading)
            return alarm
        return None
