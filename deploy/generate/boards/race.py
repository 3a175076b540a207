"""Race: one signature. How often, where, in which versions, what it is, and the traces of it."""

from __future__ import annotations

from deploy.generate import known_races
from deploy.generate.boards.drilldown import UPSTREAM, runbook, worker_columns
from deploy.generate.frame import Selectors, choice, dashboard, variables, version_changes
from deploy.generate.options import Options
from deploy.generate.panels import YELLOW, Column, Json, Look, Panel, Query, Row, bad_from, graph, stat, table
from deploy.generate.recording import total

_THIS = 'signature="$signature"'


def board(options: Options) -> Json:
    """The board as JSON."""
    s = Selectors(options)
    rows = [
        Row("What it is", _head(s, options)),
        Row("How often", _rate(s)),
        Row("In which versions", _versions(s)),
        Row("Where", _where(s, options)),
    ]
    signature = choice("signature", f"label_values({s.recorded('job_signature:race_watch_incidents:rate5m')}, signature)")
    about = (
        "One race: how often it happens, in which versions and workers, with its runbook, its upstream issue and its traces."
    )
    return dashboard(
        options, "race", "race_watch / Race", about, rows, variables(options, more=[signature]), [version_changes(s)]
    )


def _head(s: Selectors, options: Options) -> list[Panel]:
    incidents = s.recorded("job_signature:race_watch_incidents:rate5m", _THIS)
    affected = s.recorded(known_races.AFFECTED, _THIS)
    info = f"{known_races.INFO}{{{_THIS}}}"
    return [
        table(
            "$signature",
            "From the catalogue of known races. Component is the place in LiveKit that the race is known by; for what has no "
            "name, the records at /incidents and the traces have it.",
            f"max by (signature, title, package, component, fixed_in, upstream, upstream_url) ({info})",
            [
                Column("title", "What it is", links=(runbook(options),)),
                Column("package", "Package"),
                Column("component", "Component"),
                Column("fixed_in", "Fixed in"),
                Column("upstream", "Upstream", links=(UPSTREAM,)),
                Column("signature", "Runbook", links=(runbook(options),)),
                Column("upstream_url", "upstream_url", hidden=True),
            ],
            width=15,
            height=4,
        ),
        stat(
            "Incidents",
            "In the time range: one failure in one room is one, however often it repeats.",
            f"sum({total(incidents, '$__range')})",
            Look("none", bad_from(1, YELLOW), decimals=0),
            spark=False,
        ),
        stat(
            "In a session",
            "Incidents for each session, over the last hour.",
            f"max({s.recorded('job_signature:race_watch_incidents:ratio1h', _THIS)})",
            Look("percentunit", bad_from(options.races_per_session, YELLOW), decimals=2),
        ),
        stat(
            "Workers that have it",
            "Workers whose version is known to have this race, whether it has happened or not.",
            f"sum({affected}) or vector(0)",
            Look("none", bad_from(1, YELLOW)),
        ),
    ]


def _rate(s: Selectors) -> list[Panel]:
    incidents = s.raw("race_watch_incidents_total", _THIS)
    occurrences, every = s.raw("race_watch_occurrences_total"), s.raw("race_watch_incidents_total")
    return [
        graph(
            "Incidents per hour, by form",
            "By category and verdict: a race can show in several forms, by version or because a fix hides it. "
            "Points are exemplars: they lead to the trace of an incident.",
            [
                Query(
                    f"sum by (category, verdict) (rate({incidents}[$__rate_interval])) * 3600",
                    "{{category}}, {{verdict}}",
                    exemplars=True,
                )
            ],
            Look("short"),
            width=16,
            height=9,
        ),
        graph(
            "Failures for each incident, by category",
            "How often a failure repeats in its room, in the categories that this race shows in; the other races of a category "
            "are in it. From one on upwards something tries again and again.",
            [
                Query(
                    f"sum by (category) (rate({occurrences}[$__rate_interval])) / "
                    f"(sum by (category) (rate({every}[$__rate_interval])) > 0) "
                    f"and on (category) sum by (category) (increase({incidents}[$__range])) > 0",
                    "{{category}}",
                )
            ],
            Look("short"),
            width=8,
            height=9,
        ),
    ]


def _versions(s: Selectors) -> list[Panel]:
    by_version = s.recorded("job_version:race_watch_incidents:rate5m", _THIS)
    affected = s.recorded(known_races.AFFECTED, _THIS)
    return [
        graph(
            "Incidents per hour, by version of livekit",
            "Harmless forms left out. In a version that has the race fixed there should be none.",
            [Query(f"sum by (livekit) (avg_over_time({by_version}[$__rate_interval])) * 3600", "livekit {{livekit}}")],
            Look("short"),
            stacked=True,
            bars=True,
            recorded=True,
        ),
        table(
            "Workers that have this race",
            "By the version they run. Where Fixed in is empty no release is without it.",
            f"sum by (job, package, sdk_version, fixed_in) ({affected})",
            [
                Column("job", "Job"),
                Column("package", "Package"),
                Column("sdk_version", "Version"),
                Column("fixed_in", "Fixed in"),
                Column("Value", "Workers", "none"),
            ],
            width=12,
            sort="Workers",
        ),
        graph(
            "Incidents in versions that have it fixed",
            "Per hour. Anything here is a regression or a variant of the race: report it upstream.",
            [
                Query(
                    f"sum by (category, fixed_in) ({s.recorded(known_races.REGRESSIONS, _THIS)}) * 3600",
                    "{{category}}, fixed in {{fixed_in}}",
                )
            ],
            Look("short"),
            width=24,
            height=6,
        ),
    ]


def _where(s: Selectors, options: Options) -> list[Panel]:
    recorded = s.recorded("job_signature:race_watch_incidents:rate5m", _THIS)
    incidents = s.raw("race_watch_incidents_total", _THIS)
    return [
        graph(
            "Incidents per hour, by job",
            "All forms, harmless ones too.",
            [Query(f"sum by (namespace, job) (avg_over_time({recorded}[$__rate_interval])) * 3600", "{{namespace}} {{job}}")],
            Look("short"),
            recorded=True,
        ),
        table(
            "Workers with the most incidents of it",
            "In the time range. Click one for its own board.",
            f"topk(20, round(sum by ({options.worker}) (increase({incidents}[$__range])))) > 0",
            worker_columns(Column("Value", "Incidents", "none")),
            width=12,
            sort="Incidents",
        ),
    ]
