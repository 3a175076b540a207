"""The rules of grafana/dashboard-linter v0.2.0, restated: each gives what it complains of.

Held against the linter itself, it complains of the same in our boards. Two rules are stricter: the linter's see no counter that
has matchers, and no panel whose list of queries is empty.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import promql
from boards import panels

Board = dict[str, Any]
# Kinds that the linter looks at.
_SHOWN = ("stat", "timeseries", "table", "gauge")
# Those of Grafana's units (packages/grafana-data/src/valueFormats/categories.ts) that our boards may use.
_UNITS = {
    "none",
    "short",
    "percent",
    "percentunit",
    "bytes",
    "decbytes",
    "Bps",
    "s",
    "ms",
    "h",
    "d",
    "ops",
    "cps",
    "dateTimeAsIso",
}
_DATASOURCES = ("$datasource", "${datasource}")
# What keeps a query parsable.
_SUBSTITUTES = {"$__rate_interval": "4m", "$__range": "6h", "$__interval": "1m"}


@dataclass(frozen=True)
class Complaint:
    rule: str
    dashboard: str
    panel: str = ""
    target: str = ""
    what: str = ""


def lint(board: Board) -> list[Complaint]:
    """What all rules complain of."""
    found = []
    for rule, check in BOARD_RULES.items():
        found += [Complaint(rule, board["title"], what=what) for what in check(board)]
    for panel in panels(board):
        for rule, check in PANEL_RULES.items():
            found += [Complaint(rule, board["title"], panel["title"], what=what) for what in check(panel)]
        for place, target in enumerate(panel.get("targets", [])):
            for rule, check_query in TARGET_RULES.items():
                said = check_query(target["expr"])
                found += [Complaint(rule, board["title"], panel["title"], str(place), what) for what in said]
    return found


def _variable(board: Board, name: str) -> dict[str, Any] | None:
    return next((variable for variable in board["templating"]["list"] if variable["name"] == name), None)


def _template_datasource(board: Board) -> Iterator[str]:
    found = [variable for variable in board["templating"]["list"] if variable["type"] == "datasource"]
    if [(v["name"], v["label"], v["query"]) for v in found] != [("datasource", "Data source", "prometheus")]:
        yield f"data sources are {found}"


def _template(name: str) -> Callable[[Board], Iterator[str]]:
    def check(board: Board) -> Iterator[str]:
        variable = _variable(board, name)
        if variable is None:
            yield "missing"
            return
        expected = {"type": "query", "label": name.title(), "multi": True, "allValue": ".+"}
        for key, value in expected.items():
            if variable[key] != value:
                yield f"{key} is {variable[key]!r}"
        if variable["datasource"]["uid"] not in _DATASOURCES:
            yield "not of the data source variable"

    return check


def _queried(board: Board) -> list[dict[str, Any]]:
    return [variable for variable in board["templating"]["list"] if variable["type"] == "query"]


def _template_label_promql(board: Board) -> Iterator[str]:
    for variable in _queried(board):
        parts = re.fullmatch(r"(label_names|label_values|metrics|query_result)\((.+)\)", variable["query"]["query"])
        if parts is None:
            yield variable["query"]["query"]
        else:
            yield from _unparsable(parts[2].rpartition(", ")[0])


def _template_reload(board: Board) -> Iterator[str]:
    yield from (variable["name"] for variable in _queried(board) if variable["refresh"] != 2)


def _uneditable(board: Board) -> Iterator[str]:
    if board["editable"] is not False:
        yield "editable"


def _panel_datasource(panel: dict[str, Any]) -> Iterator[str]:
    if panel["type"] in _SHOWN:
        uids = [panel["datasource"]["uid"], *(target["datasource"]["uid"] for target in panel["targets"])]
        yield from (uid for uid in uids if uid not in _DATASOURCES)


def _panel_title_description(panel: dict[str, Any]) -> Iterator[str]:
    if panel["type"] in _SHOWN and not (panel["title"] and panel["description"]):
        yield "no title or no description"


def _panel_units(panel: dict[str, Any]) -> Iterator[str]:
    if panel["type"] in _SHOWN:
        overrides = [prop for override in panel["fieldConfig"]["overrides"] for prop in override["properties"]]
        units = [panel["fieldConfig"]["defaults"].get("unit"), *(prop["value"] for prop in overrides if prop["id"] == "unit")]
        yield from (repr(unit) for unit in units if unit not in _UNITS)


def _panel_no_targets(panel: dict[str, Any]) -> Iterator[str]:
    if panel["type"] in _SHOWN and not panel.get("targets"):
        yield "no query"


def _expanded(expr: str) -> str:
    for name, value in _SUBSTITUTES.items():
        expr = expr.replace(name, value)
    return expr


def _unparsable(expr: str) -> Iterator[str]:
    try:
        promql.parse(_expanded(expr))
    except ValueError as error:
        yield f"{expr}: {error}"


def _selectors(expr: str) -> list[promql.Selector]:
    """None of a query that cannot be parsed: that is another rule's."""
    return [] if list(_unparsable(expr)) else promql.selectors(_expanded(expr))


def _rate_interval(expr: str) -> Iterator[str]:
    for window in re.findall(r"\b(?:i?rate)\([^()]*\[([^\]]+)\]", expr):
        if window != "$__rate_interval":
            yield window


def _required(label: str) -> Callable[[str], Iterator[str]]:
    def check(expr: str) -> Iterator[str]:
        for selector in _selectors(expr):
            if selector.label(label) != f"=~${label}":
                yield selector.name

    return check


def _counter_aggregated(expr: str) -> Iterator[str]:
    for selector in _selectors(expr):
        rated = selector.ranged and selector.above[:1] in (("rate",), ("irate",), ("increase",))
        if selector.name.endswith("_total") and not rated:
            yield selector.name


BOARD_RULES: dict[str, Callable[[Board], Iterator[str]]] = {
    "template-datasource-rule": _template_datasource,
    "template-job-rule": _template("job"),
    "template-instance-rule": _template("instance"),
    "template-label-promql-rule": _template_label_promql,
    "template-on-time-change-reload-rule": _template_reload,
    "uneditable-dashboard": _uneditable,
}
PANEL_RULES: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "panel-datasource-rule": _panel_datasource,
    "panel-title-description-rule": _panel_title_description,
    "panel-units-rule": _panel_units,
    "panel-no-targets-rule": _panel_no_targets,
}
# Those of Loki's queries (target-logql-rule, target-logql-auto-rule) hold: there are none.
TARGET_RULES: dict[str, Callable[[str], Iterator[str]]] = {
    "target-promql-rule": _unparsable,
    "target-rate-interval-rule": _rate_interval,
    "target-job-rule": _required("job"),
    "target-instance-rule": _required("instance"),
    "target-counter-agg-rule": _counter_aggregated,
}
