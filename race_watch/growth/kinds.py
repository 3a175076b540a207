"""What the growth is made of: counts by kind, as `kind=count`, against a unit."""

from __future__ import annotations

from collections.abc import Sequence

from race_watch.growth.slope import robust_slope

# A kind that grows more slowly is not named.
_LEAST = 0.01


def counted(kinds: Sequence[str]) -> dict[str, int]:
    """The counts of `kind=count`; `all`, which is no kind, left out."""
    pairs = (entry.partition("=") for entry in kinds)
    return {kind: int(count) for kind, _, count in pairs if kind != "all"}


def kind_slopes(points: Sequence[tuple[float, Sequence[str], tuple[int, ...]]]) -> dict[str, float]:
    """Kind -> growth for each unit, from (amount of the unit, kinds, load); the largest first."""
    told = [(x, counted(kinds), load) for x, kinds, load in points if kinds]
    found = {}
    for kind in dict.fromkeys(kind for _, counts, _ in told for kind in counts):
        slope = robust_slope([(x, counts.get(kind, 0), load) for x, counts, load in told])
        if slope is not None and abs(slope.value) >= _LEAST:
            found[kind] = slope.value
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))


def mix(slopes: dict[str, float]) -> str:
    """As `publication +1.0, track +0.5`."""
    return ", ".join(f"{kind} {value:+.3g}" if abs(value) < 100 else f"{kind} {value:+.0f}" for kind, value in slopes.items())
