"""race_watch itself: whom it does not see, what it lost, how late it is, what it costs."""

from __future__ import annotations

from deploy.generate.boards.drilldown import worker_columns
from deploy.generate.frame import Selectors, dashboard, variables, version_changes
from deploy.generate.options import Options
from deploy.generate.panels import GREEN, RED, YELLOW, Column, Json, Look, Panel, Query, Row, bad_from, graph, stat, table

# What a worker has at most, `process_*` included.
_SERIES_MAX = 200


def board(options: Options) -> Json:
    """The board as JSON."""
    s = Selectors(options)
    rows = [
        Row("Now", _strip(s, options)),
        Row("What it does not see", _blind(s, options)),
        Row("What it lost", _lost(s)),
        Row("What it costs", _costs(s, options)),
    ]
    about = (
        "The watchers: whether all are there, see everything, keep up, get their incidents out, and stay within their budget."
    )
    return dashboard(options, "itself", "race_watch / Itself", about, rows, variables(options), [version_changes(s)])


def _watched(s: Selectors, metric: str, matching: str = "job, instance") -> str:
    """The series of a metric that are not only ours, of the targets that are."""
    return f"{s.raw(metric)} and on ({matching}) {s.raw('race_watch_processes')}"


def _strip(s: Selectors, options: Options) -> list[Panel]:
    seen = f"last_over_time({s.raw('race_watch_processes')}[1h])"
    polled = s.raw("race_watch_watcher_last_poll_timestamp_seconds")
    return [
        stat("Watchers", "Watchers that report.", f"count({s.raw('race_watch_processes')})", Look("none"), width=4),
        stat(
            "Do not answer",
            "Targets that were there within the hour and do not answer the scrape.",
            f"count({s.raw('up')} == 0 and on ({options.worker}) {seen}) or vector(0)",
            Look("none", bad_from(1)),
            width=4,
        ),
        stat(
            "Oldest look",
            "Time since the watcher that is worst off has read the journals.",
            f"max(time() - {polled})",
            Look("s", ((None, GREEN), (10, YELLOW), (60, RED)), decimals=0),
            width=4,
        ),
        stat(
            "Lag",
            "Longest time from an event to its judgement, of the worst watcher.",
            f"max({s.raw('race_watch_watcher_lag_seconds')})",
            Look("s", ((None, GREEN), (5, YELLOW), (10, RED)), decimals=1),
            width=4,
        ),
        stat(
            "Not watched",
            "Processes with LiveKit in them that race_watch is not in.",
            f"sum({s.raw('race_watch_processes_missing')})",
            Look("none", bad_from(1)),
            width=4,
        ),
        stat(
            "Hooks off",
            "Hooks that are switched off, over all processes.",
            f"sum({s.raw('race_watch_hooks_off')})",
            Look("none", bad_from(1)),
            width=4,
        ),
    ]


def _blind(s: Selectors, options: Options) -> list[Panel]:
    attached, ended = s.raw("race_watch_processes_attached_total"), s.raw("race_watch_process_ended_total")
    return [
        graph(
            "Processes that are not watched",
            "They use LiveKit's native library and have no hooks of race_watch: python -I, a foreign bootstrap, a full disk.",
            [Query(f"sum by (job) ({s.raw('race_watch_processes_missing')})", "{{job}}")],
            Look("none"),
            width=8,
        ),
        graph(
            "Hooks that are switched off",
            "After three failures, or because their target is missing in this version; /healthz of the worker says why.",
            [Query(f"sum by (job) ({s.raw('race_watch_hooks_off')})", "{{job}}")],
            Look("none"),
            width=8,
        ),
        graph(
            "Processes that come and go",
            "Per hour. Each one attached should end for a reason that is known.",
            [
                Query(f"sum(rate({attached}[$__rate_interval])) * 3600", "attached"),
                Query(f"sum(rate({ended}[$__rate_interval])) * 3600", "ended"),
            ],
            Look("short"),
            width=8,
        ),
        table(
            "Workers with something unseen",
            "Processes that are not watched and hooks that are off, together, by worker.",
            f"sum by ({options.worker}) ({s.raw('race_watch_processes_missing')} + {s.raw('race_watch_hooks_off')}) > 0",
            worker_columns(Column("Value", "Blind spots", "none")),
            sort="Blind spots",
        ),
    ]


def _lost(s: Selectors) -> list[Panel]:
    def rate(counter: str, labels: str) -> str:
        return f"sum by ({labels}) (rate({s.raw(counter)}[$__rate_interval]))"

    return [
        graph(
            "Events",
            "Journal records that were read; exceptions that were captured, or only counted where their site had many.",
            [
                Query(f"sum(rate({s.raw('race_watch_events_total')}[$__rate_interval]))", "records read"),
                Query(f"sum(rate({s.raw('race_watch_exceptions_captured_total')}[$__rate_interval]))", "exceptions captured"),
                Query(
                    f"sum(rate({s.raw('race_watch_exceptions_suppressed_total')}[$__rate_interval]))", "exceptions only counted"
                ),
            ],
            Look("ops"),
        ),
        graph(
            "Records lost, by reason",
            "overwritten: the journal was full before it was read. torn: killed while writing. cut: a text was too long.",
            [Query(rate("race_watch_events_lost_total", "reason"), "{{reason}}")],
            Look("ops"),
        ),
        graph(
            "Exports, by outcome",
            "Lines for the incident file and batches for OTLP.",
            [Query(rate("race_watch_exports_total", "exporter, outcome"), "{{exporter}}: {{outcome}}")],
            Look("ops"),
        ),
        graph(
            "Given up for OTLP, by reason",
            "overflow: no room while the endpoint was away. refused: by the endpoint. rate: room sessions beyond what is sent.",
            [Query(rate("race_watch_otlp_lost_total", "reason"), "{{reason}}")],
            Look("ops"),
        ),
        graph(
            "Failures of hooks",
            "Of race_watch's own hooks, in the workers' processes: the third of a hook switches it off.",
            [Query(rate("race_watch_hook_errors_total", "job"), "{{job}}")],
            Look("ops"),
            width=24,
            height=6,
        ),
    ]


def _costs(s: Selectors, options: Options) -> list[Panel]:
    cpu = f"rate({s.raw('race_watch_watcher_cpu_seconds_total')}[$__rate_interval])"
    return [
        graph(
            "CPU of a watcher",
            f"In cores: half, nine in ten and all watchers are below. The budget is {options.watcher_cores:g}.",
            [
                Query(f"quantile(0.5, {cpu})", "half"),
                Query(f"quantile(0.9, {cpu})", "nine in ten"),
                Query(f"max({cpu})", "all"),
            ],
            Look("short", bad_from(options.watcher_cores), decimals=4),
            width=8,
        ),
        graph(
            "Memory of the process that serves",
            "race_watch itself under `race-watch run` and `watch`; the worker where the watcher is a thread of it.",
            [
                Query(f"quantile(0.5, {_watched(s, 'process_resident_memory_bytes')})", "half"),
                Query(f"max({_watched(s, 'process_resident_memory_bytes')})", "all"),
            ],
            Look("bytes"),
            width=8,
        ),
        graph(
            "Time and series of a scrape",
            f"Of the worst worker. A worker has {_SERIES_MAX} series at most.",
            [
                Query(f"max({_watched(s, 'scrape_samples_post_metric_relabeling')})", "series"),
                Query(f"max({_watched(s, 'scrape_duration_seconds')}) * 1000", "milliseconds"),
            ],
            Look("none"),
            width=8,
        ),
    ]
