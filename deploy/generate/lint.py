"""Exceptions for grafana/dashboard-linter: which queries cannot be narrowed to a worker or a job, and why."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import yaml

from deploy.generate.panels import Json

# Levels of recorded series that are above a worker. `ALERTS` has the labels of the alerts, which are those of a job.
_NO_INSTANCE = re.compile(r"\b(job\w*|signature):|\bALERTS\b")
_NO_JOB = re.compile(r"\bsignature:")
_RULES = {
    "target-instance-rule": (
        _NO_INSTANCE,
        "Recorded sums over all workers of a job, so that a board does not read every worker; they have no instance.",
    ),
    "target-job-rule": (_NO_JOB, "The catalogue of known races, which is the same for every job."),
}


def exceptions(boards: Mapping[str, Json]) -> str:
    """The content of dashboards/.lint."""
    found = {
        rule: {"reason": reason, "entries": [entry for board in boards.values() for entry in _entries(board, pattern)]}
        for rule, (pattern, reason) in _RULES.items()
    }
    return yaml.safe_dump({"exclusions": found}, sort_keys=False, width=1000)


def _entries(board: Json, pattern: re.Pattern[str]) -> Iterator[dict[str, str]]:
    panels = [inner for panel in board["panels"] for inner in (panel, *panel.get("panels", ()))]
    for panel in panels:
        for place, target in enumerate(panel.get("targets", ())):
            if pattern.search(target["expr"]):
                yield {"dashboard": board["title"], "panel": panel["title"], "targetIdx": str(place)}
