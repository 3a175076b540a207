"""The catalogue and the numbers behind it: closed, complete from the start, and never falling."""

from __future__ import annotations

import re

import pytest
from facts import FOREVER_S, process, record, seen
from hypothesis import given, settings
from hypothesis import strategies as st

from race_watch import detectors, events, metrics
from race_watch.findings import CATEGORIES, VERDICTS, Finding, component
from race_watch.fleet import Fleet
from race_watch.incidents import UNCLASSIFIED, Incidents
from race_watch.journal.layout import COUNTERS
from race_watch.signatures import SIGNATURES
from race_watch.totals import Totals, Values

SERIES_MAX = 200
FUZZ = settings(deadline=None, derandomize=True, database=None)
LABELS = {"category", "verdict", "signature", "reason"}
COUNTED = [metric for metric in metrics.CATALOGUE if metric.kind == "counter"]


def series(snapshot: dict[str, Values]) -> set[tuple[str, tuple[str, ...]]]:
    return {(name, labels) for name, values in snapshot.items() for labels in values}


def declared() -> set[tuple[str, tuple[str, ...]]]:
    return {(metric.name, labels) for metric in metrics.CATALOGUE for labels in metric.sets}


def test_every_metric_of_the_module_is_in_the_catalogue_once() -> None:
    defined = [value for value in vars(metrics).values() if isinstance(value, metrics.Metric)]
    assert sorted(metric.name for metric in defined) == sorted(metric.name for metric in metrics.CATALOGUE)
    assert len({metric.name for metric in defined}) == len(defined)


@pytest.mark.parametrize("metric", metrics.CATALOGUE, ids=lambda metric: metric.name)
def test_metric_has_a_good_name_a_help_and_closed_labels(metric: metrics.Metric) -> None:
    assert re.fullmatch(r"race_watch_[a-z][a-z_]*[a-z]", metric.name)
    assert not metric.name.endswith("_total")
    assert metric.kind in ("counter", "gauge")
    assert metric.help.endswith(".")
    assert set(metric.labels) <= LABELS
    assert len(set(metric.sets)) == len(metric.sets)
    assert all(len(labels) == len(metric.labels) for labels in metric.sets)
    closed = {
        "category": set(CATEGORIES),
        "verdict": set(VERDICTS),
        "signature": {UNCLASSIFIED, *(signature.id for signature in SIGNATURES)},
        "reason": set(metrics.LOST_REASONS),
    }
    for labels in metric.sets:
        for label, value in zip(metric.labels, labels, strict=True):
            assert value in closed[label]


def test_every_label_set_is_there_at_0_before_anything_has_happened() -> None:
    snapshot = Totals().snapshot
    assert series(snapshot) == declared()
    assert {value for values in snapshot.values() for value in values.values()} == {0.0}


def every_finding() -> list[Finding]:
    """One of each kind a detector can raise, and each signature's examples, in two rooms of their own."""
    found = []
    for module in detectors.MODULES:
        for category, verdicts in module.CATEGORIES.items():
            found += [{"category": category, "verdict": verdict, "component": f"app/{verdict}.py:f"} for verdict in verdicts]
    for signature in SIGNATURES:
        found += [
            {"verdict": "unknown", "component": component(example.get("frames", ())), **example}
            for example in signature.matching
        ]
    return [
        Finding(key=f"{room}:{index}", process=process("aa"), t_s=1.0, room=room, **shape)  # type: ignore[arg-type]
        for index, shape in enumerate(found)
        for room in (1, 2)
    ]


def test_worst_case_has_no_series_that_was_not_there_before_and_at_most_200() -> None:
    fleet, totals = Fleet(), Totals()
    incidents = Incidents(fleet)
    for number in range(3000):
        of = process(f"{number:04x}", number)
        fleet.observe(record(events.ResourcesSampled(5, 5, 1, 1), of=of))
        fleet.observe(record(events.HookStruck(f"hook-{number}", "KeyError", 1), of=of))
        fleet.observe(record(events.RoomConnected(1, f"room-{number}", "", f"id:{number}", 1, ()), of=of))
    for finding in every_finding():
        incidents.add(finding, 2.0)
    for number in range(1000):
        # Components, tasks, texts and identities without end.
        free = {
            "component": f"app/{number}.py:f",
            "task_name": f"Task-{number}",
            "message": str(number),
            "identity": str(number),
        }
        incidents.add(
            Finding(key=f"f{number}", category="callback_error", verdict="app", process=process("aa"), t_s=1.0, **free),  # type: ignore[arg-type]
            2.0,
        )
    totals.update(fleet, incidents, [])
    assert series(totals.snapshot) == declared()
    assert len(series(totals.snapshot)) <= SERIES_MAX
    assert sum(totals.snapshot["race_watch_incidents"].values()) == len(every_finding()) + 1000


def test_numbers_are_those_of_the_processes_that_live() -> None:
    fleet, totals = Fleet(), Totals()
    one, two, gone = process("aa"), process("bb"), process("cc")
    for of, sampled in (
        (one, events.ResourcesSampled(10, 20, 1, 3)),
        (two, events.ResourcesSampled(-1, -1, 2, 4)),
        (gone, events.ResourcesSampled(1000, 1000, 1000, 1000)),
    ):
        fleet.observe(record(sampled, of=of))
        fleet.observe(record(events.HookStruck("room_events", "KeyError", 1), of=of))
    fleet.observe(record(events.HookStruck("log_records", "KeyError", 0), of=one))
    fleet.ended(gone)
    totals.update(fleet, Incidents(fleet), [{"room_events": 5}, {"room_events": 7, "hook_errors": 2}])
    shown = {name: values[()] for name, values in totals.snapshot.items() if () in values}
    expected = {
        "race_watch_processes": 2,
        "race_watch_rooms": 3,
        "race_watch_participants": 7,
        "race_watch_open_fds": 10,
        "race_watch_ffi_handles": 20,
        "race_watch_hooks_off": 2,
        "race_watch_room_events": 12,
        "race_watch_hook_errors": 2,
    }
    assert {name: shown[name] for name in expected} == expected


def test_incidents_and_occurrences_are_counted_apart() -> None:
    fleet, totals = Fleet(), Totals()
    incidents = Incidents(fleet)
    for number, room in enumerate((1, 1, 1, 2)):
        event = seen("room_event", f"aa:{number}", room=room)
        detector = detectors.room_registry.RoomRegistry()
        detector.observe(record(event))
        for finding in detector.confirm(FOREVER_S):
            incidents.add(finding, 2.0)
    totals.update(fleet, incidents, [])
    labels = ("registry_race", "sdk", "local-unpublish-keyerror")
    assert totals.snapshot["race_watch_incidents"][labels] == 2
    assert totals.snapshot["race_watch_occurrences"][labels] == 4


@FUZZ
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["count", "fold", "start"]), st.integers(0, 3), st.sampled_from(COUNTERS), st.integers(0, 50)
        ),
        max_size=40,
    )
)
def test_counters_never_fall_when_processes_end(steps: list[tuple[str, int, str, int]]) -> None:
    fleet, totals = Fleet(), Totals()
    incidents = Incidents(fleet)
    live: dict[int, dict[str, int]] = {}
    truth = dict.fromkeys(COUNTERS, 0)
    before = totals.snapshot
    for step, number, name, amount in steps:
        if step == "fold" and number in live:
            totals.fold(live.pop(number))
        elif step == "count":
            counters = live.setdefault(number, dict.fromkeys(COUNTERS, 0))
            counters[name] += amount
            truth[name] += amount
        totals.update(fleet, incidents, list(live.values()))
        for metric in COUNTED:
            for labels in metric.sets:
                assert totals.snapshot[metric.name][labels] >= before[metric.name][labels]
        before = totals.snapshot
    assert before["race_watch_room_events"][()] == truth["room_events"]
    assert before["race_watch_exceptions_suppressed"][()] == truth["exceptions_suppressed"]
    assert before["race_watch_hook_errors"][()] == truth["hook_errors"]
