"""The dashboards as files: the linter's rules, Grafana's needs, and that everything they name exists."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import promql
import pytest
import yaml
from boards import BOARDS, asked, filled, panels
from linter import BOARD_RULES, PANEL_RULES, TARGET_RULES, lint
from names import unknown_in
from prometheus_tools import DASHBOARDS

pytestmark = pytest.mark.one_python

EXCLUSIONS: dict[str, dict[str, Any]] = yaml.safe_load((DASHBOARDS / ".lint").read_text())["exclusions"]
every_board = pytest.mark.parametrize("name", BOARDS)
# What Grafana 11, 12 and 13 all have.
KINDS = {"row", "stat", "timeseries", "table"}
GLOBALS = {"__rate_interval", "__range", "__interval", "__url_time_range", "__data", "__all"}


def excused(rule: str, dashboard: str, panel: str, target: str) -> bool:
    entry = {"dashboard": dashboard, "panel": panel, "targetIdx": target}
    return entry in EXCLUSIONS.get(rule, {}).get("entries", [])


@every_board
def test_linter_has_nothing_to_say_but_what_has_a_reason(name: str) -> None:
    said = [c for c in lint(BOARDS[name]) if not excused(c.rule, c.dashboard, c.panel, c.target)]
    assert said == []


def test_every_exception_to_the_linter_has_a_reason_and_is_needed() -> None:
    said = {(c.rule, c.dashboard, c.panel, c.target) for board in BOARDS.values() for c in lint(board)}
    for rule, exclusion in EXCLUSIONS.items():
        assert len(exclusion["reason"].split()) > 5
        for entry in exclusion["entries"]:
            assert (rule, entry["dashboard"], entry["panel"], entry["targetIdx"]) in said, entry


def test_exceptions_are_for_recorded_series_only() -> None:
    for name, board in BOARDS.items():
        for panel in panels(board):
            for place, target in enumerate(panel["targets"]):
                if excused("target-instance-rule", board["title"], panel["title"], str(place)):
                    raw = [s for s in promql.selectors(filled(target["expr"])) if ":" not in s.name and s.name != "ALERTS"]
                    missing = [s for s in raw if not s.label("instance")]
                    assert missing == [], (name, panel["title"])


def a_panel(board: dict[str, Any], kind: str = "timeseries") -> dict[str, Any]:
    return next(panel for panel in panels(board) if panel["type"] == kind)


def broken(rule: str) -> Iterator[Callable[[dict[str, Any]], object]]:
    """Ways to break a rule."""

    def variable(board: dict[str, Any], name: str) -> dict[str, Any]:
        return next(v for v in board["templating"]["list"] if v["name"] == name)

    def ask(expr: str) -> Callable[[dict[str, Any]], object]:
        return lambda board: a_panel(board)["targets"][0].update(expr=expr)

    ways: dict[str, list[Callable[[dict[str, Any]], object]]] = {
        "template-datasource-rule": [lambda b: variable(b, "datasource").update(label="Source")],
        "template-job-rule": [lambda b: variable(b, "job").update(multi=False)],
        "template-instance-rule": [lambda b: variable(b, "instance").update(allValue=".*")],
        "template-label-promql-rule": [lambda b: variable(b, "job")["query"].update(query="label_values(x{, job)")],
        "template-on-time-change-reload-rule": [lambda b: variable(b, "job").update(refresh=1)],
        "uneditable-dashboard": [lambda b: b.update(editable=True)],
        "panel-datasource-rule": [lambda b: a_panel(b)["datasource"].update(uid="abc")],
        "panel-title-description-rule": [lambda b: a_panel(b).update(description="")],
        "panel-units-rule": [lambda b: a_panel(b)["fieldConfig"]["defaults"].update(unit="furlong")],
        "panel-no-targets-rule": [lambda b: a_panel(b).update(targets=[])],
        "target-promql-rule": [ask("sum(")],
        "target-rate-interval-rule": [ask('sum(rate(x_total{job=~"$job", instance=~"$instance"}[5m]))')],
        "target-job-rule": [ask('x{instance=~"$instance"}')],
        "target-instance-rule": [ask('x{job=~"$job"}')],
        "target-counter-agg-rule": [
            ask('sum(x_total{job=~"$job", instance=~"$instance"})'),
            ask('max_over_time(x_total{job=~"$job", instance=~"$instance"}[$__range])'),
        ],
    }
    yield from ways[rule]


@pytest.mark.parametrize("rule", [*BOARD_RULES, *PANEL_RULES, *TARGET_RULES])
def test_linter_sees_what_breaks_the_rule(rule: str) -> None:
    for way in broken(rule):
        board = copy.deepcopy(BOARDS["worker"])
        way(board)
        said = {c.rule for c in lint(board) if not excused(c.rule, c.dashboard, c.panel, c.target)}
        assert said == {rule}


@every_board
def test_ids_are_unique_and_panels_do_not_overlap(name: str) -> None:
    every = [panel for panel in BOARDS[name]["panels"] for panel in (panel, *panel.get("panels", ()))]
    assert len({panel["id"] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert all(0 <= x < 24 for x, _ in cells), panel["title"]
        taken |= cells


@every_board
def test_rows_are_filled_to_their_width(name: str) -> None:
    lines: dict[int, int] = {}
    for panel in panels(BOARDS[name]):
        lines[panel["gridPos"]["y"]] = lines.get(panel["gridPos"]["y"], 0) + panel["gridPos"]["w"]
    assert {y: width for y, width in lines.items() if width != 24} == {}


def test_boards_have_fixed_addresses_and_one_tag() -> None:
    assert [board["uid"] for board in BOARDS.values()] == [
        "race-watch-fleet",
        "race-watch-race",
        "race-watch-itself",
        "race-watch-worker",
    ]
    assert all(board["tags"] == ["race-watch"] for board in BOARDS.values())


@every_board
def test_board_is_what_grafana_11_to_13_read(name: str) -> None:
    board = BOARDS[name]
    assert board["schemaVersion"] <= 41
    assert {panel["type"] for panel in board["panels"]} | {panel["type"] for panel in panels(board)} <= KINDS
    assert board["timezone"] == "utc"
    assert board["description"]


@every_board
def test_every_variable_that_is_used_is_there_and_every_one_there_is_used(name: str) -> None:
    board = BOARDS[name]
    known = {variable["name"] for variable in board["templating"]["list"]}
    used: set[str] = set()

    def look(value: object) -> None:
        if isinstance(value, str):
            used.update(found for found in re.findall(r"\$\{?(\w+)", value))
        elif isinstance(value, dict):
            for inner in value.values():
                look(inner)
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    look(board["panels"])
    look(board["annotations"])
    look(board["templating"])
    assert used - GLOBALS - known == set()
    assert known - used == set()


def links(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if "targetBlank" in value and value.get("url"):
            yield value["url"]
        for inner in value.values():
            yield from links(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from links(inner)


@every_board
def test_links_lead_to_boards_that_exist_and_set_variables_that_they_have(name: str) -> None:
    known = {board["uid"]: {variable["name"] for variable in board["templating"]["list"]} for board in BOARDS.values()}
    found = [url for url in links(BOARDS[name]) if url.startswith("/d/")]
    for url in found:
        uid, _, query = url.removeprefix("/d/").partition("?")
        assert set(re.findall(r"var-(\w+)=", query)) <= known[uid]
        assert "${datasource:queryparam}" in query


@every_board
def test_fields_that_links_and_columns_use_are_labels_of_their_query(name: str) -> None:
    for panel in panels(BOARDS[name]):
        if panel["type"] == "table":
            expr = panel["targets"][0]["expr"]
            fields = set(panel["transformations"][0]["options"]["include"]["names"]) - {"Value"}
            assert fields <= promql.labels(expr), panel["title"]
            used = {field for url in links(panel) for field in re.findall(r"__data\.fields\.(\w+)", url)}
            assert used <= fields, panel["title"]


@every_board
def test_queries_use_metrics_and_labels_that_exist(name: str) -> None:
    for query in asked(name):
        assert unknown_in(filled(query.expr)) == [], query.where


@every_board
def test_rates_that_carry_exemplars_are_graphs_of_counters_that_have_them(name: str) -> None:
    for panel in panels(BOARDS[name]):
        for target in panel["targets"]:
            if target.get("exemplar"):
                assert panel["type"] == "timeseries"
                names = {selector.name for selector in promql.selectors(filled(target["expr"]))}
                assert names == {"race_watch_incidents_total"}


def test_race_and_worker_have_exemplars() -> None:
    shown = {name for name in BOARDS for query in asked(name) if query.exemplars}
    assert shown == {"race", "worker"}


@every_board
def test_new_versions_are_marked(name: str) -> None:
    assert "New versions" in [annotation["name"] for annotation in BOARDS[name]["annotations"]["list"]]
