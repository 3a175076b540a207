"""What the run has cost, a line each: scrapes as Prometheus measured them, the watcher, the run directory."""

from __future__ import annotations

import math
from collections.abc import Sequence

from race_watch.journal.directory import JOURNALS_KEPT, JOURNALS_KEPT_BYTES
from tests.jobs.prometheus import CONTROL, JOB, SCRAPE_INTERVAL_S, Scraped
from tests.jobs.run_directory import RunDirectory, Size

SCRAPE_BUDGET_MS = 20.0
# Of the run; until then the watcher has loaded what it needs.
_BEGUN = 0.1
_MIB = 1024 * 1024


def scrapes(scraped: Scraped) -> str:
    """Their duration, and whether 99 of 100 are within the budget."""
    took_ms, control_ms = (_in_ms(scraped.samples("scrape_duration_seconds", job)) for job in (JOB, CONTROL))
    over = sum(one_ms > SCRAPE_BUDGET_MS for one_ms in took_ms)
    verdict = "OVER" if _quantile(took_ms, 0.99) > SCRAPE_BUDGET_MS else "within"
    return (
        f"{len(took_ms)} scrapes, one each {SCRAPE_INTERVAL_S} s: {_told(took_ms)}; {over} over {SCRAPE_BUDGET_MS:g} ms, "
        f"p99 {verdict} the budget; {scraped.samples('up').count(0)} failed; Prometheus of itself: {_told(control_ms)}"
    )


def _in_ms(durations_s: Sequence[float]) -> list[float]:
    return sorted(duration_s * 1000 for duration_s in durations_s)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[math.ceil(share * len(ordered)) - 1]


def _told(took_ms: Sequence[float]) -> str:
    median_ms, p99_ms = (_quantile(took_ms, share) for share in (0.5, 0.99))
    return f"median {median_ms:.1f} ms, p99 {p99_ms:.1f} ms, max {took_ms[-1]:.1f} ms"


def watcher(scraped: Scraped) -> str:
    """CPU, lag and memory of the supervisor."""
    cpu_s, resident = scraped.samples("process_cpu_seconds_total"), scraped.samples("process_resident_memory_bytes")
    share = (cpu_s[-1] - cpu_s[0]) / (len(cpu_s) * SCRAPE_INTERVAL_S)
    begun, ended = resident[int(_BEGUN * len(resident))] / _MIB, resident[-1] / _MIB
    lag_s = max(scraped.samples("race_watch_watcher_lag_seconds"))
    return (
        f"supervisor: {share:.1%} of a core, at most {lag_s:.1f} s behind, "
        f"{begun:.1f} MiB of memory after a tenth of the time and {ended:.1f} MiB at the end"
    )


def space(directory: RunDirectory) -> str:
    """The run directory's size, beside its bound."""
    bound = Size(JOURNALS_KEPT, JOURNALS_KEPT_BYTES)
    peak, now, bound_told = (
        f"{size.journals} journals, {size.bytes / _MIB:.1f} MiB" for size in (directory.peak, directory.now, bound)
    )
    return f"run directory: peak {peak}; at the end {now}; bound {bound_told}; journals stayed {directory.left_s:.1f} s at most"
