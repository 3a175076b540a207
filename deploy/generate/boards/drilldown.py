"""What leads from one board to another, to a runbook and to the upstream report, and the columns that carry it."""

from __future__ import annotations

from deploy.generate.frame import KEPT
from deploy.generate.options import Options
from deploy.generate.panels import Column, Json, link

TO_WORKER = link(
    "This worker", f"/d/race-watch-worker?var-job=${{__data.fields.job}}&var-instance=${{__data.fields.instance}}&{KEPT}"
)
UPSTREAM = link("Upstream", "${__data.fields.upstream_url}", elsewhere=True)
_TO_RACE = link("This race", f"/d/race-watch-race?var-signature=${{__data.fields.signature}}&{KEPT}")
# Labels of the catalogue of known races that a list of incidents takes over.
KNOWN = "title, upstream, upstream_url, fixed_in"


def runbook(options: Options) -> Json:
    """To the page of the race in the same row."""
    return link("Runbook", f"{options.runbooks}/races/${{__data.fields.signature}}.md", elsewhere=True)


def race_column(options: Options) -> Column:
    """A race by its signature."""
    return Column("signature", "Race", links=(_TO_RACE, runbook(options)))


def incident_columns(options: Options) -> list[Column]:
    """Of incidents by category, verdict and signature, with what `KNOWN` says of them."""
    return [
        race_column(options),
        Column("title", "What it is"),
        Column("category", "Category"),
        Column("verdict", "Whose fault"),
        Column("Value", "Incidents", "none", decimals=0),
        Column("fixed_in", "Fixed in"),
        Column("upstream", "Upstream", links=(UPSTREAM,)),
        Column("upstream_url", "upstream_url", hidden=True),
    ]


def worker_columns(value: Column) -> list[Column]:
    """Of one value by worker."""
    return [
        Column("instance", "Worker", links=(TO_WORKER,)),
        Column("pod", "Pod"),
        Column("namespace", "Namespace"),
        Column("job", "Job"),
        value,
    ]
