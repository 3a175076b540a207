"""Findings become incidents: merged, counted, bounded in a storm, and published in the form of the contract."""

from __future__ import annotations

import json
from typing import Any

import pytest
from facts import DISPATCH, MAIN, judge, process, record, seen

from race_watch import events, incidents
from race_watch.detectors.deaths import REASONS
from race_watch.exporters import text
from race_watch.findings import Finding
from race_watch.fleet import Fleet
from race_watch.incidents import RECORDS_PER_MINUTE, SETTLE_S, Incident, Incidents
from race_watch.records import Process
from race_watch.spans import SpanIds, incident_span
from race_watch.stderr import NOT_HERE

CONTRACT = [
    "id",
    "time_unix_ns",
    "category",
    "verdict",
    "signature",
    "title",
    "confidence",
    "count",
    "component",
    "sdk",
    "fixed_in",
    "upstream",
    "advice",
    "process",
    "room",
    "participant",
    "track_sid",
    "task",
    "exception",
    "channels",
    "trace_id",
    "span_id",
    "evidence",
    "links",
]


def finding(key: str, t_s: float = 1.0, of: Process = MAIN, **other: Any) -> Finding:
    values: dict[str, Any] = {
        "category": "registry_race",
        "verdict": "sdk",
        "component": "livekit/rtc/room.py:_on_room_event",
        "room": 1,
        "event": "local_track_unpublished",
        "exception": "KeyError",
        "frames": DISPATCH,
        "channels": ("room_event",),
        **other,
    }
    return Finding(key=key, process=of, t_s=t_s, **values)


def fleet_with_room(of: Process = MAIN, number: int = 1, name: str = "lobby") -> Fleet:
    fleet = Fleet()
    fleet.observe(record(events.RoomConnected(number, name, "RM_1", "id:me", 0, ()), of=of))
    return fleet


def published(made: Incident | None) -> Incident:
    assert made is not None
    return made


# Merging and counting


def test_findings_of_one_key_are_one_failure_with_all_channels_and_evidence() -> None:
    made = Incidents(fleet_with_room())
    first = published(made.add(finding("aa:1", evidence={"a": "first"}), 2.0))
    assert made.add(finding("aa:1", channels=("log_room",), evidence={"a": "second", "b": "second"}), 3.0) is None
    assert (first.count, first.channels, first.evidence["a"], first.evidence["b"]) == (
        1,
        ["room_event", "log_room"],
        "first",
        "second",
    )


def test_claimed_failure_is_no_incident_of_its_own() -> None:
    made = Incidents(fleet_with_room())
    published(made.add(finding("aa:1", claims=("aa:2",)), 2.0))
    assert made.add(finding("aa:2", category="task_exception_lost", channels=("log_task",)), 3.0) is None
    assert sum(group.occurrences for group in made.groups.values()) == 1


def test_claim_that_comes_with_a_later_finding_counts_too() -> None:
    made = Incidents(fleet_with_room())
    published(made.add(finding("aa:1"), 2.0))
    assert made.add(finding("aa:1", claims=("aa:2",)), 3.0) is None
    assert made.add(finding("aa:2", category="task_exception_lost"), 4.0) is None


def test_same_fingerprint_in_the_same_room_raises_the_count() -> None:
    made = Incidents(fleet_with_room())
    first = published(made.add(finding("aa:1"), 2.0))
    for number in range(2, 6):
        assert made.add(finding(f"aa:{number}", message=f"TR_{number}"), 2.0 + number) is None
    assert first.count == 5
    (group,) = made.groups.values()
    assert (group.incidents, group.occurrences, group.rooms) == (1, 5, {"lobby"})


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"room": 2}, id="another room"),
        pytest.param({"of": process("bb", 200)}, id="another process"),
        pytest.param({"event": "track_unpublished"}, id="another event"),
        pytest.param({"frames": (*DISPATCH[:1], "livekit/rtc/room.py:other:1")}, id="another frame"),
        pytest.param({"category": "callback_error"}, id="another category"),
    ],
)
def test_what_differs_in_place_or_shape_is_another_incident(other: dict[str, Any]) -> None:
    made = Incidents(fleet_with_room())
    first = published(made.add(finding("aa:1"), 2.0))
    second = published(made.add(finding("aa:2", **other), 2.0))
    assert first.id != second.id


def test_line_numbers_and_free_text_are_not_in_the_fingerprint() -> None:
    made = Incidents(fleet_with_room())
    published(made.add(finding("aa:1"), 2.0))
    moved = tuple(frame.rpartition(":")[0] + ":9999" for frame in DISPATCH)
    assert made.add(finding("aa:2", frames=moved, message="other", track_sid="TR_9", identity="id:9"), 2.0) is None


def test_id_is_the_same_in_a_replay() -> None:
    ids = {published(Incidents(fleet_with_room()).add(finding("aa:1"), now)).id for now in (2.0, 900.0)}
    assert len(ids) == 1


# The record


def test_record_has_exactly_the_fields_of_the_contract_in_order() -> None:
    made = published(Incidents(fleet_with_room()).add(finding("aa:1"), 2.0))
    assert list(made.as_dict()) == CONTRACT
    assert json.loads(json.dumps(made.as_dict())) == made.as_dict()
    assert set(made.process) == {"pid", "role", "attempt", "job_id"}
    assert set(made.room) == {"name", "sid"}
    assert set(made.participant) == {"identity", "sid"}
    assert set(made.task) == {"name", "coro", "created_at"}
    assert made.exception is not None
    assert set(made.exception) == {"type", "message", "frames"}


def test_record_says_when_where_who_and_what() -> None:
    with_all = seen("room_event", identity="id:guest", trace_id="0af7" * 8, span_id="b7ad" * 4)
    records = [record(events.RoomConnected(1, "lobby", "RM_1", "id:me", 0, ()), 0.5), record(with_all, 2.5, 1)]
    made = judge(records).only().as_dict()
    expected = {
        "time_unix_ns": 1_000_000_000_000 + 2_500_000_000,
        "sdk": {"livekit": "1.1.8"},
        "fixed_in": "1.1.11",
        "upstream": "livekit/python-sdks#681",
        "process": {"pid": 100, "role": "main", "attempt": 1, "job_id": None},
        "room": {"name": "lobby", "sid": "RM_1"},
        "participant": {"identity": "id:guest", "sid": None},
        "track_sid": "TR_1",
        "task": {"name": "Task-2", "coro": None, "created_at": None},
        "exception": {"type": "KeyError", "message": "TR_1", "frames": list(DISPATCH)},
        "trace_id": "0af7" * 8,
        "span_id": "b7ad" * 4,
    }
    assert {name: made[name] for name in expected} == expected


def test_version_that_was_loaded_later_is_the_one_that_counts() -> None:
    of = process(sdk={})
    records = [record(events.SdkLoaded("livekit", "1.1.10"), 0.5, 0, of), record(seen("room_event"), 1.0, 1, of)]
    made = judge(records).only()
    assert (made.sdk, made.confidence) == ({"livekit": "1.1.10"}, 1.0)


def test_job_process_is_told_by_its_name_and_numbered_among_its_role() -> None:
    one, two = process("aa", 100, role="fork"), process("bb", 200, role="fork")
    records = [
        record(events.LoopBorn("loop", "job_proc", "MainThread"), 0.1, 0, one),
        record(events.LoopBorn("loop", "job_proc", "MainThread"), 0.2, 0, two),
        record(seen("room_event", "bb:1"), 1.0, 1, two),
    ]
    assert judge(records).only().process == {"pid": 200, "role": "job", "attempt": 2, "job_id": None}


# What becomes known or changes later


def test_settled_incident_is_published_again_under_its_id_once() -> None:
    made = Incidents(fleet_with_room())
    first = published(made.add(finding("aa:1"), 2.0))
    assert made.settled(2.0 + SETTLE_S) == []
    made.add(finding("aa:2"), 10.0)
    assert made.settled(10.0 + SETTLE_S - 0.1) == []
    (again,) = made.settled(10.0 + SETTLE_S)
    assert (again.id, again.count) == (first.id, 2)
    assert made.settled(1e6, final=True) == []


def test_end_publishes_what_has_not_settled() -> None:
    made = Incidents(fleet_with_room())
    published(made.add(finding("aa:1"), 2.0))
    made.add(finding("aa:2"), 2.1)
    assert [i.count for i in made.settled(2.2, final=True)] == [2]


def test_channel_that_came_after_the_incident_is_added_and_published() -> None:
    made = Incidents(fleet_with_room())
    published(made.add(finding("aa:1"), 2.0))
    made.seen_again("aa:1", "log_room", 3.0)
    made.seen_again("aa:9", "log_room", 3.0)
    (again,) = made.settled(3.0 + SETTLE_S)
    assert again.channels == ["room_event", "log_room"]


@pytest.mark.parametrize("named_after_s", [0.1, SETTLE_S - 0.1, SETTLE_S + 10.0])
def test_room_that_gets_its_name_later_is_published_again_with_it(named_after_s: float) -> None:
    fleet = Fleet()
    made = Incidents(fleet)
    first = published(made.add(finding("aa:1"), 2.0))
    assert first.room == {"name": None, "sid": None}
    at_s, again = 2.0, []
    while at_s < 60.0:
        at_s += 0.25
        if at_s >= 2.0 + named_after_s:
            fleet.observe(record(events.RoomConnected(1, "lobby", "RM_1", "id:me", 0, ()), at_s))
        again += made.settled(at_s)
    assert [i.room for i in again] == [{"name": "lobby", "sid": "RM_1"}]
    (group,) = made.groups.values()
    assert group.rooms == {"lobby"}


def test_room_that_gets_its_name_just_before_the_end_is_published_with_it() -> None:
    fleet = Fleet()
    made = Incidents(fleet)
    published(made.add(finding("aa:1"), 2.0))
    fleet.observe(record(events.RoomNamed(1, "lobby"), 2.1))
    assert made.settled(2.2) == []
    assert [i.room["name"] for i in made.settled(2.3, final=True)] == ["lobby"]


def test_name_of_a_room_is_not_looked_up_in_a_process_that_was_forgotten() -> None:
    fleet = Fleet()
    made = Incidents(fleet)
    published(made.add(finding("aa:1"), 2.0))
    fleet.ended(MAIN)
    for number in range(2000):
        other = process(f"{number:04x}", number)
        fleet.of(other)
        fleet.ended(other)
    assert MAIN.nonce not in fleet.processes
    made.settled(100.0)
    assert fleet.live() == []
    assert len(fleet.processes) <= 1024


# Storms


def storm(made: Incidents, rooms: int, start_s: float = 1.0, apart_s: float = 0.01, first: int = 1) -> list[Incident]:
    """The same race in room after room, the first of them by this number."""
    found = [
        made.add(finding(f"k{first + room}", start_s + room * apart_s, room=first + room), start_s + room * apart_s + 0.5)
        for room in range(rooms)
    ]
    return [incident for incident in found if incident is not None]


def test_storm_records_a_bounded_number_a_minute_and_counts_and_says_the_rest() -> None:
    made = Incidents(Fleet())
    assert len(storm(made, 100)) == RECORDS_PER_MINUTE
    (group,) = made.groups.values()
    assert (group.incidents, group.occurrences, group.unrecorded) == (100, 100, 100 - RECORDS_PER_MINUTE)
    assert f"{100 - RECORDS_PER_MINUTE} more rooms than the records of a minute hold" in text.summary([group], [])


def test_next_minute_has_records_again() -> None:
    made = Incidents(Fleet())
    storm(made, 100)
    assert storm(made, 1, start_s=60.9, first=1001) == []
    assert len(storm(made, 50, start_s=61.1, first=2001)) == RECORDS_PER_MINUTE


def test_storm_of_one_group_takes_no_records_from_another() -> None:
    made = Incidents(Fleet())
    storm(made, 100)
    assert made.add(finding("other", event="track_unpublished"), 2.0) is not None


def test_storm_read_all_at_once_has_the_records_that_it_had_live() -> None:
    live, replayed = Incidents(Fleet()), Incidents(Fleet())
    shape = [(room, 1.0 + room * 0.7) for room in range(300)]
    ids = [[], []]  # type: list[list[str]]
    for index, (made, now) in enumerate(((live, None), (replayed, 1e9))):
        for room, t_s in shape:
            incident = made.add(finding(f"k{room}", t_s, room=room + 1), t_s + 0.5 if now is None else now)
            if incident is not None:
                ids[index].append(incident.id)
    assert ids[0] == ids[1]
    assert RECORDS_PER_MINUTE < len(ids[0]) < 300


def test_repeats_in_a_room_without_a_record_stay_unpublished() -> None:
    made = Incidents(Fleet())
    recorded = {incident.id for incident in storm(made, 100)}
    for room in range(100):
        made.add(finding(f"again:{room}", 5.0, room=room + 1), 5.0)
    again = made.settled(1e6)
    assert {incident.id for incident in again} == recorded
    assert all(incident.count == 2 for incident in again)


def test_busy_incident_outlives_the_bound_and_a_quiet_one_is_published_before_it_goes() -> None:
    made = Incidents(Fleet())
    # A group each, so that none is held back.
    busy = published(made.add(finding("busy", event="busy"), 1.0))
    quiet = published(made.add(finding("quiet", event="quiet"), 1.0))
    made.add(finding("quiet2", event="quiet"), 1.1)
    for number in range(incidents._INCIDENTS_KEPT + 10):
        made.add(finding(f"n{number}", event=f"e{number}"), 2.0)
        made.add(finding(f"b{number}", event="busy"), 2.0)
    closed = [i for i in made.settled(2.0) if i.id == quiet.id]
    assert [i.count for i in closed] == [2]
    assert busy.count == incidents._INCIDENTS_KEPT + 11
    assert made.groups[next(g for g, v in made.groups.items() if v.occurrences > 1000)].incidents == 1


def test_rooms_of_a_group_are_named_up_to_a_bound() -> None:
    fleet = Fleet()
    made = Incidents(fleet)
    for room in range(1, 500):
        fleet.observe(record(events.RoomConnected(room, f"room-{room:03}", "", "", 0, ())))
        made.add(finding(f"k{room}", room=room), 1.0)
    (group,) = made.groups.values()
    assert len(group.rooms) == incidents._ROOMS_NAMED
    assert "in rooms room-001, room-002, room-003, room-004 and 495 more" in text.summary([group], [])


# As a line


def test_line_says_what_whose_fault_where_which_version_and_reference() -> None:
    made = published(
        Incidents(fleet_with_room()).add(finding("aa:1", track_sid="TR_1", identity="id:g", task_name="Task-2"), 2.0)
    )
    assert text.line(made).replace("\x1b[0m", "").replace("\x1b[31m", "").replace("\x1b[1m", "") == (
        "race-watch: registry_race | LiveKit's fault | local-unpublish-keyerror | "
        "room=lobby participant=id:g track=TR_1 task=Task-2 | livekit 1.1.8 (fixed in 1.1.11) | livekit/python-sdks#681"
    )


def test_names_that_others_chose_cannot_steer_the_terminal() -> None:
    evil = "lobby\x1b[2J\x07\x9b31m\u2028\u202e"
    fleet = fleet_with_room(name=evil)
    made = Incidents(fleet)
    incident = published(made.add(finding("aa:1", identity=evil, task_name=evil), 2.0))
    for shown in (text.line(incident), text.summary(list(made.groups.values()), [])):
        plain = shown
        for code in ("\x1b[0m", "\x1b[31m", "\x1b[1m"):
            plain = plain.replace(code, "")
        assert all(c.isprintable() or c == "\n" for c in plain)
        assert "lobby?[2J" in plain


def test_summary_names_the_upgrade_once_for_all_groups() -> None:
    made = Incidents(fleet_with_room())
    made.add(finding("aa:1"), 2.0)
    made.add(finding("aa:2", event="track_subscribed"), 2.0)
    assert "livekit 1.1.8 -> 1.1.14 or newer" in text.summary(list(made.groups.values()), [])


def test_summary_of_nothing_says_so_and_shows_the_notes() -> None:
    assert text.summary([], ["python ended: exit status 0"]).splitlines()[1:] == [
        "  python ended: exit status 0",
        "  no incidents",
    ]


def test_absence_and_losses_are_said() -> None:
    assert "no process attached" in text.attachment(0)[0]
    assert text.attachment(2) == ["2 processes watched"]
    assert text.losses({"torn": 0}) == []
    assert text.losses({"torn": 2, "overwritten": 1}) == ["journal records lost: 1 overwritten, 2 torn"]


@pytest.mark.parametrize("reason", ["native_abort", "ffi_panic", "unknown"])
def test_stderr_that_nobody_looked_at_is_said_after_an_end_that_may_have_told_why(reason: str) -> None:
    assert text.unread("left alone: a socket", {"clean": 2, reason: 1}) == [
        "panic texts were not looked for: stderr was left alone: a socket"
    ]
    assert text.unread(NOT_HERE, {reason: 1})
    assert text.unread("a pipe, by way of a relay", {reason: 1}) == []
    assert text.unread("left alone: a socket", {"clean": 1, "killed": 2, "exception": 3, reason: 0}) == []
    assert reason in REASONS


def test_incident_has_the_applications_span_where_it_gets_none_of_its_own() -> None:
    incident = Incidents(Fleet()).add(finding("a", trace_id="0a" * 16, span_id="0b" * 8), 1.0)
    assert incident is not None
    assert (incident.trace_id, incident.span_id) == ("0a" * 16, "0b" * 8)
    assert incident.links == {"application": {"trace_id": "0a" * 16, "span_id": "0b" * 8}}
    bare = Incidents(Fleet()).add(finding("a"), 1.0)
    assert bare is not None
    assert (bare.trace_id, bare.span_id, bare.links) == (None, None, {})


def test_incident_that_is_exported_has_its_own_span_and_links_to_session_and_application() -> None:
    session = SpanIds("0c" * 16, "0d" * 8)

    def of_room(process: Process, room: int) -> SpanIds | None:
        return session if (process, room) == (MAIN, 1) else None

    made = Incidents(Fleet(), of_room)
    first = made.add(finding("a", trace_id="0a" * 16, span_id="0b" * 8), 1.0)
    other = made.add(finding("b", room=2), 1.0)
    assert first is not None
    assert other is not None
    assert SpanIds(first.trace_id or "", first.span_id or "") == incident_span(first.id)
    assert first.links == {
        "application": {"trace_id": "0a" * 16, "span_id": "0b" * 8},
        "room_session": {"trace_id": session.trace_id, "span_id": session.span_id},
    }
    assert other.links == {}
    assert len({first.trace_id, other.trace_id, session.trace_id, "0a" * 16}) == 4
