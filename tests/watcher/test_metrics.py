"""The catalogue and the numbers behind it: closed, complete from the start, and never falling."""

from __future__ import annotations

import re
import threading

import pytest
from facts import FOREVER_S, process, record, sampled, seen
from hypothesis import given, settings
from hypothesis import strategies as st

from race_watch import __version__, detectors, events, hooks, metrics
from race_watch.findings import CATEGORIES, VERDICTS, Finding, component
from race_watch.fleet import HOOKS, Fleet
from race_watch.growth.attribution import HOUR
from race_watch.growth.reading import RESOURCES, UNITS
from race_watch.hooks import descriptor_kinds, ffi_handles, threads
from race_watch.incidents import UNCLASSIFIED, Incidents
from race_watch.journal.layout import COUNTERS
from race_watch.self_metrics import Lag, Own
from race_watch.signatures import SIGNATURES
from race_watch.totals import Totals, Values

SERIES_MAX = 200
FUZZ = settings(deadline=None, derandomize=True, database=None)
LABELS = {"category", "verdict", "signature", "reason", "kind", "resource", "unit", "exporter", "outcome"}
PROCESS_SERIES = 6  # `process_*` of the process that serves
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
    assert set(metric.labels) <= LABELS or metric is metrics.BUILD_INFO
    assert len(set(metric.sets)) == len(metric.sets)
    assert all(len(labels) == len(metric.labels) for labels in metric.sets)
    closed = {
        "category": set(CATEGORIES),
        "verdict": set(VERDICTS),
        "signature": {UNCLASSIFIED, *(signature.id for signature in SIGNATURES)},
        "kind": {*metrics.FD_KINDS, *ffi_handles.KINDS, *metrics.THREAD_KINDS},
        "resource": {resource.name for resource in RESOURCES},
        "unit": {*(unit.name for unit in UNITS), HOUR},
        "outcome": {"ok", "failed"},
    }
    for labels in metric.sets:
        for label, value in zip(metric.labels, labels, strict=True):
            assert value in closed.get(label, {value})
            assert re.fullmatch("[a-z][a-z0-9_-]*", value)


def test_kinds_are_those_that_the_host_half_counts() -> None:
    assert metrics.HANDLE_KINDS == ffi_handles.KINDS
    assert set(metrics.FD_KINDS) == {*descriptor_kinds.KINDS, metrics.UNKNOWN}
    assert set(metrics.THREAD_KINDS) == {*threads.KINDS, metrics.UNKNOWN}
    assert {resource.name for resource in RESOURCES} == set(metrics.GROWN)


def test_the_watcher_knows_every_hook_that_waits_for_no_setting() -> None:
    assert {*HOOKS, hooks.default_registry.NAME} == {hook.NAME for hook in hooks.HOOKS}


def test_every_label_set_is_there_at_0_before_anything_has_happened() -> None:
    snapshot = Totals().snapshot
    assert snapshot.pop("race_watch_build_info") == {(__version__, "", "", ""): 1.0}
    assert series(snapshot) == declared()
    assert snapshot.pop("race_watch_time_to_fd_limit_seconds") == {(): float("inf")}
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
        fleet.observe(record(sampled(5, 5, 1, 1), of=of))
        fleet.observe(record(events.HookStruck(f"hook-{number}", "KeyError", 1), of=of))
        fleet.observe(record(events.RoomConnected(1, f"room-{number}", "", f"id:{number}", 1, ()), of=of))
        fleet.observe(record(events.SdkLoaded("livekit", f"1.1.{number}"), of=of))
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
    assert len(series(totals.snapshot)) + PROCESS_SERIES <= SERIES_MAX
    assert len(totals.snapshot.pop("race_watch_build_info")) == metrics.BUILDS_MAX
    assert series(totals.snapshot) == declared()
    assert totals.snapshot["race_watch_hooks_off"] == {(): 3000}
    assert sum(totals.snapshot["race_watch_occurrences"].values()) == len(every_finding()) + 1000


def test_numbers_are_those_of_the_processes_that_live() -> None:
    fleet, totals = Fleet(), Totals()
    one, two, gone = process("aa"), process("bb"), process("cc")
    for of, counts in (
        (
            one,
            sampled(10, 20, 1, 3, fd_limit=64, subscriptions=2, handles=("room=2", "track=18"), threads=("all=9", "tokio=2")),
        ),
        (two, sampled(-1, -1, 2, 4, fd_limit=-1, subscriptions=-1)),
        (gone, sampled(1000, 1000, 1000, 1000)),
    ):
        fleet.observe(record(counts, of=of))
        fleet.observe(record(events.HookStruck("room_events", "KeyError", 1), of=of))
    fleet.observe(record(events.HookStruck("log_records", "KeyError", 0), of=one))
    fleet.ended(gone)
    totals.update(fleet, Incidents(fleet), [{"room_events": 5}, {"room_events": 7, "hook_errors": 2}])
    shown = {name: values[()] for name, values in totals.snapshot.items() if () in values}
    expected = {
        "race_watch_processes": 2,
        "race_watch_rooms": 3,
        "race_watch_participants": 7,
        "race_watch_fd_limit": 64,
        "race_watch_ffi_subscriptions": 2,
        "race_watch_hooks_off": 2,
        "race_watch_room_events": 12,
        "race_watch_hook_errors": 2,
    }
    assert {name: shown[name] for name in expected} == expected
    assert kinds(totals, "race_watch_open_fds") == {"unknown": 10}
    assert kinds(totals, "race_watch_ffi_handles") == {"room": 2, "track": 18}
    assert kinds(totals, "race_watch_threads") == {"tokio": 2, "unknown": 7}
    fleet.observe(record(events.DescriptorsClassified(("udp=4", "tcp=3"), 1), of=one))
    totals.update(fleet, Incidents(fleet), [])
    assert kinds(totals, "race_watch_open_fds") == {"udp": 4, "tcp": 3, "unknown": 3}
    fleet.observe(record(sampled(5, 20, 1, 3), of=one))
    totals.update(fleet, Incidents(fleet), [])
    assert kinds(totals, "race_watch_open_fds") == {"unknown": 5}, "which of them have gone nobody has looked at"


def kinds(totals: Totals, name: str) -> dict[str, float]:
    return {kind: count for (kind,), count in totals.snapshot[name].items() if count}


def test_exports_are_counted_by_outcome_from_any_thread() -> None:
    totals = Totals()
    several = [threading.Thread(target=lambda: [totals.exported("incident_file", "ok") for _ in range(1000)]) for _ in range(4)]
    for thread in several:
        thread.start()
    totals.exported("otlp", "failed", 3)
    for thread in several:
        thread.join()
    totals.update(Fleet(), Incidents(Fleet()), [])
    assert totals.snapshot["race_watch_exports"] == {
        ("incident_file", "ok"): 4000,
        ("incident_file", "failed"): 0,
        ("otlp", "ok"): 0,
        ("otlp", "failed"): 3,
    }


def test_build_info_has_the_versions_of_live_processes_and_keeps_the_last_when_none_lives() -> None:
    fleet, totals = Fleet(), Totals()

    def shown() -> set[tuple[str, ...]]:
        totals.update(fleet, Incidents(fleet), [])
        return set(totals.snapshot["race_watch_build_info"])

    fleet.of(process("00", sdk={}))
    assert shown() == {(__version__, "", "", "")}, "a process without livekit says nothing"
    old, new = process("aa"), process("bb", sdk={"livekit": "1.2.0", "livekit-agents": "1.8.9"})
    fleet.of(old)
    fleet.of(new)
    assert shown() == {(__version__, "3.11.7", "1.1.8", ""), (__version__, "3.11.7", "1.2.0", "1.8.9")}
    fleet.ended(old)
    assert shown() == {(__version__, "3.11.7", "1.2.0", "1.8.9")}
    fleet.ended(new)
    assert shown() == {(__version__, "3.11.7", "1.2.0", "1.8.9")}


def test_what_the_watcher_measured_of_itself_is_in_the_next_snapshot() -> None:
    totals = Totals()
    totals.own = Own(1.5, 1_000.0, 0.25, 2)
    totals.update(Fleet(), Incidents(Fleet()), [])
    shown = {name: values[()] for name, values in totals.snapshot.items() if () in values}
    assert shown["race_watch_watcher_lag_seconds"] == 1.5
    assert shown["race_watch_watcher_last_poll_timestamp_seconds"] == 1_000
    assert shown["race_watch_watcher_cpu_seconds"] == 0.25
    assert shown["race_watch_processes_missing"] == 2


def test_lag_is_the_longest_of_the_last_minute() -> None:
    lag = Lag()
    for now_s, lag_s, longest_s in (
        (0, 0.1, 0.1),
        (1, 3.0, 3.0),
        (2, 0.2, 3.0),
        (31, 0.3, 3.0),
        (59, 0.1, 3.0),
        (61, 0.1, 0.3),
        (95, 0.0, 0.1),
        (300, 0.0, 0.0),
    ):
        lag.add(lag_s, now_s)
        assert lag.longest_s == longest_s, now_s


def test_lag_counts_from_the_oldest_event_since_it_was_last_asked() -> None:
    fleet = Fleet()
    assert fleet.take_oldest_s() is None
    for t_s in (5.0, 3.0, 4.0):
        fleet.observe(record(events.HookInstalled("log_records"), t_s))
    assert fleet.take_oldest_s() == 3
    assert fleet.take_oldest_s() is None


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
    assert totals.snapshot["race_watch_occurrences"][("registry_race",)] == 4


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
