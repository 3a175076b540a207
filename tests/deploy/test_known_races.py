"""Versions as matchers, and the rules that are made from the signature catalogue, each against what the catalogue says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from prometheus_tools import needs, run
from rule_files import only, rules

from deploy.generate.known_races import AFFECTED, INFO, REGRESSIONS, WORKERS
from deploy.generate.versions import matchers
from race_watch.signatures import SIGNATURES
from race_watch.signatures.record import Form, Signature, is_affected

pytestmark = pytest.mark.one_python

FORMS = [(signature, form) for signature in SIGNATURES for form in signature.forms]
numbers = st.one_of(st.integers(0, 30), st.integers(0, 1200))
releases = st.tuples(numbers, numbers, numbers)
JOB = 'cluster="eu", namespace="voice"'
BOUNDS = {bound for _, form in FORMS for bound in re.findall(r"\d+\.\d+\.\d+", form.affected)}


def after(version: str) -> str:
    head, _, patch = version.rpartition(".")
    return f"{head}.{int(patch) + 1}"


# Where something changes, what is next to it, and versions long before and after.
VERSIONS = sorted({*BOUNDS, *map(after, BOUNDS), "0.18.0", "1.0.25", "1.1.8", "2.0.0", "10.11.12"}, key=Version)


def accepted(matching: str, version: str) -> bool:
    return all(re.fullmatch(pattern, version) for pattern in re.findall(r'=~"([^"]*)"', matching))


@settings(derandomize=True, database=None, max_examples=400)
@given(bound=releases, op=st.sampled_from(["<", "<=", ">", ">="]), version=releases)
def test_matcher_takes_the_versions_that_the_specifier_takes(bound: tuple[int, ...], op: str, version: tuple[int, ...]) -> None:
    specifier, release = op + ".".join(map(str, bound)), ".".join(map(str, version))
    assert accepted(matchers(specifier, "livekit"), release) == SpecifierSet(specifier).contains(release)


@settings(derandomize=True, database=None)
@given(bound=releases, op=st.sampled_from(["<", "<=", ">", ">="]), near=st.integers(-2, 2))
def test_matcher_is_exact_at_its_bound(bound: tuple[int, int, int], op: str, near: int) -> None:
    release = f"{bound[0]}.{bound[1]}.{max(bound[2] + near, 0)}"
    specifier = op + ".".join(map(str, bound))
    assert accepted(matchers(specifier, "livekit"), release) == SpecifierSet(specifier).contains(release)


def test_suffix_counts_as_the_release() -> None:
    matching = matchers(">=1.1.2,<1.1.8", "livekit")
    assert [v for v in ("1.1.2rc1", "1.1.7.post1", "1.1.8rc2", "1.1.80", "11.1.7") if accepted(matching, v)] == [
        "1.1.2rc1",
        "1.1.7.post1",
    ]
    assert matchers("", "livekit") == ""


@pytest.mark.parametrize("specifier", ["~=1.1.2", "==1.1.2", "<=1.1", "!=1.0.0"])
def test_specifier_that_cannot_be_a_matcher_is_refused(specifier: str) -> None:
    with pytest.raises(ValueError, match="is no bound"):
        matchers(specifier, "livekit")


@pytest.mark.parametrize(("signature", "form"), FORMS, ids=lambda value: getattr(value, "id", ""))
def test_matchers_of_every_form_take_the_versions_that_have_it(signature: Signature, form: Form) -> None:
    for version in VERSIONS:
        assert accepted(matchers(form.affected, "livekit"), version) == is_affected(form, version), version


def build(job: str, instance: str, package: str, version: str, values: str = "1x60") -> dict[str, str]:
    """The series of a worker that runs a version."""
    labels = {"livekit": "", "livekit_agents": "", package.replace("-", "_"): version}
    told = ", ".join(f'{label}="{value}"' for label, value in labels.items())
    name = f'race_watch_build_info{{{JOB}, job="{job}", instance="{instance}", version="0.1.0", python="3.11.7", {told}}}'
    return {"series": name, "values": values}


def agrees(home: Path, series: list[dict[str, str]], at: str, expected: dict[str, dict[str, float]]) -> None:
    """Whether promtool, fed with these series, finds what is expected of each expression."""
    cases = [
        {
            "eval_time": at,
            "expr": expr,
            "exp_samples": [{"labels": labels, "value": value} for labels, value in sorted(samples.items())],
        }
        for expr, samples in expected.items()
    ]
    groups = ["race_watch.known_races", "race_watch.regressions"]
    (home / "rules.yml").write_text(only(groups))
    tests = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "group_eval_order": groups,
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": cases}],
    }
    (home / "tests.yml").write_text(yaml.safe_dump(tests))
    ran = run("promtool", "test", "rules", home / "tests.yml")
    assert (ran.returncode, "SUCCESS" in ran.stdout) == (0, True), ran.stdout + ran.stderr


@needs("promtool")
def test_workers_whose_version_has_a_known_race_are_those_of_the_catalogue(tmp_path: Path) -> None:
    series = [build("agents", version, package, version) for package in ("livekit", "livekit-agents") for version in VERSIONS]
    expected: dict[str, dict[str, float]] = {}
    for signature in SIGNATURES:
        found = expected.setdefault(f'{AFFECTED}{{signature="{signature.id}"}}', {})
        for form in signature.forms:
            for version in VERSIONS:
                if form.verdict != "benign" and is_affected(form, version):
                    fix = f'fixed_in="{form.fixed_in}", ' if form.fixed_in else ""
                    told = f'{fix}package="{signature.package}", sdk_version="{version}", signature="{signature.id}"'
                    found[f'{AFFECTED}{{{JOB}, job="agents", {told}}}'] = 1
    agrees(tmp_path, series, "5m", expected)


def fixed_forms() -> Iterator[tuple[Signature, Form]]:
    """One form of each (category, verdict) that a release fixes."""
    seen = set()
    for signature, form in FORMS:
        key = (signature.id, form.category, form.verdict)
        if form.fixed_in and key not in seen:
            seen.add(key)
            yield signature, form


@needs("promtool")
def test_incident_of_a_fixed_race_is_a_regression_only_where_nothing_older_runs(tmp_path: Path) -> None:
    series: list[dict[str, str]] = []
    expected: dict[str, float] = {}
    for signature, form in fixed_forms():
        fix, package = str(form.fixed_in), signature.package
        older = next(version for version in reversed(VERSIONS) if Version(version) < Version(fix))
        labels = f'category="{form.category}", verdict="{form.verdict}", signature="{signature.id}"'
        key = f"{signature.id}-{form.category}-{form.verdict}"
        workers = {
            f"{key}-new": [build(f"{key}-new", "0", package, fix)],
            f"{key}-old": [build(f"{key}-old", "0", package, older)],
            f"{key}-upgraded": [
                build(f"{key}-upgraded", "0", package, older, "1x30"),
                build(f"{key}-upgraded", "0", package, fix, "_x30 1x30"),
            ],
            f"{key}-unknown": [],
        }
        for job, running in workers.items():
            happened = f'race_watch_incidents_total{{{JOB}, job="{job}", instance="0", {labels}}}'
            series += [*running, {"series": happened, "values": "0x40 900x20"}]
        told = f'{labels}, package="{package}", fixed_in="{fix}"'
        expected[f'{REGRESSIONS}{{{JOB}, job="{key}-new", {told}}}'] = 1.0
    assert expected
    agrees(tmp_path, series, "45m", {REGRESSIONS: expected})


def test_every_form_that_a_release_fixes_has_a_rule_for_its_return() -> None:
    made = {
        (rule["labels"]["signature"], rule["labels"]["category"], rule["labels"]["verdict"], rule["labels"]["fixed_in"])
        for rule in rules("record")
        if rule["record"] == REGRESSIONS
    }
    assert made == {(signature.id, form.category, form.verdict, form.fixed_in) for signature, form in fixed_forms()}


@needs("promtool")
def test_versions_are_counted_by_package_and_the_catalogue_is_there_to_join_with(tmp_path: Path) -> None:
    series = [build("agents", str(place), "livekit", version) for place, version in enumerate(("1.1.8", "1.1.8", "1.2.0"))]
    counted = {
        f'{WORKERS}{{{JOB}, job="agents", package="livekit", sdk_version="{version}"}}': count
        for version, count in (("1.1.8", 2.0), ("1.2.0", 1.0))
    }
    known = {f'{{signature="{signature.id}"}}': 1.0 for signature in SIGNATURES} | {'{signature="unclassified"}': 1.0}
    agrees(tmp_path, series, "5m", {WORKERS: counted, f"count by (signature) ({INFO})": known})


def test_every_rule_made_from_the_catalogue_has_a_test_here() -> None:
    made = {rule["record"] for rule in rules("record") if rule.get("labels")}
    assert made == {AFFECTED, REGRESSIONS, WORKERS, INFO}
