"""The rules: promtool's checks and unit tests, one of each kind for every rule, and that everything they name exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from boards import BOARDS
from names import unknown_in
from prometheus_tools import PROMETHEUS, RULES, RUNBOOKS, needs, run
from rule_files import GROUPS, TESTS, alert_cases, expressions, input_series, is_of, only, rules

pytestmark = pytest.mark.one_python

ALERTS, RECORDS = rules("alert"), rules("record")
PREFIX = "https://example.com/race_watch/docs/runbooks/"
GRAFANA = "https://grafana.example.com/d/"


def of(rule: dict[str, Any]) -> str:
    return "-".join([rule["alert"], *(rule["labels"][label] for label in ("severity", "long") if label in rule["labels"])])


every_alert = pytest.mark.parametrize("alert", ALERTS, ids=of)


@needs("promtool")
def test_promtool_finds_nothing_wrong() -> None:
    checked = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert (checked.returncode, "SUCCESS" in checked.stdout) == (0, True), checked.stdout + checked.stderr
    configured = run("promtool", "check", "config", PROMETHEUS / "prometheus.yml")
    assert configured.returncode == 0, configured.stdout + configured.stderr


@needs("promtool")
@pytest.mark.parametrize("tests", TESTS, ids=lambda path: path.stem)
def test_rules_do_what_their_unit_tests_say(tests: Path, tmp_path: Path) -> None:
    """In the order that they name: else promtool takes groups in any, and what is recorded comes a minute earlier or later."""
    content = yaml.safe_load(tests.read_text())
    (tmp_path / "rules.yml").write_text(only(content["group_eval_order"]))
    (tmp_path / tests.name).write_text(yaml.safe_dump({**content, "rule_files": ["rules.yml"]}))
    tested = run("promtool", "test", "rules", tmp_path / tests.name)
    assert (tested.returncode, "SUCCESS" in tested.stdout) == (0, True), tested.stdout + tested.stderr


@every_alert
def test_every_alert_has_a_case_in_which_it_fires(alert: dict[str, Any]) -> None:
    fired = [labels for name, expected in alert_cases() if name == alert["alert"] for labels in expected]
    assert any(is_of(alert, labels) for labels in fired)


@every_alert
def test_every_alert_has_a_case_in_which_it_is_silent(alert: dict[str, Any]) -> None:
    cases = [expected for name, expected in alert_cases() if name == alert["alert"]]
    assert any(not any(is_of(alert, labels) for labels in expected) for expected in cases)


@pytest.mark.parametrize("name", sorted({rule["record"] for rule in RECORDS if not rule.get("labels")}))
def test_every_recording_rule_has_a_case(name: str) -> None:
    assert any(re.search(rf"(?<![\w:]){re.escape(name)}(?![\w:])", expr) for expr in expressions())


def test_unit_tests_are_fed_with_series_that_exist() -> None:
    found = {series: unknown_in(series) for series in input_series()}
    assert {series: unknown for series, unknown in found.items() if unknown} == {}
    assert len(found) > 50


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group["name"])
def test_rules_use_metrics_and_labels_that_exist(group: dict[str, Any]) -> None:
    for rule in group["rules"]:
        assert unknown_in(rule["expr"]) == [], rule["expr"]


@every_alert
def test_alert_says_what_to_do_where_and_how_soon(alert: dict[str, Any]) -> None:
    assert re.fullmatch(r"RaceWatch([A-Z][a-z]+)+", alert["alert"])
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert alert["labels"]["about"] in ("workers", "race_watch")
    said = alert["annotations"]
    assert set(said) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert "{{" not in said["summary"], "it stands for a group of alerts"
    assert (RUNBOOKS / said["runbook_url"].removeprefix(PREFIX)).is_file()
    board, _, query = said["dashboard_url"].removeprefix(GRAFANA).partition("?")
    variables = {b["uid"]: {v["name"] for v in b["templating"]["list"]} for b in BOARDS.values()}
    assert {part.split("=")[0].removeprefix("var-") for part in query.split("&")} <= variables[board]


@every_alert
def test_alert_does_not_fire_for_what_is_only_late(alert: dict[str, Any]) -> None:
    """What is over at once is kept for somebody to see; everything else must last."""
    assert ("for" in alert) != ("keep_firing_for" in alert)
    if "absent(" in alert["expr"] or "up ==" in alert["expr"]:
        assert alert["for"] == "15m"


@every_alert
def test_labels_in_the_texts_of_an_alert_are_those_that_it_has(alert: dict[str, Any]) -> None:
    used = set(re.findall(r"\$labels\.(\w+)", str(alert["annotations"])))
    fired = [labels for name, expected in alert_cases() if name == alert["alert"] for labels in expected]
    optional = {"cluster", "namespace", "job", "pod", "instance"}
    for labels in fired:
        if is_of(alert, labels):
            assert used - optional <= set(labels)


def test_recorded_names_say_level_metric_and_operations() -> None:
    for rule in RECORDS:
        assert re.fullmatch(r"(job|instance|signature)(_\w+)?:race_watch_\w+:[a-z0-9]+", rule["record"])
        assert "_total" not in rule["record"]


def test_rates_are_of_windows_of_four_scrapes_and_more() -> None:
    for rule in (*ALERTS, *RECORDS):
        for minutes in re.findall(r"(?:rate|increase)\([^()]*\[(\d+)m\]", rule["expr"]):
            assert int(minutes) >= 5


def test_the_resource_of_the_operator_has_the_same_groups() -> None:
    resource = yaml.safe_load((PROMETHEUS / "prometheusrule.yml").read_text())
    assert (resource["apiVersion"], resource["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    named = {group["name"]: group for group in resource["spec"]["groups"]}
    assert named == {group["name"]: group for group in GROUPS}


def test_scrape_configuration_loads_these_rules() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert config["rule_files"] == [RULES.name]
