"""What the live processes hold, and how it grows, as the values of gauges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

from race_watch import metrics
from race_watch.detectors.growth import Growth
from race_watch.detectors.growth_outside import GrowthOutside
from race_watch.fleet import ProcessFacts
from race_watch.growth.kinds import counted

Values = dict[tuple[str, ...], float]
_NO_GROWTH_H = float("inf")


def held(live: Sequence[ProcessFacts], outside: GrowthOutside | None) -> dict[metrics.Metric, Values]:
    """Sums over the processes that have stated counts, and those that are measured from outside."""
    facts = [one for one in live if one.resources is not None]
    samples = [one.resources for one in facts if one.resources is not None]
    measured = outside.live({one.process.pid for one in live}) if outside is not None else []
    latest = [one.latest for one in measured]
    limits = [limit for limit in (*(s.fd_limit for s in samples), *(one.fd_limit for one in latest)) if limit > 0]
    descriptors = [_split(s.open_fds, one.descriptors) for one, s in zip(facts, samples, strict=True)]
    descriptors += [_split(one.latest.open_fds, counted(one.kinds)) for one in measured]
    threads = [_split(one.threads.get("all", 0), one.threads) for one in facts]
    return {
        metrics.MEASURED: {(): len(measured)},
        metrics.OPEN_FDS: _sum(descriptors),
        metrics.FD_LIMIT: {(): min(limits, default=0)},
        metrics.FFI_HANDLES: _sum(counted(sample.handles) for sample in samples),
        metrics.SUBSCRIPTIONS: {(): sum(max(sample.subscriptions, 0) for sample in samples)},
        metrics.THREADS: _sum([*threads, *(_split(one.threads, {}) for one in latest)]),
        metrics.MEASURED_MEMORY: {(): sum(max(one.rss_bytes, 0) for one in latest)},
    }


def grown(growth: Growth | None, outside: GrowthOutside | None) -> dict[metrics.Metric, Values]:
    """Of each resource and unit the process in which it surely grows most."""
    slopes: Values = {}
    lows: Values = {}
    for estimate in chain.from_iterable(detector.estimates() for detector in (growth, outside) if detector is not None):
        labels, low = (estimate.resource, estimate.unit), max(0.0, estimate.slope.low)
        if (low, estimate.slope.value) > (lows.get(labels, 0.0), slopes.get(labels, float("-inf"))):
            slopes[labels], lows[labels] = estimate.slope.value, low
    hours = list(growth.hours_to_limit().values()) if growth is not None else []
    hours += [one.hours_to_limit for one in outside.live()] if outside is not None else []
    time_left_s = min(hours, default=_NO_GROWTH_H) * 3600.0
    return {metrics.GROWTH: slopes, metrics.GROWTH_LOW: lows, metrics.TIME_TO_FD_LIMIT: {(): time_left_s}}


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
