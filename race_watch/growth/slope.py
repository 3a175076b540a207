"""A robust slope with a bound: Theil and Sen's median of pairwise slopes, with two reasons why it may be off.

What is around a line by itself each time is bounded by Kendall's interval. What adds up shows in pairs that differ the more the
farther they are apart; a leak of a fraction adds up by chance. The bound holds both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
_Z = 1.96
# Pairs at least; of those at one distance in load all are used.
_PAIRS_WANTED = 24
# Points that are used, evenly chosen; 48 have 1,128 pairs, half a millisecond.
_POINTS_USED = 48

Point = tuple[float, float, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Slope:
    """`low` and `high` bound it with `CONFIDENCE`; infinite where the points are too few. `rises`: Kendall's test says so."""

    value: float
    low: float
    high: float
    rises: bool
    n: int


def robust_slope(points: Sequence[Point]) -> Slope | None:
    """The slope of (x, y, load) in the order of x, from the pairs that are nearest in load.

    Up to 29 % of the points may be anything without moving it far (Theil 1950, Sen 1968).

    Returns:
        None where no two points differ in x.
    """
    used = _thinned(points)
    pairs = _nearest(used)
    if not pairs:
        return None
    slopes = sorted([(y2 - y1) / (x2 - x1) for x1, y1, x2, y2 in pairs])
    value, n = median(slopes), len(used)
    # Kendall's interval, as a share of all pairs.
    reach = len(slopes) * _Z * math.sqrt((4 * n + 10) / (9 * n * (n - 1)))
    below, above = (len(slopes) - reach) / 2, (len(slopes) + reach) / 2
    low = slopes[math.floor(below)] if below >= 0 else -math.inf
    high = slopes[math.ceil(above) - 1] if math.ceil(above) <= len(slopes) else math.inf
    off = _Z * _error_that_adds_up(pairs, value, abs(used[-1][0] - used[0][0]) or 1.0)
    return Slope(value, value - math.hypot(value - low, off), value + math.hypot(high - value, off), low > 0, n)


def _nearest(points: Sequence[Point]) -> list[tuple[float, float, float, float]]:
    """Pairs that differ in x, as (x1, y1, x2, y2): those nearest in load."""
    found = [
        (sum([abs(a - b) for a, b in zip(load1, load2, strict=True)]) if load1 != load2 else 0, x1, y1, x2, y2)
        for index, (x1, y1, load1) in enumerate(points)
        for x2, y2, load2 in points[index + 1 :]
        if x2 != x1
    ]
    if not found:
        return []
    found.sort()
    limit = found[min(_PAIRS_WANTED, len(found)) - 1][0]
    return [pair for distance, *pair in found if distance <= limit]  # type: ignore[misc]


def _error_that_adds_up(pairs: Sequence[tuple[float, float, float, float]], slope: float, whole: float) -> float:
    """Standard error of the slope from what adds up, over a distance of `whole` in x.

    Things are left whole: where the slope has a fraction, they are left by chance. And squared differences may grow with the
    distance: a walk that a line was laid through is a bridge, whose variance over d goes with d (1 - d / whole).
    """
    by_chance = slope % 1 * (1 - slope % 1)
    squares = sorted(
        [(abs(x2 - x1) * (1 - abs(x2 - x1) / whole), (y2 - y1 - slope * (x2 - x1)) ** 2) for x1, y1, x2, y2 in pairs]
    )
    half = len(squares) // 2
    near, far = squares[:half], squares[half:]
    apart = _mean([d for d, _ in far]) - _mean([d for d, _ in near])
    more = _mean([square for _, square in far]) - _mean([square for _, square in near])
    walk = more / apart if near and more > 0 and apart > 0 else 0.0
    return math.sqrt(max(by_chance, walk) / whole)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def median(ordered: Sequence[float]) -> float:
    """The median of what is sorted, and not empty."""
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """Evenly chosen points, the first and the last among them."""
    if len(points) <= _POINTS_USED:
        return points
    step = (len(points) - 1) / (_POINTS_USED - 1)
    return [points[round(index * step)] for index in range(_POINTS_USED)]
