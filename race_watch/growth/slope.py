"""A robust slope with a bound that assumes no distribution: Theil and Sen's median of pairwise slopes, Kendall's interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
_Z = 1.96
# Pairs at least; at one distance all are used.
_PAIRS_WANTED = 24
# Points that are used, evenly chosen; 48 have 1,128 pairs, half a millisecond.
_POINTS_USED = 48


@dataclass(frozen=True, slots=True)
class Slope:
    """`low` and `high` bound it with `CONFIDENCE` where the points are independent; infinite where they are too few to."""

    value: float
    low: float
    high: float
    n: int


def robust_slope(points: Sequence[tuple[float, float, tuple[int, ...]]]) -> Slope | None:
    """The slope of (x, y, load), from the pairs that are nearest in load.

    Up to 29 % of the points may be anything without moving it far (Theil 1950, Sen 1968).

    Returns:
        None where no two points differ in x.
    """
    used = thinned(points, _POINTS_USED)
    found = [
        (sum(abs(a - b) for a, b in zip(load1, load2, strict=True)), (y2 - y1) / (x2 - x1))
        for index, (x1, y1, load1) in enumerate(used)
        for x2, y2, load2 in used[index + 1 :]
        if x2 != x1
    ]
    if not found:
        return None
    found.sort()
    limit = found[min(_PAIRS_WANTED, len(found)) - 1][0]
    slopes = sorted(slope for distance, slope in found if distance <= limit)
    n = len(used)
    # Kendall's interval, as a share of all pairs.
    reach = len(slopes) * _Z * math.sqrt((4 * n + 10) / (9 * n * (n - 1)))
    below, above = (len(slopes) - reach) / 2, (len(slopes) + reach) / 2
    low = slopes[math.floor(below)] if below >= 0 else -math.inf
    high = slopes[math.ceil(above) - 1] if math.ceil(above) <= len(slopes) else math.inf
    return Slope(median(slopes), low, high, n)


def median(ordered: Sequence[float]) -> float:
    """The median of what is sorted, and not empty."""
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def thinned(points: Iterable[tuple[float, float, tuple[int, ...]]], at_most: int) -> list[tuple[float, float, tuple[int, ...]]]:
    """Evenly chosen points, the first and the last among them."""
    whole = list(points)
    if len(whole) <= at_most:
        return whole
    step = (len(whole) - 1) / (at_most - 1)
    return [whole[round(index * step)] for index in range(at_most)]
