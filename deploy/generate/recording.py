"""Recording rules: what the fleet's boards and the alerts read, so that neither reads every worker.

A share is a quotient of sums. Long windows are averages of the recorded five minutes: a day of raw counters of ten thousand
workers would be read again at every evaluation. The groups have an interval of their own, so that what was recorded can be
summed to whole numbers again (`total`).
"""

from __future__ import annotations

from deploy.generate.rules import Group, Record

# The windows of the alerts on the session loss; all but the first are averages of it.
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")

EVERY_S = 60


def total(rate: str, window: str) -> str:
    """How many there were in a window, of a rate that is recorded here; exact where the rate was not there throughout."""
    return f"sum_over_time({rate}[{window}]) * {EVERY_S}"


_FLEET = (
    Record("job:race_watch_workers:count", "count by (<job>) (race_watch_processes)"),
    Record("job:race_watch_processes:sum", "sum by (<job>) (race_watch_processes)"),
    Record("job:race_watch_rooms:sum", "sum by (<job>) (race_watch_rooms)"),
    Record("job:race_watch_participants:sum", "sum by (<job>) (race_watch_participants)"),
    Record(
        "job_build:race_watch_workers:count",
        "count by (<job>, version, python, livekit, livekit_agents) (race_watch_build_info)",
    ),
    # Growth of which it is sure that it is above nothing: of the worker where it is most, and of how many.
    Record(
        "job_resource:race_watch_growth:max",
        "max by (<job>, resource, unit) (race_watch_growth and race_watch_growth_low > 0)",
    ),
    Record(
        "job_resource:race_watch_growing_workers:count",
        "count by (<job>, resource, unit) (race_watch_growth_low > 0)",
    ),
    Record("job:race_watch_time_to_fd_limit_seconds:min", "min by (<job>) (race_watch_time_to_fd_limit_seconds)"),
    # A worker that is between two versions of livekit is counted as "several": a join needs one.
    Record(
        "instance:race_watch_livekit:info",
        """
        group by (<worker>, livekit) (race_watch_build_info)
          and on (<worker>) count by (<worker>) (group by (<worker>, livekit) (race_watch_build_info)) == 1
        or
        label_replace(
          group by (<worker>) (count by (<worker>) (group by (<worker>, livekit) (race_watch_build_info)) > 1),
          "livekit", "several", "", ""
        )
        """,
    ),
)

_ENDS = (
    Record(
        "job_reason:race_watch_process_ended:rate5m",
        "sum by (<job>, reason) (rate(race_watch_process_ended_total[5m]))",
    ),
    Record(
        "job_reason:race_watch_sessions_lost:rate5m",
        "sum by (<job>, reason) (rate(race_watch_sessions_lost_total[5m]))",
    ),
    Record("job:race_watch_sessions:rate5m", "sum by (<job>) (rate(race_watch_sessions_total[5m]))"),
    Record("job:race_watch_sessions_lost:rate5m", "sum by (<job>) (rate(race_watch_sessions_lost_total[5m]))"),
    *(
        Record(f"job:race_watch_{counter}:rate{window}", f"avg_over_time(job:race_watch_{counter}:rate5m[{window}])")
        for window in WINDOWS[1:]
        for counter in ("sessions", "sessions_lost")
    ),
    # Those that ran at some time in the hour: begun in it, or there throughout.
    Record(
        "job:race_watch_sessions_active:sum1h",
        f"{total('job:race_watch_sessions:rate5m', '1h')} + min_over_time(job:race_watch_rooms:sum[1h])",
    ),
)

_INCIDENTS = (
    Record(
        "job_signature:race_watch_incidents:rate5m",
        "sum by (<job>, category, verdict, signature) (rate(race_watch_incidents_total[5m]))",
    ),
    Record(
        "job_version:race_watch_incidents:rate5m",
        """
        sum by (<job>, livekit, signature) (
          sum by (<worker>, signature) (rate(race_watch_incidents_total{verdict!="benign"}[5m]))
            * on (<worker>) group_left (livekit) instance:race_watch_livekit:info
        )
        """,
    ),
    Record(
        "instance:race_watch_incidents:rate5m",
        'sum by (<worker>) (rate(race_watch_incidents_total{verdict!="benign"}[5m]))',
    ),
    Record(
        "job_signature:race_watch_incidents:ratio1h",
        f"""
        sum by (<job>, signature) ({total('job_signature:race_watch_incidents:rate5m{verdict!="benign"}', "1h")})
          / on (<job>) group_left () (job:race_watch_sessions_active:sum1h > 0)
        """,
    ),
)

GROUPS = (
    Group("fleet", _FLEET, every_s=EVERY_S),
    # One group, and ends first: a crash's alert is there before the one that it keeps quiet. Two groups are evaluated up to a
    # minute apart, which is longer than Alertmanager waits.
    Group("incidents", (*_ENDS, *_INCIDENTS), every_s=EVERY_S),
)
