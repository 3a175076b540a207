"""Growth: what departures leave behind, and how long it goes well; of the fleet and of one worker."""

from __future__ import annotations

from deploy.generate.boards.drilldown import worker_columns
from deploy.generate.frame import Selectors
from deploy.generate.options import Options
from deploy.generate.panels import GREEN, RED, YELLOW, Column, Look, Panel, Query, graph, table

# Unit of the growth -> title of what is left behind by it.
_UNITS = {
    "participant": "Left behind by each participant who is gone",
    "room": "Left behind by each room that is over",
}
_MOST = "By resource, of the worker where it is most; only where it is sure to be above nothing."
_ESTIMATE = "By resource, in the process where it is most, with the lower bound of the estimate: above 0 it is sure to grow."


def time_left(options: Options) -> Look:
    """Of a time until descriptors run out: red and yellow where the alerts are."""
    steps = ((None, RED), (options.fd_hours_page * 3600, YELLOW), (options.fd_hours_ticket * 3600, GREEN))
    return Look("s", steps, decimals=0)


def of_fleet(s: Selectors, options: Options) -> list[Panel]:
    growing = s.recorded("job_resource:race_watch_growing_workers:count")
    handles, people = s.raw("race_watch_ffi_handles"), s.recorded("job:race_watch_participants:sum")
    return [
        *(_most(s, unit) for unit in _UNITS),
        graph(
            "Workers in which something grows",
            "By resource and by what it grows with.",
            [Query(f"sum by (resource, unit) ({growing})", "{{resource}}, with each {{unit}}")],
            Look("none"),
            width=8,
            recorded=True,
        ),
        graph(
            "Native handles of the fleet",
            "By kind, beside the participants who are there: what grows while they do not is left behind.",
            [Query(f"sum by (kind) ({handles})", "{{kind}}"), Query(f"sum({people})", "participants")],
            Look("short"),
        ),
        table(
            "Workers nearest to their limit of descriptors",
            "By the time that is left at the rate at which they grow; those that do not grow are left out.",
            f"bottomk(10, min by ({options.worker}) ({s.raw('race_watch_time_to_fd_limit_seconds')} < +Inf))",
            worker_columns(Column("Value", "Time left", "s", decimals=0)),
            width=12,
        ),
    ]


def of_worker(s: Selectors) -> list[Panel]:
    rooms, people = s.raw("race_watch_rooms"), s.raw("race_watch_participants")
    return [
        graph(
            "Rooms and participants",
            "What is connected now. What follows should go up and down with it.",
            [Query(f"sum({rooms})", "rooms"), Query(f"sum({people})", "remote participants")],
            Look("none"),
            width=8,
        ),
        *(_estimate(s, unit) for unit in _UNITS),
        *_held(s),
    ]


def _most(s: Selectors, unit: str) -> Panel:
    grown = s.recorded("job_resource:race_watch_growth:max", f'unit="{unit}"')
    queries = [Query(f"max by (resource) ({grown})", "{{resource}}")]
    return graph(_UNITS[unit], _MOST, queries, Look("short"), width=8, recorded=True)


def _estimate(s: Selectors, unit: str) -> Panel:
    value, low = s.raw("race_watch_growth", f'unit="{unit}"'), s.raw("race_watch_growth_low", f'unit="{unit}"')
    queries = [
        Query(f"max by (resource) ({value})", "{{resource}}"),
        Query(f"max by (resource) ({low})", "{{resource}}, at least"),
    ]
    return graph(_UNITS[unit], _ESTIMATE, queries, Look("short"), width=8)


def _held(s: Selectors) -> list[Panel]:
    by_kind = {
        "Native handles, by kind": (
            "race_watch_ffi_handles",
            "Live handles of LiveKit's native library. They belong to rooms, tracks and streams that live.",
        ),
        "Descriptors, by kind": (
            "race_watch_open_fds",
            "Open file descriptors of the processes in a room, and of those measured from outside; unknown is what has come "
            "since the last close look.",
        ),
        "Threads, by kind": (
            "race_watch_threads",
            "Threads of those processes, by whose they are; unknown are those of processes measured from outside.",
        ),
    }
    return [
        *(
            graph(title, what, [Query(f"sum by (kind) ({s.raw(metric)})", "{{kind}}")], Look("none"), width=8, stacked=True)
            for title, (metric, what) in by_kind.items()
        ),
        graph(
            "Subscriptions of native events",
            "Queues that the SDK hands every native event to: a few for each room and stream that lives.",
            [Query(f"sum by (instance) ({s.raw('race_watch_ffi_subscriptions')})", "{{instance}}")],
            Look("none"),
            width=8,
        ),
        graph(
            "Limit of descriptors",
            "The lowest of the processes, beside what all of them have open.",
            [
                Query(f"min by (instance) ({s.raw('race_watch_fd_limit')})", "{{instance}}: limit of a process"),
                Query(f"sum by (instance) ({s.raw('race_watch_open_fds')})", "{{instance}}: open in all"),
            ],
            Look("none"),
            width=8,
        ),
        graph(
            "Memory, measured from outside",
            "Resident memory of processes that race_watch is not in: those of a Node worker, say.",
            [Query(f"sum by (instance) ({s.raw('race_watch_measured_resident_memory_bytes')})", "{{instance}}")],
            Look("bytes"),
            width=8,
        ),
    ]
