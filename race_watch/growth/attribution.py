"""What the growth is counted by: participants, rooms, mishaps or merely hours, by which of them explains the readings best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from race_watch.growth.reading import UNITS, Reading
from race_watch.growth.slope import Slope, median, robust_slope

HOUR = "hour"
# What a unit leaves unexplained, relative to the best one: it explains as well, or it may be what the growth is counted by.
_AS_WELL = 1.05
_MAYBE = 1.25
# Counts of whole things differ by so much from any line.
_ROUNDING = 0.05
# Time explains any growth under steady traffic: it must do so much better to be blamed.
_HOUR_BETTER = 0.3
_HOUR_POINTS = 5
_LEAST_VALUES = 4


@dataclass(frozen=True, slots=True)
class Blame:
    """The unit, the slope by it, and the other units that may be meant."""

    unit: str
    slope: Slope
    others: tuple[str, ...]


def blame(points: Sequence[Reading], alarmed: int) -> Blame | None:
    """Judges the readings from the last one before the growth on; `alarmed` is the place of the test that found it."""
    tried: list[tuple[float, str, Slope]] = []
    for place, unit in enumerate(UNITS):
        counts = [reading.counts[place] for reading in points]
        if place == alarmed or len(set(counts)) >= _LEAST_VALUES:
            tried += _tried(unit.name, counts, points)
    if not tried:
        return None
    best = min(loss for loss, _, _ in tried)
    hours = _tried(HOUR, [reading.t_s / 3600 for reading in points], points)
    if hours and len(points) >= _HOUR_POINTS and hours[0][0] < best * _HOUR_BETTER:
        return Blame(HOUR, hours[0][2], ())
    named, slope = next((name, slope) for loss, name, slope in tried if loss <= best * _AS_WELL + _ROUNDING)
    others = tuple(other for loss, other, _ in tried if other != named and loss <= best * _MAYBE + _ROUNDING)
    return Blame(named, slope, others)


def _tried(unit: str, xs: Sequence[float], points: Sequence[Reading]) -> list[tuple[float, str, Slope]]:
    """What a unit leaves unexplained, a reading; nothing where the readings do not grow with it."""
    slope = robust_slope([(x, reading.value, reading.load) for x, reading in zip(xs, points, strict=True)])
    if slope is None or slope.value <= 0:
        return []
    rests: dict[tuple[int, ...], list[float]] = {}
    for x, reading in zip(xs, points, strict=True):
        rests.setdefault(reading.load, []).append(reading.value - slope.value * x)
    loss = sum(abs(rest - median(sorted(group))) for group in rests.values() for rest in group)
    return [(loss / len(points), unit, slope)]


def amount(reading: Reading, unit: str) -> float:
    """How much of a unit there had been at a reading."""
    if unit == HOUR:
        return reading.t_s / 3600
    return next(count for known, count in zip(UNITS, reading.counts, strict=True) if known.name == unit)
