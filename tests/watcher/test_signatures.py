"""Known races: each names its own examples and nobody else's, and knows the versions that have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pytest
from facts import MAIN, process
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from race_watch.findings import CATEGORIES, VERDICTS, Finding, component
from race_watch.fleet import Fleet
from race_watch.incidents import Incident, Incidents
from race_watch.records import Process
from race_watch.signatures import SIGNATURES, name
from race_watch.signatures.record import Form, Match, Signature, is_affected

IDS = [signature.id for signature in SIGNATURES]

pytestmark = pytest.mark.one_python

# The ids of the catalogue of races that may have a signature; an id is public and never changes.
RACES = {
    "abandoned-stream-leak",
    "connect-cancel-ghost-room",
    "departed-kept-by-application",
    "listen-task-leak-on-server-leave",
    "room-dropped-without-disconnect",
    "server-leave-strands-local-track",
    "track-created-before-connect",
    "room-sid-lost-wakeup",
    "audiostream-task-before-handle",
    "connect-cancel-sigterm",
    "connect-loop-blocked-15s",
    "disconnect-stale-handle-panic",
    "inference-sid-preconnect",
    "job-signals-lost-in-forkserver",
    "local-published-keyerror",
    "local-subscribed-double-resolve",
    "local-subscribed-keyerror",
    "local-unpublish-keyerror",
    "panic-ends-thread-executor",
    "participant-already-exists",
    "participant-disconnected-keyerror",
    "participant-update-untracked",
    "roomio-preconnect-text-output",
    "stream-on-dead-track",
    "teardown-heap-corruption",
    "track-muted-untracked",
    "track-published-keyerror",
    "track-subscribed-keyerror",
    "track-subscription-failed-keyerror",
    "track-unpublished-keyerror",
    "track-unsubscribed-keyerror",
}


def finding(example: Mapping[str, Any], of: Process = MAIN, **other: Any) -> Finding:
    """An example of a signature as a finding."""
    values: dict[str, Any] = {
        "key": "aa:1",
        "verdict": "unknown",
        "component": component(tuple(example.get("frames", ()))),
        "process": of,
        "t_s": 1.0,
        **example,
        **other,
    }
    return Finding(**values)


def incident(example: Mapping[str, Any], sdk: dict[str, str]) -> Incident:
    of = process(sdk=sdk)
    made = Incidents(Fleet()).add(finding(example, of), 2.0)
    assert made is not None
    return made


def matching() -> list[Any]:
    return [
        pytest.param(signature, example, id=f"{signature.id}-{index}")
        for signature in SIGNATURES
        for index, example in enumerate(signature.matching)
    ]


def other() -> list[Any]:
    return [
        pytest.param(signature, example, id=f"{signature.id}-{index}")
        for signature in SIGNATURES
        for index, example in enumerate(signature.other)
    ]


def test_ids_are_unique_and_those_of_the_catalogue() -> None:
    assert len(set(IDS)) == len(IDS)
    assert set(IDS) == RACES


@pytest.mark.parametrize("signature", SIGNATURES, ids=IDS)
def test_record_is_complete(signature: Signature) -> None:
    assert signature.title
    assert signature.advice
    assert signature.package in ("livekit", "livekit-agents")
    assert signature.upstream == "" or signature.upstream.startswith("livekit/")
    assert signature.matching
    assert signature.other
    for form in signature.forms:
        assert form.category in CATEGORIES
        assert form.verdict in VERDICTS
        assert form.match != Match(), "a match without conditions names everything of its category"
        SpecifierSet(form.affected)  # raises where it is none
        if form.fixed_in is not None:
            assert not is_affected(form, form.fixed_in)
            assert Version(form.fixed_in)


@pytest.mark.parametrize("signature", SIGNATURES, ids=IDS)
def test_every_way_a_race_shows_has_an_example(signature: Signature) -> None:
    shown = {
        (form.category, form.verdict, form.affected)
        for example in signature.matching
        for form in signature.forms
        if form.category == example["category"]
    }
    assert shown == {(form.category, form.verdict, form.affected) for form in signature.forms}


@pytest.mark.parametrize("signature", SIGNATURES, ids=IDS)
def test_examples_use_the_names_of_findings(signature: Signature) -> None:
    known = {field.name for field in fields(Finding)}
    assert all(set(example) <= known for example in (*signature.matching, *signature.other))


@pytest.mark.parametrize(("signature", "example"), matching())
@pytest.mark.parametrize(
    "sdk", [{}, {"livekit": "1.1.8", "livekit-agents": "1.8.9"}, {"livekit": "9.9"}], ids=["unknown", "old", "new"]
)
def test_example_is_named_by_its_own_signature_and_by_no_other(
    signature: Signature, example: Mapping[str, Any], sdk: dict[str, str]
) -> None:
    assert signature.match(finding(example), sdk) is not None
    named = name(finding(example), sdk)
    assert named is not None
    assert named[0].id == signature.id
    assert [s.id for s in SIGNATURES if s.match(finding(example), sdk) is not None] == [signature.id]


@pytest.mark.parametrize(("signature", "example"), other())
def test_counter_example_is_not_named_by_its_signature(signature: Signature, example: Mapping[str, Any]) -> None:
    assert signature.match(finding(example), {"livekit": "1.1.8", "livekit-agents": "1.8.9"}) is None


@pytest.mark.parametrize(("signature", "example"), matching())
def test_each_condition_of_a_match_is_needed(signature: Signature, example: Mapping[str, Any]) -> None:
    """A finding that differs in one thing that the form asks for is not this race."""
    wrong: dict[str, Any] = {
        "event": "no_such_event",
        "exception": "NoSuchError",
        "message": "another message",
        "innermost": {"component": "livekit/rtc/elsewhere.py:function"},
        "frames": {"frames": ("app/agent.py:main:1",)},
        "request": "NoSuchRequest",
        "evidence": {"evidence": {}},
    }
    whole = finding(example)
    form = signature.match(whole, {})
    assert form is not None
    asked = [field.name for field in fields(Match) if getattr(form.match, field.name) not in (None, ())]
    assert asked
    for condition in asked:
        change = wrong[condition] if isinstance(wrong[condition], dict) else {condition: wrong[condition]}
        changed = finding({**example, **change}, component=change.get("component", whole.component))
        assert signature.match(changed, {}) is None, condition


# Versions

BOUNDARIES = [
    # signature, category, last version that shows this form, first that does not
    ("local-unpublish-keyerror", "registry_race", "1.1.10", "1.1.11"),
    ("track-unpublished-keyerror", "registry_race", "1.1.13", "1.1.14"),
    ("track-subscribed-keyerror", "registry_race", "1.1.13", "1.1.14"),
    ("track-unsubscribed-keyerror", "registry_race", "1.1.13", "1.1.14"),
    ("track-published-keyerror", "registry_race", "1.1.13", "1.1.14"),
    ("track-subscription-failed-keyerror", "registry_race", "1.1.13", "1.1.14"),
    ("local-subscribed-double-resolve", "double_resolve", "1.1.13", "1.1.14"),
    ("room-sid-lost-wakeup", "double_resolve", "1.1.10", "1.1.11"),
    ("audiostream-task-before-handle", "orphan_task", "1.1.13", "1.1.14"),
    ("local-unpublish-keyerror", "lost_event", "1.1.11", "1.1.10"),
    ("track-unpublished-keyerror", "lost_event", "1.1.14", "1.1.13"),
    ("track-subscribed-keyerror", "lost_event", "1.1.14", "1.1.13"),
    ("track-unsubscribed-keyerror", "lost_event", "1.1.14", "1.1.13"),
    ("track-published-keyerror", "lost_event", "1.1.14", "1.1.13"),
    ("track-subscription-failed-keyerror", "lost_event", "1.1.14", "1.1.13"),
    ("disconnect-stale-handle-panic", "use_after_dispose", "1.1.8", "1.1.7"),
    ("disconnect-stale-handle-panic", "native_abort", "1.1.7", "1.1.8"),
    ("connect-cancel-ghost-room", "fd_leak", "1.1.8", "1.1.9"),
    ("server-leave-strands-local-track", "thread_leak", "1.1.21", "1.2.0"),
    ("server-leave-strands-local-track", "fd_leak", "1.1.21", "1.2.0"),
    ("listen-task-leak-on-server-leave", "subscription_leak", "1.1.13", "1.1.14"),
    ("connect-cancel-sigterm", "native_abort", "1.1.9", "1.1.8"),
    ("connect-loop-blocked-15s", "native_abort", "1.1.9", "1.1.8"),
]


def example_of(id: str, category: str) -> tuple[Signature, Mapping[str, Any]]:
    signature = next(s for s in SIGNATURES if s.id == id)
    return signature, next(example for example in signature.matching if example["category"] == category)


def forms_with_a_boundary() -> set[tuple[str, str]]:
    """Forms that some published version of the last two years does not show."""
    published = ("1.0.25", "1.1.2", "1.1.7", "1.1.8", "1.1.11", "1.1.14", "1.1.21", "1.2.0")
    return {
        (signature.id, form.category)
        for signature in SIGNATURES
        if signature.package == "livekit"
        for form in signature.forms
        if not all(is_affected(form, version) for version in published)
    }


def test_every_boundary_is_in_the_table() -> None:
    assert {(id, category) for id, category, _, _ in BOUNDARIES} == forms_with_a_boundary()


@pytest.mark.parametrize(("id", "category", "shows", "shows_not"), BOUNDARIES)
def test_version_decides_how_sure_the_name_is(id: str, category: str, shows: str, shows_not: str) -> None:
    _, example = example_of(id, category)
    within = incident(example, {"livekit": shows})
    assert (within.signature, within.confidence, within.evidence.get("version")) == (id, 1.0, None)
    outside = incident(example, {"livekit": shows_not})
    assert (outside.signature, outside.confidence) == (id, 0.6)
    assert f"livekit {shows_not} is outside the affected" in outside.evidence["version"]
    assert "regression or a variant" in outside.evidence["version"]


@pytest.mark.parametrize("sdk", [{}, {"livekit": "unknown"}, {"livekit-agents": "1.8.9"}], ids=["none", "no version", "other"])
def test_unknown_version_is_less_sure_and_said(sdk: dict[str, str]) -> None:
    made = incident(example_of("local-unpublish-keyerror", "registry_race")[1], sdk)
    assert (made.signature, made.confidence) == ("local-unpublish-keyerror", 0.8)
    assert made.evidence["version"] == "the installed version of livekit is not known"


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ("1.1.10", True),
        ("1.1.10.post1", False),
        ("1.1.11", False),
        ("1.1.11rc1", False),
        ("1.1.9rc1", True),
        ("0.1", True),
        ("2.0", False),
        ("not a version", None),
        (None, None),
    ],
)
def test_affected_is_told_for_any_version_text(version: str | None, affected: bool | None) -> None:
    form = Form("registry_race", "sdk", "<=1.1.10", "1.1.11", Match(event="x"))
    assert is_affected(form, version) is affected


def test_form_of_the_installed_version_is_preferred() -> None:
    match = Match(event="x")
    signature = Signature(
        id="two-forms",
        title="",
        package="livekit",
        upstream="",
        advice="",
        forms=(Form("lost_event", "sdk", "<1", None, match), Form("lost_event", "benign", ">=1", None, match)),
        matching=(),
        other=(),
    )
    example = finding({"category": "lost_event", "event": "x"})
    for sdk, verdict in (({"livekit": "0.9"}, "sdk"), ({"livekit": "1.0"}, "benign"), ({}, "sdk")):
        form = signature.match(example, sdk)
        assert form is not None
        assert form.verdict == verdict


def test_finding_without_a_name_is_unclassified_and_keeps_its_shape() -> None:
    made = incident(
        {"category": "registry_race", "verdict": "sdk", "event": "room_updated", "exception": "KeyError"}, {"livekit": "1.1.8"}
    )
    assert (made.signature, made.category, made.verdict, made.title) == (
        "unclassified",
        "registry_race",
        "sdk",
        "KeyError on room_updated",
    )
    assert made.advice
