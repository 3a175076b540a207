"""`python -m tests.growth_bench`: how often the growth test alarms falsely, how soon at leaks, and whether its bounds hold."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import starmap

from race_watch.growth.stretches import UNITS_PER_FALSE_ALARM
from tests.growth_bench.bound import at_most, least_departures
from tests.growth_bench.coverage import ALARM, GAUGE, Interval, intervals
from tests.growth_bench.measure import KINDS, Alarms, Delay, clean, leaking
from tests.growth_bench.worker import STEP_FDS, STEP_HANDLES, Leak

_A_PROCESS = 2000
_RATES = (1.0, 1 / 4, 1 / 20)
_SHOWN = {1.0: "1", 1 / 4: "1/4", 1 / 20: "1/20"}
_STEPS = {"handles": STEP_HANDLES, "fds": STEP_FDS}


def main(words: list[str] | None = None) -> int:
    """Prints three tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.growth_bench", description=__doc__)
    parser.add_argument("--departures", type=int, default=112_000, help="of clean processes, all kinds of traffic together")
    parser.add_argument("--runs", type=int, default=5, help="leaking processes of each row")
    parser.add_argument("--limit", type=int, default=2500, help="departures after which a leak counts as missed")
    parser.add_argument("--seed", default="growth", help="what all chance is drawn from")
    options = parser.parse_args(words)
    processes = max(1, round(options.departures / _A_PROCESS / len(KINDS)))
    calm = [(kind, f"{options.seed} clean {kind} {n}", _A_PROCESS) for n in range(processes) for kind in KINDS]
    leaks = [Leak(resource, rate) for resource in _STEPS for rate in _RATES]
    ill = [
        (kind, f"{options.seed} {leak} {kind} {n}", leak, options.limit)
        for leak in leaks
        for kind in KINDS
        for n in range(options.runs)
    ]
    print(f"seed {options.seed!r}; {_A_PROCESS} departures a clean process; a false alarm is stated to come at most once in")
    print(f"{UNITS_PER_FALSE_ALARM:,} departures for each resource and unit (five resources; participants and rooms)\n")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        false = list(pool.map(_clean, calm))
        _show_false_alarms(false)
        _show_delays(list(pool.map(_leaking, ill)), leaks, options.limit)
        # Gauges tell of a process that leaks nothing, too.
        both = [*ill, *((kind, seed, Leak(resource), _A_PROCESS) for kind, seed, _ in calm for resource in _STEPS)]
        _show_coverage([one for some in pool.map(_bounded, both) for one in some])
    return 0


def _clean(job: tuple[str, str, int]) -> Alarms:
    return next(starmap(clean, [job]))


def _leaking(job: tuple[str, str, Leak, int]) -> Delay:
    return next(starmap(leaking, [job]))


def _bounded(job: tuple[str, str, Leak, int]) -> list[Interval]:
    return next(starmap(intervals, [job]))


def _show_false_alarms(found: list[Alarms]) -> None:
    print(f"{'clean traffic':22}{'departures':>12}{'samples':>10}{'false alarms':>14}{'per 100,000':>13}  of")
    for kind in (*KINDS, "all"):
        rows = [row for row in found if kind in (row.kind, "all")]
        departures, alarms = sum(row.departures for row in rows), sum(len(row.resources) for row in rows)
        of = sorted({resource for row in rows for resource in row.resources})
        samples = sum(row.samples for row in rows)
        print(f"{kind:22}{departures:12,}{samples:10,}{alarms:14}{alarms / departures * 1e5:13.1f}  {' '.join(of)}")
    print(f"with 95 % confidence fewer than {at_most(alarms) / departures * 1e5:.1f} per 100,000 departures of this mix\n")


def _show_delays(found: list[Delay], leaks: list[Leak], limit: int) -> None:
    """Median, least and most of the departures until alarm."""
    head = "".join(f"{_SHOWN[leak.rate] + ' ' + leak.resource:>23}" for leak in leaks)
    print(f"departures until alarm, median (least to most), for leaks per participant of\n{'':22}{head}")
    for kind in KINDS:
        cells = [[row for row in found if row.kind == kind and row.leak == leak] for leak in leaks]
        print(f"{kind:22}" + "".join(f"{_cell(rows, limit):>23}" for rows in cells))
    bounds = [least_departures(leak.rate, _STEPS[leak.resource], UNITS_PER_FALSE_ALARM) for leak in leaks]
    print(f"{'no test can, on average':22}" + "".join(f"{bound:23.1f}" for bound in bounds))
    print(
        "the bound is Lorden's, for an observer who sees exactly what each departure leaves, at the same false alarm rate and"
    )
    print("the simulated rate of steps\n")


def _show_coverage(found: list[Interval]) -> None:
    print("stated intervals that hold what each departure left, a cache that filled meanwhile included; in brackets those that")
    print("hold what the leak alone leaves; half their width by what was left, median; those that are open on a side")
    places = (ALARM, GAUGE)
    print(f"{'':22}" + "".join(f"{at:>10}{'hold':>8}{'(leak)':>9}{'width':>7}{'open':>7}" for at in places))
    for kind in (*KINDS, "all"):
        cells = [[row for row in found if row.at == at and kind in (row.kind, "all")] for at in places]
        print(f"{kind:22}" + "".join(_coverage(rows) for rows in cells))


def _coverage(rows: list[Interval]) -> str:
    if not rows:
        return f"{0:10}{'':31}"

    def share(which: Callable[[Interval], bool]) -> str:
        return f"{sum(map(which, rows)) / len(rows):.1%}"

    closed = sorted(row.width for row in rows if math.isfinite(row.width)) or [math.nan]
    holds, leak = share(lambda row: row.holds), f"({share(lambda row: row.holds_leak)})"
    return f"{len(rows):10,}{holds:>8}{leak:>9}{closed[len(closed) // 2]:7.2f}{share(lambda row: not row.bounded):>7}"


def _cell(rows: list[Delay], limit: int) -> str:
    ordered = sorted(limit + 1 if row.departures is None else row.departures for row in rows)

    def at(share: float) -> str:
        value = ordered[round(share * (len(ordered) - 1))]
        return f">{limit}" if value > limit else str(value)

    return at(0.5) if at(0) == at(1) else f"{at(0.5)} ({at(0)} to {at(1)})"


if __name__ == "__main__":
    raise SystemExit(main())
