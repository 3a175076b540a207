"""Fleet: what goes wrong, where, in which versions, and whether anything is about to run out."""

from __future__ import annotations

from deploy.generate import known_races
from deploy.generate.frame import KEPT, Selectors, dashboard, variables, version_changes
from deploy.generate.options import Options
from deploy.generate.panels import (
    GREEN,
    RED,
    YELLOW,
    Column,
    Json,
    Look,
    Panel,
    Query,
    Row,
    bad_from,
    graph,
    link,
    stat,
    table,
)
from deploy.generate.recording import total

_PER_PARTICIPANT, _PER_ROOM = 'unit="participant"', 'unit="room"'
TO_RACE = link("This race", f"/d/race-watch-race?var-signature=${{__data.fields.signature}}&{KEPT}")
TO_WORKER = link(
    "This worker", f"/d/race-watch-worker?var-job=${{__data.fields.job}}&var-instance=${{__data.fields.instance}}&{KEPT}"
)
UPSTREAM = link("Upstream", "${__data.fields.upstream_url}", elsewhere=True)


def runbook(options: Options) -> Json:
    return link("Runbook", f"{options.runbooks}/races/${{__data.fields.signature}}.md", elsewhere=True)


def time_left(options: Options) -> Look:
    """Of a time until descriptors run out: red and yellow where the alerts are."""
    steps = ((None, RED), (options.fd_hours_page * 3600, YELLOW), (options.fd_hours_ticket * 3600, GREEN))
    return Look("s", steps, decimals=0)


def board(options: Options) -> Json:
    """The board as JSON."""
    s = Selectors(options)
    rows = [
        Row("Now", _strip(s, options)),
        Row("Incidents", _incidents(s, options)),
        Row("Versions in the field against known races", _versions(s, options)),
        Row("Ends of processes", _ends(s, options)),
        Row("Growth and limits", _growth(s, options)),
        Row("Workers with the most incidents", _workers(s, options)),
    ]
    about = "All workers that race_watch watches: incidents by race and version, ends of processes, growth."
    return dashboard(options, "fleet", "race_watch / Fleet", about, rows, variables(options), [version_changes(s)])


def _strip(s: Selectors, options: Options) -> list[Panel]:
    incidents = s.recorded("job_signature:race_watch_incidents:rate5m", 'verdict!="benign"')
    unnamed = s.recorded("job_signature:race_watch_incidents:rate5m", 'verdict!="benign", signature="unclassified"')
    lost = s.recorded("job:race_watch_sessions_lost:rate5m")
    begun = s.recorded("job:race_watch_sessions:rate5m")
    firing = s.recorded("ALERTS", 'alertname=~"RaceWatch.*", alertstate="firing", severity!="info"')
    alerts = link("Alerts", "/alerting/list?search=RaceWatch")
    return [
        stat(
            "Firing alerts",
            "Alerts of race_watch that fire, without those that are only for information.",
            f"count({firing}) or vector(0)",
            Look("none", bad_from(1), links=(alerts,)),
        ),
        stat(
            "Workers",
            "Workers whose watcher reports.",
            f"sum({s.recorded('job:race_watch_workers:count')})",
            Look("none"),
            width=2,
        ),
        stat(
            "Rooms",
            "Rooms that are connected.",
            f"sum({s.recorded('job:race_watch_rooms:sum')})",
            Look("none"),
            width=2,
        ),
        stat(
            "Participants",
            "Remote participants in those rooms.",
            f"sum({s.recorded('job:race_watch_participants:sum')})",
            Look("none"),
            width=2,
        ),
        stat(
            "Incidents",
            "Incidents in the time range, harmless ones left out: one failure in one room is one, however often it repeats.",
            f"sum({total(incidents, '$__range')})",
            Look("none", bad_from(1, YELLOW), decimals=0),
            spark=False,
        ),
        stat(
            "Without a name",
            "Of these, incidents that no signature names: races that nobody has reported yet, or failures of the application.",
            f"sum({total(unnamed, '$__range')})",
            Look("none", bad_from(1, YELLOW), decimals=0),
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
        stat(
            "To the limit",
            "Time until the first process of the fleet runs out of file descriptors, at the rate at which they grow.",
            f"min({s.recorded('job:race_watch_time_to_fd_limit_seconds:min')}) < +Inf",
            time_left(options),
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
    known = "title, upstream, upstream_url, fixed_in"
    info = f"max by (signature, {known}) ({known_races.INFO})"
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
            f"sum by ({labels}) ({total(every, '$__range')}) * on (signature) group_left ({known}) {info} > 0",
            [
                Column("signature", "Race", links=(TO_RACE, runbook(options))),
                Column("title", "What it is"),
                Column("category", "Category"),
                Column("verdict", "Whose fault"),
                Column("Value", "Incidents", "none", decimals=0),
                Column("fixed_in", "Fixed in"),
                Column("upstream", "Upstream", links=(UPSTREAM,)),
                Column("upstream_url", "upstream_url", hidden=True),
            ],
            height=9,
            sort="Incidents",
        ),
    ]


def _versions(s: Selectors, options: Options) -> list[Panel]:
    builds = s.recorded("job_build:race_watch_workers:count")
    affected = s.recorded(known_races.AFFECTED)
    fixed, unfixed = s.recorded(known_races.AFFECTED, 'fixed_in!=""'), s.recorded(known_races.AFFECTED, 'fixed_in=""')
    title = f"max by (signature, title) ({known_races.INFO})"
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
        table(
            "Known races that these versions have",
            "Each known race of a version that is in the field, whether it has happened or not. Upgrading to Fixed in ends it.",
            f"sum by (package, sdk_version, signature, fixed_in) ({affected}) * on (signature) group_left (title) {title}",
            [
                Column("package", "Package"),
                Column("sdk_version", "Version"),
                Column("signature", "Race", links=(TO_RACE, runbook(options))),
                Column("title", "What it is"),
                Column("fixed_in", "Fixed in"),
                Column("Value", "Workers", "none"),
            ],
            width=14,
            sort="Fixed in",
        ),
        graph(
            "Workers by version of livekit",
            "How far a rollout is.",
            [Query(f"sum by (livekit) ({builds})", "livekit {{livekit}}")],
            Look("none"),
            stacked=True,
            recorded=True,
        ),
        graph(
            "Known races in the field",
            "Races that a newer release fixes, and races that none does, in the versions that run.",
            [
                Query(f"count(sum by (signature) ({fixed})) or vector(0)", "a release fixes it"),
                Query(f"count(sum by (signature) ({unfixed})) or vector(0)", "no release fixes it"),
            ],
            Look("none"),
            recorded=True,
        ),
    ]


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


def _growth(s: Selectors, options: Options) -> list[Panel]:
    grown = "job_resource:race_watch_growth:max"
    growing = s.recorded("job_resource:race_watch_growing_workers:count")
    handles, people = s.raw("race_watch_ffi_handles"), s.recorded("job:race_watch_participants:sum")
    return [
        graph(
            "Left behind by each participant who is gone",
            "By resource, of the worker where it is most; only where it is sure to be above nothing.",
            [Query(f"max by (resource) ({s.recorded(grown, _PER_PARTICIPANT)})", "{{resource}}")],
            Look("short"),
            width=8,
            recorded=True,
        ),
        graph(
            "Left behind by each room that is over",
            "By resource, of the worker where it is most; only where it is sure to be above nothing.",
            [Query(f"max by (resource) ({s.recorded(grown, _PER_ROOM)})", "{{resource}}")],
            Look("short"),
            width=8,
            recorded=True,
        ),
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
            _worker_columns(Column("Value", "Time left", "s", decimals=0)),
            width=12,
        ),
    ]


def _workers(s: Selectors, options: Options) -> list[Panel]:
    incidents = s.raw("instance:race_watch_incidents:rate5m")
    return [
        table(
            "Workers with the most incidents",
            "Incidents of the time range by worker, harmless ones left out. Click one for its own board.",
            f"topk(20, sum by ({options.worker}) ({total(incidents, '$__range')})) > 0",
            _worker_columns(Column("Value", "Incidents", "none", decimals=0)),
            sort="Incidents",
        )
    ]


def _worker_columns(*values: Column) -> list[Column]:
    return [
        Column("instance", "Worker", links=(TO_WORKER,)),
        Column("pod", "Pod"),
        Column("namespace", "Namespace"),
        Column("job", "Job"),
        *values,
    ]
