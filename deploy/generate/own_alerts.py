"""Alerts about race_watch itself: its silence must mean health, so that it is blind, late or costly must be told."""

from __future__ import annotations

from deploy.generate.options import Options
from deploy.generate.rules import Alert, Group

_WHOSE = "{{ $labels.job }}{{ with $labels.namespace }} in {{ . }}{{ end }}"
_COUNT = '{{ $value | printf "%.0f" }}'
_CORES = '{{ $value | printf "%.2g" }}'
_KEPT = "1h"


def group(options: Options) -> Group:
    """All of them, with the thresholds of the options."""
    alerts = (*_silent(), *_late(), *_blind(), *_lossy(), *_costly(options))
    return Group("own.alerts", alerts, about="race_watch", dashboard="itself")


def _silent() -> tuple[Alert, ...]:
    return (
        Alert(
            "RaceWatchAbsent",
            "critical",
            "No worker at all reports to race_watch: the whole fleet is down, or nobody watches it.",
            "There is no series of race_watch in this Prometheus. Until there is, none of its alerts can fire.",
            "absent(race_watch_processes)",
            lasts="15m",
        ),
        Alert(
            "RaceWatchWorkersGone",
            "warning",
            "A fleet that reported within the last day reports no more.",
            f"None of the workers of {_WHOSE} reports; there were up to {_COUNT} in the last day.",
            "max_over_time(job:race_watch_workers:count[1d]) unless job:race_watch_workers:count > 0",
            lasts="15m",
        ),
        Alert(
            "RaceWatchWatcherDown",
            "warning",
            "Watchers do not answer the scrape.",
            f"{{{{ $value | humanizePercentage }}}} of the watchers of {_WHOSE} that were there within the hour do not answer.",
            """
            count by (<job>) (up == 0 and on (<worker>) last_over_time(race_watch_processes[1h]))
              / on (<job>) count by (<job>) (last_over_time(race_watch_processes[1h]))
              > 0.05
            """,
            lasts="15m",
        ),
    )


def _late() -> tuple[Alert, ...]:
    return (
        Alert(
            "RaceWatchWatcherStuck",
            "warning",
            "Watchers answer, and have not read the journals of their workers for a minute.",
            f"{_COUNT} watchers of {_WHOSE} do not read; what happens to their workers is not judged.",
            "count by (<job>) (time() - race_watch_watcher_last_poll_timestamp_seconds > 60) > 0",
            lasts="5m",
        ),
        Alert(
            "RaceWatchWatcherBehind",
            "warning",
            "Watchers judge what happened more than ten seconds ago.",
            f"The slowest watcher of {_WHOSE} is {{{{ $value | humanizeDuration }}}} behind.",
            "max by (<job>) (race_watch_watcher_lag_seconds) > 10",
            lasts="10m",
        ),
    )


def _blind() -> tuple[Alert, ...]:
    return (
        Alert(
            "RaceWatchProcessesNotAttached",
            "warning",
            "Processes use LiveKit and are not watched.",
            f"{_COUNT} processes of {_WHOSE} have LiveKit's native library loaded, and race_watch is not in them.",
            "sum by (<job>) (race_watch_processes_missing) > 0",
            lasts="10m",
        ),
        Alert(
            "RaceWatchHooksOff",
            "warning",
            "Hooks of race_watch are switched off: part of what happens is not seen.",
            f"{_COUNT} hooks are switched off in processes of {_WHOSE}; /healthz of the workers says which and why.",
            "sum by (<job>) (race_watch_hooks_off) > 0",
            lasts="10m",
        ),
    )


def _lossy() -> tuple[Alert, ...]:
    return (
        Alert(
            "RaceWatchEventsLost",
            "warning",
            "Journal records were lost before they could be read.",
            f"{_COUNT} records of {_WHOSE} were lost in the last 15 minutes: {{{{ $labels.reason }}}}.",
            'sum by (<job>, reason) (increase(race_watch_events_lost_total{reason=~"overwritten|malformed"}[15m])) > 0',
            keeps=_KEPT,
        ),
        Alert(
            "RaceWatchExportFailing",
            "warning",
            "Incidents do not get where they are exported to.",
            f"{{{{ $value | humanizePercentage }}}} of the exports of {_WHOSE} by {{{{ $labels.exporter }}}} fail.",
            """
            sum by (<job>, exporter) (rate(race_watch_exports_total{outcome="failed"}[15m]))
              / sum by (<job>, exporter) (rate(race_watch_exports_total[15m]))
              > 0.1
            """,
            lasts="15m",
        ),
        Alert(
            "RaceWatchExportsLost",
            "warning",
            "Spans and log records of incidents were given up.",
            f"{_COUNT} spans and log records of {_WHOSE} were given up in the last 15 minutes: {{{{ $labels.reason }}}}.",
            'sum by (<job>, reason) (increase(race_watch_otlp_lost_total{reason=~"overflow|refused"}[15m])) > 0',
            keeps=_KEPT,
        ),
    )


def _costly(options: Options) -> tuple[Alert, ...]:
    return (
        Alert(
            "RaceWatchOverBudget",
            "warning",
            "Watchers cost more than their budget.",
            f"One watcher in ten of {_WHOSE} uses {_CORES} cores or more; the budget is {options.watcher_cores:g}.",
            f"quantile by (<job>) (0.9, rate(race_watch_watcher_cpu_seconds_total[15m])) > {options.watcher_cores:g}",
            lasts="30m",
        ),
    )
