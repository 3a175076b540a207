"""What the live processes hold, and how it grows, as the values of gauges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from race_watch import metrics
from race_watch.detectors.growth import Growth
from race_watch.fleet import ProcessFacts
from race_watch.growth.kinds import counted

Values = dict[tuple[str, ...], float]
_NO_GROWTH_H = float("inf")


def held(live: Sequence[ProcessFacts]) -> dict[metrics.Metric, Values]:
    """Sums over the processes that have stated counts."""
    facts = [one for one in live if one.resources is not None]
    samples = [one.resources for one in facts if one.resources is not None]
    limits = [sample.fd_limit for sample in samples if sample.fd_limit > 0]
    return {
        metrics.OPEN_FDS: _sum(_split(s.open_fds, one.descriptors) for one, s in zip(facts, samples, strict=True)),
        metrics.FD_LIMIT: {(): min(limits, default=0)},
        metrics.FFI_HANDLES: _sum(counted(sample.handles) for sample in samples),
        metrics.SUBSCRIPTIONS: {(): sum(max(sample.subscriptions, 0) for sample in samples)},
        metrics.THREADS: _sum(_split(one.threads.get("all", 0), one.threads) for one in facts),
    }


def grown(growth: Growth | None) -> dict[metrics.Metric, Values]:
    """Of each resource and unit the process in which it surely grows most."""
    slopes: Values = {}
    lows: Values = {}
    for estimate in growth.estimates() if growth is not None else ():
        labels, low = (estimate.resource, estimate.unit), max(0.0, estimate.slope.low)
        if (low, estimate.slope.value) > (lows.get(labels, 0.0), slopes.get(labels, float("-inf"))):
            slopes[labels], lows[labels] = estimate.slope.value, low
    hours = min(growth.hours_to_limit().values(), default=_NO_GROWTH_H) if growth is not None else _NO_GROWTH_H
    return {metrics.GROWTH: slopes, metrics.GROWTH_LOW: lows, metrics.TIME_TO_FD_LIMIT: {(): hours * 3600.0}}


def _split(total: int, kinds: dict[str, int]) -> dict[str, int]:
    """A total by kind. The kinds are of the last look: what has come since is unknown, and all of it where some have gone."""
    known = {kind: count for kind, count in kinds.items() if kind != "all"}
    rest = max(total, 0) - sum(known.values())
    return {**known, metrics.UNKNOWN: rest} if rest >= 0 else {metrics.UNKNOWN: max(total, 0)}


def _sum(counts: Iterable[dict[str, int]]) -> Values:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return {(kind,): count for kind, count in total.items()}
