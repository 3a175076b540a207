"""The account of a growth that is confirmed: slope, unit, number, kinds and how sure it is, as short texts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from race_watch.growth.attribution import HOUR, Blame, amount
from race_watch.growth.kinds import kind_slopes, mix
from race_watch.growth.process import Grown
from race_watch.growth.reading import DESCRIPTORS, HANDLES, UNITS, Reading
from race_watch.growth.slope import CONFIDENCE, Slope, robust_slope
from race_watch.growth.stretches import RARE_UNITS_PER_FALSE_ALARM, UNITS_PER_FALSE_ALARM


def account(
    grown: Grown, blamed: Blame, classified: Sequence[Reading], held: Mapping[str, str], open_fds: int, fd_limit: int
) -> dict[str, str]:
    """The evidence of a finding.

    Args:
        classified: Readings whose kinds are those of the descriptors, oldest first.
        held: Kind of handle -> what refers to the oldest one.
    """
    points, resource, unit = grown.alarm.points, grown.resource, blamed.unit
    n = amount(grown.alarm.crossed, unit) - amount(points[0], unit)
    slope = f"{blamed.slope.value:.2f} per {unit} {_bound(blamed.slope, unit)}"
    number = f"{n:.1f}" if unit == HOUR else f"{n:.0f}"
    kinds = mix(kind_slopes([(amount(r, unit), r.kinds, r.load) for r in _with_kinds(grown, classified)]))
    told = {
        "resource": resource.name,
        "unit": unit,
        "slope": slope,
        "n": number,
        resource.name: f"{slope}, n {number}" + (f": {kinds}" if kinds else ""),
        "false_alarm_rate": _false_alarm_rate(grown.unit),
    }
    if kinds:
        told["kinds"] = kinds
    if blamed.others:
        told["unit_unsure"] = f"the readings fit as well: per {', per '.join(blamed.others)}"
    if may_be_garbage(grown):
        told["garbage"] = "no full garbage collection since it began: what is only in reference cycles may go with the next"
    holders = [f"{kind}: {chain}" for kind, chain in held.items() if resource is HANDLES and f"{kind} +" in kinds]
    if holders:
        told["held_by"] = "; ".join(holders)
    hours = hours_to_limit(points, open_fds, fd_limit) if resource is DESCRIPTORS else math.inf
    if math.isfinite(hours):
        told["hours_to_limit"] = f"{hours:.1f}"
    return told


def may_be_garbage(grown: Grown) -> bool:
    """Whether what grew are handles that no full garbage collection has looked at since, as far as is known."""
    first, last = grown.alarm.points[0].collections, grown.alarm.points[-1].collections
    return grown.resource is HANDLES and (first < 0 or first == last)


def hours_to_limit(readings: Iterable[Reading], open_fds: int, fd_limit: int) -> float:
    """Hours until the descriptors run out at the rate of these readings; infinite where that is not known to be positive."""
    slope = robust_slope([(reading.t_s / 3600, reading.value, reading.load) for reading in readings])
    if fd_limit <= 0 or slope is None or not slope.rises:
        return math.inf
    return max(0, fd_limit - open_fds) / slope.value


def _with_kinds(grown: Grown, classified: Sequence[Reading]) -> Sequence[Reading]:
    """Descriptors are classified now and then: those readings from the last one before the growth on."""
    points = grown.alarm.points
    if grown.resource is not DESCRIPTORS:
        return points
    before = [index for index, reading in enumerate(classified) if reading.t_s <= points[0].t_s]
    return list(classified)[before[-1] if before else 0 :]


def _bound(slope: Slope, unit: str) -> str:
    # How often it holds by the hour is not measured.
    sure = "" if unit == HOUR else f", {CONFIDENCE:.0%}"
    if math.isfinite(slope.low) and math.isfinite(slope.high):
        return f"({slope.low:.2f} to {slope.high:.2f}{sure})"
    known = [f"at {word} {end:.2f}" for word, end in (("least", slope.low), ("most", slope.high)) if math.isfinite(end)]
    return f"({known[0]}{sure})" if known else "(too few readings for a bound)"


def _false_alarm_rate(place: int) -> str:
    unit = UNITS[place]
    rate = RARE_UNITS_PER_FALSE_ALARM if unit.rare else UNITS_PER_FALSE_ALARM
    return f"at most 1 in {rate:,} {unit.name}s"
