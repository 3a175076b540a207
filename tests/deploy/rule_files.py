"""The rules as they are checked in, and promtool's tests of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from prometheus_tools import RULES

TESTS = sorted((Path(__file__).parent / "rules").glob("*.yml"))
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]


def only(names: list[str]) -> str:
    """The file with these groups alone: what a test does not look at costs promtool time all the same."""
    found = [group for group in GROUPS if group["name"] in names]
    assert [group["name"] for group in found] == names, "in the order of the file, which is that of Prometheus' own start"
    return yaml.safe_dump({"groups": found}, sort_keys=False)


def rules(kind: str) -> list[dict[str, Any]]:
    """All of a kind, alert or record."""
    return [rule for group in GROUPS for rule in group["rules"] if kind in rule]


def alert_cases() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """(alert, labels of what is expected to fire) of every test of alerts."""
    for tests in _tests():
        for case in tests.get("alert_rule_test", ()):
            yield case["alertname"], [expected["exp_labels"] for expected in case["exp_alerts"]]


def expressions() -> list[str]:
    """The expressions of every test that expects a result."""
    return [case["expr"] for tests in _tests() for case in tests.get("promql_expr_test", ()) if case["exp_samples"]]


def input_series() -> set[str]:
    """The series that the tests are fed with."""
    return {series["series"] for tests in _tests() for series in tests["input_series"]}


def is_of(rule: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether an alert with these labels can be this rule's."""
    return rule["labels"].items() <= labels.items()


@cache
def _tests() -> list[dict[str, Any]]:
    return [tests for path in TESTS for tests in yaml.safe_load(path.read_text())["tests"]]
