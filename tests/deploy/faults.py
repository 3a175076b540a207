"""Samples of a fleet in which everything is wrong: what the queries that are empty in a healthy one must find."""

from __future__ import annotations

from collections.abc import Callable, Iterator

MINUTES = 60
FLEET = 'cluster="eu", namespace="voice", job="agents"'
WORKER = f'{FLEET}, instance="a", pod="agent-1"'
RACE = 'signature="local-unpublish-keyerror"'
INCIDENTS = f"job_signature:race_watch_incidents:rate5m{{{FLEET}"

Values = Callable[[int], float | None]


def _always(value: float) -> Values:
    return lambda minute: value


def _counts(minute: int) -> float:
    return float(minute)


def _until_half(minute: int) -> float | None:
    return 3.0 if minute < MINUTES / 2 else None


# Series -> its value at a minute; None where there is no sample.
SERIES: dict[str, Values] = {
    f"race_watch_processes{{{WORKER}}}": _always(2),
    f"up{{{WORKER}}}": _always(0),
    'job:race_watch_workers:count{cluster="eu", namespace="voice", job="gone"}': _until_half,
    f"race_watch_processes_missing{{{WORKER}}}": _always(1),
    f"race_watch_hooks_off{{{WORKER}}}": _always(1),
    f'race_watch_events_lost_total{{{WORKER}, reason="overwritten"}}': _counts,
    f'race_watch_process_ended_total{{{WORKER}, reason="ffi_panic"}}': _counts,
    f'race_watch_sessions_lost_total{{{WORKER}, reason="oom_kill"}}': _counts,
    f'race_watch_incidents_total{{{WORKER}, category="registry_race", verdict="sdk", signature="unclassified"}}': _counts,
    f'{INCIDENTS}, category="registry_race", verdict="sdk", signature="unclassified"}}': _always(1),
    f'{INCIDENTS}, category="hang", verdict="sdk", signature="unclassified"}}': _always(1),
    f'{INCIDENTS}, category="fd_leak", verdict="unknown", signature="unclassified"}}': _always(1),
    f'job_signature:race_watch_regressions:rate15m{{{FLEET}, category="registry_race", fixed_in="1.1.11", {RACE}}}': _always(1),
    f"race_watch_time_to_fd_limit_seconds{{{WORKER}}}": _always(7200),
    f"job:race_watch_time_to_fd_limit_seconds:min{{{FLEET}}}": _always(7200),
    **{
        f'job_resource:race_watch_{what}{{{FLEET}, resource="handles", unit="{unit}"}}': _always(2)
        for what in ("growth:max", "growing_workers:count")
        for unit in ("participant", "room")
    },
}


def samples(end_s: float) -> str:
    """An hour of them until `end_s`, as OpenMetrics."""

    def lines() -> Iterator[str]:
        for series, value_at in SERIES.items():
            for minute in range(MINUTES + 1):
                value = value_at(minute)
                if value is not None:
                    yield f"{series.replace(', ', ',')} {value} {end_s - 60 * (MINUTES - minute):.0f}"
        yield "# EOF"

    return "\n".join(lines()) + "\n"
