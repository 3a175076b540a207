"""That the schemas of the Prometheus operator's resources, which the rendered ones are held against, refuse what it would."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from deploy_tools import DEPLOY, complaints, needs_tools

pytestmark = [needs_tools, pytest.mark.one_python]

Spoil = Callable[[dict[str, Any]], object]
# What is wrong with our rules then -> who says so.
WRONG: dict[str, tuple[Spoil, str]] = {
    "an interval that is no duration": (lambda spec: spec["groups"][0].update(interval="sixty"), "groups.0.interval"),
    "a duration with a space": (lambda spec: alert(spec).update({"for": "5 m"}), "rules.0.for"),
    "a group without a name": (lambda spec: spec["groups"][0].update(name=""), "groups.0.name"),
    "a rule without an expression": (lambda spec: alert(spec).pop("expr"), "rules.0.expr"),
    "a label that is a number": (lambda spec: alert(spec)["labels"].update(tier=1), "labels.tier"),
    "a field that there is not": (lambda spec: alert(spec).update(keepFiringFor="1h"), "keepFiringFor is unknown"),
}


def alert(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["groups"][-1]["rules"][0]
    return found


@pytest.fixture(scope="module")
def said() -> list[str]:
    """The complaints about the rules as they are and in each wrong form, in which they have its name."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "prometheusrule.yml").read_text())
    spoilt = []
    for what, (spoil, _) in WRONG.items():
        wrong = copy.deepcopy(rules)
        wrong["metadata"]["name"] = what
        spoil(wrong["spec"])
        spoilt.append(wrong)
    return complaints([rules, *spoilt])


def test_the_rules_as_they_are_are_accepted(said: list[str]) -> None:
    assert [one for one in said if one.startswith("PrometheusRule race-watch:")] == []


@pytest.mark.parametrize("what", WRONG)
def test_wrong_rules_are_refused_for_what_is_wrong(said: list[str], what: str) -> None:
    (one,) = [one for one in said if one.startswith(f"PrometheusRule {what}:")]
    assert WRONG[what][1] in one
