"""A robust slope with a bound: Theil and Sen's median of pairwise slopes, with three reasons why it may be off.

- What is around a line by itself each time is bounded by Kendall's interval. Only pairs that are near in load are compared, so
  its variance is that of these pairs (as in blocks of equal season: Hirsch, Slack and Smith, 1982).
- What the live hold is in the slope of a pair whose loads differ. More of them never hold less: pairs with no smaller a load
  later bound the slope from above, pairs with no larger a load later from below.
- A leak of a fraction adds up by chance, and noise may: that shows in pairs that differ the more the farther they are apart.

The slope is what was left between the first point and the last: a cache that filled meanwhile is in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
_Z = 1.96
# Pairs at least; of those at one distance in load all are used.
_PAIRS_WANTED = 24
# Points that are used, evenly chosen; 48 have 1,128 pairs, about a millisecond.
_POINTS_USED = 48
# A line through a random walk has a slope that varies so much more than that from end to end (Durlauf and Phillips, 1988).
_LINE_THROUGH_WALK = 6 / 5

Point = tuple[float, float, tuple[int, ...]]
# Distance in load, slope, how far apart in x, places of the points.
_Pair = tuple[int, float, float, int, int]


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
    pairs = sorted(_pairs(used))
    if not pairs:
        return None
    nearest, n = _nearest(pairs, used), len(used)
    slopes = sorted([slope for _, slope, _, _, _ in nearest])
    value = median(slopes)
    low, high = _bounds(nearest, n)
    if nearest[-1][0]:
        low = min(value, _bounds(_nearest(pairs, used, -1), n)[0])
        high = max(value, _bounds(_nearest(pairs, used, 1), n)[1])
    whole = abs(used[-1][0] - used[0][0]) or 1.0
    walk = _Z * math.sqrt(_LINE_THROUGH_WALK * _walk(nearest, value, whole) / whole)
    under, over = _by_chance(value, whole)
    # By all pairs' variance: the alarm, which asks for it, has a certainty of its own.
    reach = len(slopes) * _Z * math.sqrt((4 * n + 10) / (9 * n * (n - 1)))
    return Slope(
        value,
        value - math.hypot(value - low, max(under, walk)),
        value + math.hypot(high - value, max(over, walk)),
        _within(slopes, reach)[0] > 0,
        n,
    )


def _pairs(points: Sequence[Point]) -> list[_Pair]:
    """Pairs that differ in x."""
    return [
        (
            sum([abs(a - b) for a, b in zip(load1, load2, strict=True)]) if load1 != load2 else 0,
            (y2 - y1) / (x2 - x1),
            x2 - x1,
            first,
            second,
        )
        for first, (x1, y1, load1) in enumerate(points)
        for second, (x2, y2, load2) in enumerate(points[first + 1 :], first + 1)
        if x2 != x1
    ]


def _nearest(pairs: Sequence[_Pair], points: Sequence[Point], sign: int = 0) -> list[_Pair]:
    """Those nearest in load; with no smaller a load later where `sign` is 1, with no larger a one where it is -1."""
    found: list[_Pair] = []
    for pair in pairs:
        distance, _, _, first, second = pair
        if len(found) >= _PAIRS_WANTED and distance > found[-1][0]:
            break
        if not sign or all(sign * (b - a) >= 0 for a, b in zip(points[first][2], points[second][2], strict=True)):
            found.append(pair)
    return found


def _bounds(pairs: Sequence[_Pair], n: int) -> tuple[float, float]:
    """Kendall's interval from pairs of n points.

    How many pairs rise varies, where all is chance, by (pairs + sum of b^2) / 3, b being how much oftener a point is the first
    of a pair than the second. For all pairs that is Kendall's n (n - 1) (2n + 5) / 18.
    """
    balance = [0] * n
    for _, _, _, first, second in pairs:
        balance[first] += 1
        balance[second] -= 1
    reach = _Z * math.sqrt((len(pairs) + sum([b * b for b in balance])) / 3)
    return _within(sorted([slope for _, slope, _, _, _ in pairs]), reach)


def _within(slopes: Sequence[float], reach: float) -> tuple[float, float]:
    below = math.floor((len(slopes) - reach) / 2)
    return (slopes[below], slopes[-1 - below]) if slopes and below >= 0 else (-math.inf, math.inf)


def _by_chance(slope: float, whole: float) -> tuple[float, float]:
    """How far below and above the slope the true one may be since things are left whole, over a distance of `whole` in x.

    One more or one fewer is left by chance: Wilson's interval (1927) of the share of those that leave one more.
    """
    part, z2 = slope % 1, _LINE_THROUGH_WALK * _Z**2
    weight = z2 / (whole + z2)
    half, lean = weight * math.sqrt(part * (1 - part) * whole / z2 + 1 / 4), weight * (1 / 2 - part)
    under, over = half - lean, half + lean
    # From 1 on as many may leave one fewer.
    return (under, over) if 0 <= slope < 1 else (max(under, over), max(under, over))


def _walk(pairs: Sequence[_Pair], slope: float, whole: float) -> float:
    """Variance that noise gains with each unit of x where it adds up: how squared differences grow with the distance.

    A walk that a line was laid through is a bridge: its variance over d goes with d (1 - d / whole).
    """
    bridges = [abs(x) * (1 - abs(x) / whole) for _, _, x, _, _ in pairs]
    mean = sum(bridges) / len(bridges)
    grows = sum([(bridge - mean) * ((one - slope) * x) ** 2 for bridge, (_, one, x, _, _) in zip(bridges, pairs, strict=True)])
    spread = sum([(bridge - mean) ** 2 for bridge in bridges])
    return max(0.0, grows / spread) if spread else 0.0


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
