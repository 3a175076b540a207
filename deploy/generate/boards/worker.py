"""Worker: one of them, in full. The first look after an alert that names an instance, and after a click on one in Fleet."""

from __future__ import annotations

from deploy.generate import known_races
from deploy.generate.boards import growth
from deploy.generate.boards.drilldown import KNOWN, incident_columns
from deploy.generate.frame import Selectors, annotation, dashboard, variables
from deploy.generate.options import Options
from deploy.generate.panels import YELLOW, Column, Json, Look, Panel, Query, Row, bad_from, graph, stat, table

_CRASHES = 'reason=~"native_abort|ffi_panic"'


def board(options: Options) -> Json:
    """The board as JSON."""
    s = Selectors(options, pods=True)
    rows = [
        Row("Now", [*_presence(s), *_trouble(s, options)]),
        Row("Incidents", _incidents(s, options)),
        Row("Rooms and what they hold", growth.of_worker(s)),
        Row("Ends of processes", _ends(s)),
        Row("race_watch in this worker", [*_own_cost(s), *_own_work(s)], collapsed=True),
    ]
    builds = s.raw("race_watch_build_info")
    labels = "(instance, version, livekit, livekit_agents)"
    annotations = [
        annotation(
            "New versions",
            f"count by {labels} ({builds}) unless count by {labels} ({builds} offset 5m)",
            "{{instance}}: livekit {{livekit}}, livekit-agents {{livekit_agents}}, race_watch {{version}}",
            "blue",
        ),
        annotation(
            "Native aborts and panics",
            f"sum by (instance, reason) (increase({s.raw('race_watch_process_ended_total', _CRASHES)}[2m])) > 0",
            "{{instance}}: {{reason}}",
            "red",
        ),
    ]
    about = (
        "One worker: its rooms, incidents, ends of processes and growth, and what race_watch costs in it. Choose one instance."
    )
    return dashboard(options, "worker", "race_watch / Worker", about, rows, variables(options, pods=True), annotations)


def _presence(s: Selectors) -> list[Panel]:
    started, watched = s.raw("process_start_time_seconds"), s.raw("race_watch_processes")
    return [
        stat(
            "Up for",
            "Since the watcher of this worker started; of several workers, the one that started last.",
            f"time() - max({started} and on (job, instance) {watched})",
            Look("s", decimals=0),
        ),
        stat(
            "Rooms",
            "Rooms that are connected, in all processes of the worker.",
            f"sum({s.raw('race_watch_rooms')})",
            Look("none"),
        ),
        stat("Participants", "Remote participants in those rooms.", f"sum({s.raw('race_watch_participants')})", Look("none")),
        stat("Processes", "Processes that are watched and alive.", f"sum({watched})", Look("none")),
    ]


def _trouble(s: Selectors, options: Options) -> list[Panel]:
    harmful = s.raw("race_watch_incidents_total", 'verdict!="benign"')
    return [
        stat(
            "Incidents",
            "Incidents in the time range, harmless ones left out.",
            f"round(sum(increase({harmful}[$__range])))",
            Look("none", bad_from(1, YELLOW)),
            spark=False,
        ),
        stat(
            "Sessions lost",
            "Rooms in the time range that were connected when their process ended otherwise than by itself.",
            f"round(sum(increase({s.raw('race_watch_sessions_lost_total')}[$__range])))",
            Look("none", bad_from(1)),
            spark=False,
        ),
        stat(
            "To the limit",
            "Time until the first process of the worker runs out of file descriptors, at the rate at which they grow.",
            f"min({s.raw('race_watch_time_to_fd_limit_seconds')}) < +Inf",
            growth.time_left(options),
            none="no growth",
        ),
        stat(
            "Blind spots",
            "Processes of the worker with LiveKit in them that are not watched, plus hooks that are switched off.",
            f"sum({s.raw('race_watch_processes_missing')}) + sum({s.raw('race_watch_hooks_off')})",
            Look("none", bad_from(1, YELLOW)),
        ),
    ]


def _incidents(s: Selectors, options: Options) -> list[Panel]:
    incidents, occurrences = s.raw("race_watch_incidents_total"), s.raw("race_watch_occurrences_total")
    info = f"max by (signature, {KNOWN}) ({known_races.INFO})"
    every = f"sum by (category, verdict, signature) (increase({incidents}[$__range]))"
    return [
        graph(
            "Incidents, by race",
            "Incidents that came to be in a window of the graph's resolution; a single one stays for about a minute. "
            "Points are exemplars: they lead to the trace of an incident.",
            [Query(f"sum by (signature) (increase({incidents}[$__rate_interval])) > 0", "{{signature}}", exemplars=True)],
            Look("none", decimals=0),
            stacked=True,
            bars=True,
        ),
        graph(
            "Failures, by category",
            "Every repeat counted: what repeats in its room is one incident and many failures.",
            [Query(f"sum by (category) (increase({occurrences}[$__rate_interval])) > 0", "{{category}}")],
            Look("none", decimals=0),
            stacked=True,
            bars=True,
        ),
        table(
            "Races of this time range",
            "Every kind of incident that there was, harmless ones too. The records, with their rooms, are at /incidents.",
            f"round({every}) * on (signature) group_left ({KNOWN}) {info} > 0",
            incident_columns(options),
            width=16,
            sort="Incidents",
        ),
        table(
            "Versions",
            "What the processes of the worker have loaded; two rows while it is between two versions.",
            f"max by (instance, livekit, livekit_agents, python, version) ({s.raw('race_watch_build_info')})",
            [
                Column("livekit", "livekit"),
                Column("livekit_agents", "livekit-agents"),
                Column("python", "Python"),
                Column("version", "race_watch"),
            ],
            width=8,
        ),
    ]


def _ends(s: Selectors) -> list[Panel]:
    ended, lost = s.raw("race_watch_process_ended_total"), s.raw("race_watch_sessions_lost_total")
    return [
        graph(
            "Ends of processes, by reason",
            "Each process that is watched and ends is counted once. clean, exception and nonzero_exit are its own choice.",
            [Query(f"sum by (reason) (increase({ended}[$__rate_interval])) > 0", "{{reason}}")],
            Look("none", decimals=0),
            stacked=True,
            bars=True,
        ),
        graph(
            "Sessions lost, by reason",
            "Rooms that were connected when their process ended otherwise than by itself.",
            [Query(f"sum by (reason) (increase({lost}[$__rate_interval])) > 0", "{{reason}}")],
            Look("none", decimals=0),
            stacked=True,
            bars=True,
        ),
    ]


def _own_cost(s: Selectors) -> list[Panel]:
    watched = s.raw("race_watch_processes")
    return [
        graph(
            "CPU of the watcher",
            "In cores. It does not include the hooks in the worker's own processes.",
            [
                Query(
                    f"sum by (instance) (rate({s.raw('race_watch_watcher_cpu_seconds_total')}[$__rate_interval]))",
                    "{{instance}}",
                )
            ],
            Look("short", decimals=4),
            width=8,
        ),
        graph(
            "How far the watcher is behind",
            "Longest time from an event to its judgement, in the last half to whole minute.",
            [Query(f"max by (instance) ({s.raw('race_watch_watcher_lag_seconds')})", "{{instance}}")],
            Look("s"),
            width=8,
        ),
        graph(
            "Memory of the process that serves the metrics",
            "race_watch itself under `race-watch run` and `watch`; the worker where the watcher is a thread of it.",
            [Query(f"{s.raw('process_resident_memory_bytes')} and on (job, instance) {watched}", "{{instance}}")],
            Look("bytes"),
            width=8,
        ),
    ]


def _own_work(s: Selectors) -> list[Panel]:
    return [
        graph(
            "Events",
            "Journal records that were read, and those that were lost before.",
            [
                Query(f"sum(rate({s.raw('race_watch_events_total')}[$__rate_interval]))", "read"),
                Query(f"sum by (reason) (rate({s.raw('race_watch_events_lost_total')}[$__rate_interval]))", "lost: {{reason}}"),
            ],
            Look("ops"),
        ),
        graph(
            "Exports",
            "What became of incident lines and OTLP batches.",
            [
                Query(
                    f"sum by (exporter, outcome) (rate({s.raw('race_watch_exports_total')}[$__rate_interval]))",
                    "{{exporter}}: {{outcome}}",
                )
            ],
            Look("ops"),
        ),
    ]
