"""Alerts about the workers. critical: calls are being lost now, or will be before the morning."""

from __future__ import annotations

from deploy.generate import known_races
from deploy.generate.options import Options
from deploy.generate.recording import total
from deploy.generate.rules import Alert, Group

LEAKS = ("task_leak", "orphan_task", "handle_leak", "fd_leak", "thread_leak", "subscription_leak")
HANGS = ("hang", "deaf_room")
# What has an alert of its own, and what is the application's: neither is a race that nobody has named yet.
_NOT_A_NEW_RACE = "|".join(("process_killed", *LEAKS, *HANGS))
_KILLS = ("supervisor_kill", "oom_kill", "killed")
_WHOSE = "{{ $labels.job }}{{ with $labels.namespace }} in {{ . }}{{ end }}"
_COUNT = '{{ $value | printf "%.0f" }}'
_RATIO = '{{ $value | printf "%.2g" }}'
_SHARE = "{{ $value | humanizePercentage }}"
_CATEGORY, _SIGNATURE = "{{ $labels.category }}", "{{ $labels.signature }}"
_VERDICT = "{{ $labels.verdict }}"
# An event is over at once; its alert stays until somebody has had the time to look.
_KEPT = "1h"

_INCIDENTS = "job_signature:race_watch_incidents:rate5m"
# Of few sessions one is a large share: three at least must be lost, and a race have happened five times, as far as rates tell
# whole numbers.
_LOST_AT_LEAST, _HAPPENED_AT_LEAST = 2.5, 4.5


def _burn(options: Options, factor: float, long: str, short: str, severity: str, lasts: str) -> Alert:
    """One pair of windows of the SRE workbook's multi-window alert, for a budget of 30 days."""
    limit = f"{factor} * {1 - options.objective:.6g}"
    lost, begun = "job:race_watch_sessions_lost", "job:race_watch_sessions"
    return Alert(
        name="RaceWatchSessionLossBudgetBurn",
        severity=severity,
        summary="Sessions are cut off by the end of their process, faster than the objective allows.",
        description=f"{_SHARE} of the sessions of {_WHOSE} were lost in {long}: {factor} times the rate that "
        f"spends the budget of 30 days, or more. The objective is {options.objective * 100:g}%.",
        expr=f"""
        {lost}:rate{long} / {begun}:rate{long} > {limit}
          and {lost}:rate{short} / {begun}:rate{short} > {limit}
          and {total(f"{lost}:rate5m", long)} > {_LOST_AT_LEAST}
        """,
        lasts=lasts,
        labels={"long": long, "short": short},
    )


def _run_out(hours: float, severity: str, lasts: str) -> Alert:
    """A worker will have no descriptor left; not by job, as each has its own time."""
    return Alert(
        name="RaceWatchDescriptorsRunOut",
        severity=severity,
        summary="File descriptors grow, and a process will have none left: then every new connection fails.",
        description="A process of {{ $labels.instance }}{{ with $labels.pod }} ({{ . }}){{ end }}, of "
        f"{_WHOSE}, runs out of descriptors in {{{{ $value | humanizeDuration }}}}, at the rate of its latest readings.",
        expr=f"min by (<worker>) (race_watch_time_to_fd_limit_seconds) < {hours * 3600:g}",
        lasts=lasts,
        dashboard="worker",
        variables={"pod": "pod", "instance": "instance"},
    )


def _events(name: str, summary: str, description: str, expr: str) -> Alert:
    """A ticket for what happened once or more in the last five minutes."""
    return Alert(name, "warning", summary, description, expr, keeps=_KEPT)


def _of_race(
    name: str, summary: str, description: str, expr: str, *, severity: str = "warning", lasts: str = "", keeps: str = ""
) -> Alert:
    """An alert with a label `signature`, which leads to that race."""
    variables = {"signature": "signature"}
    return Alert(name, severity, summary, description, expr, lasts, keeps, "race", variables)


def group(options: Options) -> Group:
    """All of them, with the thresholds of the options."""
    return Group("workers.alerts", (*_ends(options), *_races(options), *_left_behind(options)))


def _ends(options: Options) -> tuple[Alert, ...]:
    killed = f'job_reason:race_watch_sessions_lost:rate5m{{reason=~"{"|".join(_KILLS)}"}}'
    ended = "job_reason:race_watch_process_ended:rate5m"
    return (
        _burn(options, 14.4, "1h", "5m", "critical", "2m"),
        _burn(options, 6, "6h", "30m", "critical", "15m"),
        _burn(options, 3, "1d", "2h", "warning", "1h"),
        _burn(options, 1, "3d", "6h", "warning", "3h"),
        _events(
            "RaceWatchNativeAbort",
            "Native code ended a process: a crash without a Python traceback.",
            f"{_COUNT} processes of {_WHOSE} were ended by a native abort in the last 5 minutes, with their rooms.",
            f'{ended}{{reason="native_abort"}} * 300 > 0',
        ),
        _events(
            "RaceWatchFfiPanic",
            "The native library panicked, and the SDK ended its own process.",
            f"{_COUNT} processes of {_WHOSE} were ended by a panic of the native library in the last 5 minutes.",
            f'{ended}{{reason="ffi_panic"}} * 300 > 0',
        ),
        Alert(
            "RaceWatchProcessesKilled",
            "warning",
            "Processes are killed while they are in a room.",
            f"{_COUNT} sessions of {_WHOSE} were lost in the last hour to kills of the kind {{{{ $labels.reason }}}}.",
            f"{total(killed, '1h')} > {_LOST_AT_LEAST}",
            keeps=_KEPT,
        ),
    )


def _races(options: Options) -> tuple[Alert, ...]:
    return (
        _of_race(
            "RaceWatchUnclassifiedRace",
            "A failure with the shape of a race in the SDK, which no signature names yet.",
            f"{_COUNT} incidents of {_WHOSE} in the last 5 minutes: {_CATEGORY}, verdict {_VERDICT}, no name.",
            f'{_INCIDENTS}{{signature="unclassified", verdict!~"app|benign", category!~"{_NOT_A_NEW_RACE}"}} * 300 > 0',
            keeps=_KEPT,
        ),
        _of_race(
            "RaceWatchKnownRaceRate",
            "A known race of the SDK happens in more sessions than is to be put up with.",
            f"{_SIGNATURE} happened in the last hour {_RATIO} times for each session of {_WHOSE}.",
            f"""
            job_signature:race_watch_incidents:ratio1h{{signature!="unclassified"}} > {options.races_per_session:g}
              and sum by (<job>, signature) ({total(_INCIDENTS + '{verdict!="benign"}', "1h")}) > {_HAPPENED_AT_LEAST}
            """,
            lasts="15m",
        ),
        _of_race(
            "RaceWatchFixedRaceIsBack",
            "A race happened in a version that is known to have it fixed.",
            f"{_SIGNATURE} ({_CATEGORY}) happened in {_WHOSE}, where "
            "{{ $labels.package }} is {{ $labels.fixed_in }} or newer: a regression, or a variant of the race.",
            f"{known_races.REGRESSIONS} > 0",
            keeps=_KEPT,
        ),
        _of_race(
            "RaceWatchKnownRaceInTheField",
            "Workers run a version with known races that a newer release fixes.",
            f"{_COUNT} workers of {_WHOSE} run {{{{ $labels.package }}}} {{{{ $labels.sdk_version }}}}, which has "
            "{{ $labels.signature }}; {{ $labels.fixed_in }} fixes it.",
            f'{known_races.AFFECTED}{{fixed_in!=""}} > 0',
            severity="info",
            lasts="1h",
        ),
    )


def _left_behind(options: Options) -> tuple[Alert, ...]:
    return (
        _of_race(
            "RaceWatchLeak",
            "What should have gone with its room or participant is still there.",
            f"{_COUNT} incidents of {_WHOSE} in the last 5 minutes: {_CATEGORY}, {_SIGNATURE}.",
            # A pending task of the application that is destroyed is its own, and common.
            f"""
            ({_INCIDENTS}{{category=~"{"|".join(LEAKS)}"}}
              unless {_INCIDENTS}{{category="task_leak", verdict="app", signature="unclassified"}}) * 300 > 0
            """,
            keeps=_KEPT,
        ),
        _run_out(options.fd_hours_page, "critical", "15m"),
        _run_out(options.fd_hours_ticket, "warning", "1h"),
        _of_race(
            "RaceWatchHang",
            "Something waits for what can never come: a session that nobody hears any more.",
            f"{_COUNT} incidents of {_WHOSE} in the last 5 minutes: {_CATEGORY}, {_SIGNATURE}.",
            f'{_INCIDENTS}{{category=~"{"|".join(HANGS)}"}} * 300 > 0',
            keeps=_KEPT,
        ),
    )
