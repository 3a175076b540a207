"""What is added in one place is known in the other: hooks, detectors, signatures, commands, settings, docs."""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import click
import pytest

import race_watch
from race_watch import cli, detectors, findings, hooks, metrics, signatures
from race_watch.settings import PREFIX, Settings
from race_watch.signatures import SIGNATURES

pytestmark = pytest.mark.one_python

README = (Path(__file__).parents[1] / "README.md").read_text()
MAX_LINES = 400


def modules_of(package: ModuleType) -> list[ModuleType]:
    return [importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)]


def test_every_hook_module_is_in_the_tuple() -> None:
    written = {module for module in modules_of(hooks) if hasattr(module, "TARGET")}
    assert written == set(hooks.HOOKS)
    for hook in hooks.HOOKS:
        assert hook.__name__.rpartition(".")[2] == hook.NAME
        assert hook.SUPPORTED
        assert callable(hook.install)


def test_every_detector_module_is_built_in_the_order_of_the_tuple() -> None:
    written = {module for module in modules_of(detectors) if hasattr(module, "CATEGORIES")}
    assert written == set(detectors.MODULES)
    assert [type(d).__module__ for d in detectors.build()] == [module.__name__ for module in detectors.MODULES]


def test_detectors_speak_the_closed_vocabulary_and_have_advice() -> None:
    for module in detectors.MODULES:
        for category, verdicts in module.CATEGORIES.items():
            assert category in findings.CATEGORIES
            assert set(verdicts) <= set(findings.VERDICTS)
            assert findings.ADVICE[category]


def test_every_signature_module_is_listed() -> None:
    written = [s for m in modules_of(signatures) for s in getattr(m, "SIGNATURES", ())]
    assert {s.id for s in written} == {s.id for s in SIGNATURES}


def test_every_command_module_is_a_command() -> None:
    commands = {value for m in modules_of(cli) for value in vars(m).values() if isinstance(value, click.Command)}
    assert commands == set(cli.main.commands.values())


def test_public_names_are_there() -> None:
    assert all(getattr(race_watch, name) is not None for name in race_watch.__all__)


def test_readme_has_every_setting_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(RACE_WATCH_[A-Z_]+)` \| `([^`]*)` \|", README, re.MULTILINE))
    expected = {PREFIX + f.name.upper(): str(f.default or "none") for f in fields(Settings) if f.name != "problems"}
    for name, default in expected.items():
        assert rows.pop(name) in (default, default.replace("none", "0"))
    assert rows == {}


@pytest.mark.parametrize("command", ["run", "watch", "report", "bootstrap", "install", "uninstall", "doctor", "signatures"])
def test_readme_names_the_command(command: str) -> None:
    assert f"race-watch {command}" in README


def test_readme_has_the_fields_of_the_incident_record() -> None:
    from race_watch.incidents import Incident

    record = README.split("### The incident record")[1]
    assert all(re.search(rf"\b{name}\b", record) for name in Incident.__slots__)


def test_metric_names_follow_the_prefix_and_have_help() -> None:
    for metric in metrics.CATALOGUE:
        assert re.fullmatch(r"race_watch_[a-z_]+", metric.name)
        assert metric.help.endswith(".")
        assert all(len(labels) == len(metric.labels) for labels in metric.sets)


def test_no_module_has_grown_to_two_concepts() -> None:
    home = Path(race_watch.__file__).parent
    long = {str(p.relative_to(home)): n for p in home.rglob("*.py") if (n := len(p.read_text().splitlines())) > MAX_LINES}
    assert long == {}
