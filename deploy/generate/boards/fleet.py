"""Fleet: what goes wrong, where, in which versions, and whether anything is about to run out."""

from __future__ import annotations

from deploy.generate import known_races
from deploy.generate.boards import growth
from deploy.generate.boards.drilldown import KNOWN, incident_columns, race_column, worker_columns
from deploy.generate.frame import KEPT, Selectors, dashboard, variables, version_changes
from deploy.generate.options import Options
from deploy.generate.panels import YELLOW, Column, Json, Look, Panel, Query, Row, bad_from, graph, link, stat, table
from deploy.generate.recording import total


def board(options: Options) -> Json:
    """The board as JSON."""
    s = Selectors(options)
    rows = [
        Row("Now", [*_presence(s), *_trouble(s, options)]),
        Row("Incidents", _incidents(s, options)),
        Row("Versions in the field against known races", _versions(s, options)),
        Row("Ends of processes", _ends(s, options)),
        Row("Growth and limits", growth.of_fleet(s, options)),
        Row("Workers with the most incidents", _workers(s, options)),
    ]
    about = "All workers that race_watch watches: incidents by race and version, ends of processes, growth."
    return dashboard(options, "fleet", "race_watch / Fleet", about, rows, variables(options), [version_changes(s)])


def _presence(s: Selectors) -> list[Panel]:
    firing = s.recorded("ALERTS", 'alertname=~"RaceWatch.*", alertstate="firing", severity!="info"')
    alerts = link("Alerts", "/alerting/list?search=RaceWatch")
    counted = {
        "Workers": ("job:race_watch_workers:count", "Workers whose watcher reports."),
        "Rooms": ("job:race_watch_rooms:sum", "Rooms that are connected."),
        "Participants": ("job:race_watch_participants:sum", "Remote participants in those rooms."),
    }
    return [
        stat(
            "Firing alerts",
            "Alerts of race_watch that fire, without those that are only for information.",
            f"count({firing}) or vector(0)",
            Look("none", bad_from(1), links=(alerts,)),
        ),
        *(
            stat(title, what, f"sum({s.recorded(recorded)})", Look("none"), width=2)
            for title, (recorded, what) in counted.items()
        ),
    ]


def _trouble(s: Selectors, options: Options) -> list[Panel]:
    rate = "job_signature:race_watch_incidents:rate5m"
    incidents = s.recorded(rate, 'verdict!="benign"')
    unnamed = s.recorded(rate, 'verdict!="benign", signature="unclassified"')
    lost, begun = s.recorded("job:race_watch_sessions_lost:rate5m"), s.recorded("job:race_watch_sessions:rate5m")
    counted = Look("none", bad_from(1, YELLOW), decimals=0)
    return [
        stat(
            "Incidents",
            "Incidents in the time range, harmless ones left out: one failure in one room is one, however often it repeats.",
            f"sum({total(incidents, '$__range')})",
            counted,
            spark=False,
        ),
        stat(
            "Without a name",
            "Of these, incidents that no signature names: races that nobody has reported yet, or failures of the application.",
            f"sum({total(unnamed, '$__range')})",
            counted,
            spark=False,
        ),
        stat(
            "Sessions lost",
            "Share of the sessions of the time range that the end of their process cut off. "
            f"The objective allows {1 - options.objective:.2%}.",
            f"sum({total(lost, '$__range')}) / sum({total(begun, '$__range')})",
            Look("percentunit", bad_from(1 - options.objective), decimals=2),
            spark=False,
        ),
        *_limits(s, options),
    ]


def _limits(s: Selectors, options: Options) -> list[Panel]:
    return [
        stat(
            "To the limit",
            "Time until the first process of the fleet runs out of file descriptors, at the rate at which they grow.",
            f"min({s.recorded('job:race_watch_time_to_fd_limit_seconds:min')}) < +Inf",
            growth.time_left(options),
            none="no growth",
        ),
        stat(
            "Blind spots",
            "Processes with LiveKit in them that are not watched, plus hooks that are switched off.",
            f"sum({s.raw('race_watch_processes_missing')}) + sum({s.raw('race_watch_hooks_off')})",
            Look("none", bad_from(1, YELLOW), links=(link("race_watch itself", f"/d/race-watch-itself?{KEPT}"),)),
        ),
    ]


def _incidents(s: Selectors, options: Options) -> list[Panel]:
    harmful = s.recorded("job_signature:race_watch_incidents:rate5m", 'verdict!="benign"')
    every = s.recorded("job_signature:race_watch_incidents:rate5m")
    by_version = s.recorded("job_version:race_watch_incidents:rate5m")
    labels = "category, verdict, signature"
    info = f"max by (signature, {KNOWN}) ({known_races.INFO})"
    return [
        graph(
            "Incidents per hour, by race",
            "By signature; unclassified is what no known race explains. Harmless incidents are left out.",
            [Query(f"sum by (signature) (avg_over_time({harmful}[$__rate_interval])) * 3600 > 0", "{{signature}}")],
            Look("short"),
            stacked=True,
            bars=True,
            recorded=True,
        ),
        graph(
            "Incidents per hour, by version of livekit",
            "The same by the version in the worker; several while a worker is between two. An upgrade that helps shows here.",
            [Query(f"sum by (livekit) (avg_over_time({by_version}[$__rate_interval])) * 3600", "livekit {{livekit}}")],
            Look("short"),
            stacked=True,
            bars=True,
            recorded=True,
        ),
        table(
            "Races of this time range",
            "Every kind of incident that there was, harmless ones too, with what is known of it. Click one for its own board.",
            f"sum by ({labels}) ({total(every, '$__range')}) * on (signature) group_left ({KNOWN}) {info} > 0",
            incident_columns(options),
            height=9,
            sort="Incidents",
        ),
    ]


def _versions(s: Selectors, options: Options) -> list[Panel]:
    builds = s.recorded("job_build:race_watch_workers:count")
    return [
        table(
            "Versions in the field",
            "Workers by what they run; a worker that is between two versions counts under both.",
            f"sum by (job, livekit, livekit_agents, python, version) ({builds})",
            [
                Column("job", "Job"),
                Column("livekit", "livekit"),
                Column("livekit_agents", "livekit-agents"),
                Column("python", "Python"),
                Column("version", "race_watch"),
                Column("Value", "Workers", "none"),
            ],
            width=10,
            sort="Workers",
        ),
        _affected(s, options),
        graph(
            "Workers by version of livekit",
            "How far a rollout is.",
            [Query(f"sum by (livekit) ({builds})", "livekit {{livekit}}")],
            Look("none"),
            stacked=True,
            recorded=True,
        ),
        _in_the_field(s),
    ]


def _affected(s: Selectors, options: Options) -> Panel:
    affected, title = s.recorded(known_races.AFFECTED), f"max by (signature, title) ({known_races.INFO})"
    return table(
        "Known races that these versions have",
        "Each known race of a version that is in the field, whether it has happened or not. Upgrading to Fixed in ends it.",
        f"sum by (package, sdk_version, signature, fixed_in) ({affected}) * on (signature) group_left (title) {title}",
        [
            Column("package", "Package"),
            Column("sdk_version", "Version"),
            race_column(options),
            Column("title", "What it is"),
            Column("fixed_in", "Fixed in"),
            Column("Value", "Workers", "none"),
        ],
        width=14,
        sort="Fixed in",
    )


def _in_the_field(s: Selectors) -> Panel:
    fixed, unfixed = s.recorded(known_races.AFFECTED, 'fixed_in!=""'), s.recorded(known_races.AFFECTED, 'fixed_in=""')
    return graph(
        "Known races in the field",
        "Races that a newer release fixes, and races that none does, in the versions that run.",
        [
            Query(f"count(sum by (signature) ({fixed})) or vector(0)", "a release fixes it"),
            Query(f"count(sum by (signature) ({unfixed})) or vector(0)", "no release fixes it"),
        ],
        Look("none"),
        recorded=True,
    )


def _ends(s: Selectors, options: Options) -> list[Panel]:
    ended = s.recorded("job_reason:race_watch_process_ended:rate5m", 'reason!~"clean|terminated"')
    lost = s.recorded("job_reason:race_watch_sessions_lost:rate5m")
    share = f"sum({s.recorded('job:race_watch_sessions_lost:rate1h')}) / sum({s.recorded('job:race_watch_sessions:rate1h')})"
    return [
        graph(
            "Ends of processes per hour, by reason",
            "Without clean ends and ends by a signal from outside, of which any deployment has many.",
            [Query(f"sum by (reason) (avg_over_time({ended}[$__rate_interval])) * 3600", "{{reason}}")],
            Look("short"),
            width=8,
            stacked=True,
            bars=True,
            recorded=True,
        ),
        graph(
            "Sessions lost per hour, by reason",
            "Rooms that were connected when their process ended otherwise than by itself.",
            [Query(f"sum by (reason) (avg_over_time({lost}[$__rate_interval])) * 3600", "{{reason}}")],
            Look("short"),
            width=8,
            stacked=True,
            bars=True,
            recorded=True,
        ),
        graph(
            "Share of sessions lost",
            "Over an hour, beside what the objective allows and beside the rate that pages.",
            [
                Query(share, "lost"),
                Query(f"vector({1 - options.objective:.6g})", "allowed"),
                Query(f"vector({14.4 * (1 - options.objective):.6g})", "pages"),
            ],
            Look("percentunit"),
            width=8,
            recorded=True,
        ),
    ]


def _workers(s: Selectors, options: Options) -> list[Panel]:
    incidents = s.raw("instance:race_watch_incidents:rate5m")
    return [
        table(
            "Workers with the most incidents",
            "Incidents of the time range by worker, harmless ones left out. Click one for its own board.",
            f"topk(20, sum by ({options.worker}) ({total(incidents, '$__range')})) > 0",
            worker_columns(Column("Value", "Incidents", "none", decimals=0)),
            sort="Incidents",
        )
    ]
