"""Room sessions as spans: what becomes one, when it ends, how it ends, and what bounds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from facts import MAIN, at_times, process, record
from hypothesis import given, settings
from hypothesis import strategies as st

from race_watch import sessions
from race_watch.events import (
    CallEnded,
    CallStarted,
    Event,
    LoopBorn,
    ProcessExiting,
    RoomConnected,
    RoomEventDispatched,
)
from race_watch.records import JournalEnded, Record
from race_watch.room_session import CHILDREN_DROPPED, CHILDREN_MAX, OUTCOME, ROOM_SESSION
from race_watch.sessions import Sessions
from race_watch.spans import Span

WALL_NS = 1_000_000_000_000


class Told:
    """A builder and the spans that it gave, in order."""

    def __init__(self, admit: bool = True) -> None:
        self.spans: list[Span] = []
        self.asked: list[tuple[str, float]] = []

        def ask(trace_id: str, t_s: float) -> bool:
            self.asked.append((trace_id, t_s))
            return admit

        self.sessions = Sessions(self.spans.append, ask)

    def after(self, records: Sequence[Record]) -> Told:
        for one in records:
            self.sessions.observe(one)
        return self

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def session(self) -> Span:
        (span,) = self.named(ROOM_SESSION)
        return span


def told(*happened: Event, admit: bool = True) -> Told:
    return Told(admit).after(at_times(happened))


def start(method: str, call: int, room: int = 1, sid: str = "") -> CallStarted:
    return CallStarted(call, room, method, sid)


def end(method: str, call: int, outcome: str = "ok", room: int = 1) -> CallEnded:
    return CallEnded(call, room, method, outcome)


def connected(*present: str, room: int = 1) -> RoomConnected:
    return RoomConnected(room, "lobby", "RM_1", "id:me", len(present), present)


def happened(event: str, identity: str = "", sid: str = "", room: int = 1) -> RoomEventDispatched:
    return RoomEventDispatched(room, event, identity, sid)


CONNECT: tuple[Event, ...] = (start("connect", 1), connected(), end("connect", 1))
DISCONNECT: tuple[Event, ...] = (start("disconnect", 9), end("disconnect", 9))


def test_session_lasts_from_connect_to_the_end_of_disconnect() -> None:
    span = told(*CONNECT, *DISCONNECT).session()
    assert (span.start_ns, span.end_ns) == (WALL_NS + 1_000_000_000, WALL_NS + 1_040_000_000)
    assert (span.parent_id, span.error) == ("", None)
    assert span.attributes == {
        "process.pid": MAIN.pid,
        "lk.pii.room_name": "lobby",
        "lk.room_sid": "RM_1",
        "lk.pii.participant_identity": "id:me",
        OUTCOME: "disconnected",
    }


def test_children_are_told_as_they_end_and_are_the_sessions() -> None:
    publish = (start("publish_track", 2), end("publish_track", 2), start("unpublish_track", 3, sid="TR_1"))
    made = told(*CONNECT, *publish, end("unpublish_track", 3), *DISCONNECT)
    assert [span.name for span in made.spans] == ["connect", "publish_track", "unpublish_track", "disconnect", ROOM_SESSION]
    session = made.session()
    for child in made.spans[:-1]:
        assert (child.ids.trace_id, child.parent_id) == (session.ids.trace_id, session.ids.span_id)
        assert child.attributes[OUTCOME] == "ok"
        assert child.start_ns < child.end_ns
    assert made.named("unpublish_track")[0].attributes["lk.track_sid"] == "TR_1"
    assert len({span.ids.span_id for span in made.spans}) == len(made.spans)


def test_participants_are_children_while_they_are_there() -> None:
    made = told(
        start("connect", 1),
        connected("id:early"),
        end("connect", 1),
        happened("participant_connected", "id:late", "PA_2"),
        happened("participant_disconnected", "id:early"),
        *DISCONNECT,
    )
    early, late = made.named("participant")
    assert early.attributes == {"lk.pii.participant_identity": "id:early"}
    assert late.attributes == {"lk.pii.participant_identity": "id:late", "lk.participant_id": "PA_2"}
    assert early.end_ns < late.end_ns == made.session().end_ns


def test_participant_that_comes_back_has_two_spans() -> None:
    visit = (happened("participant_connected", "id:a", "PA_1"), happened("participant_disconnected", "id:a"))
    first, second = told(*CONNECT, *visit, *visit).named("participant")
    assert first.ids.span_id != second.ids.span_id


@pytest.mark.parametrize(
    ("outcome", "error"), [("ConnectError", "connect failed: ConnectError"), ("cancelled", None)], ids=["failed", "cancelled"]
)
def test_connect_that_does_not_succeed_is_a_short_session(outcome: str, error: str | None) -> None:
    made = told(start("connect", 1), end("connect", 1, outcome))
    connect, session = made.spans
    assert (session.error, session.attributes[OUTCOME]) == (error, outcome)
    assert session.attributes.get("error.type") == (outcome if error else None)
    assert connect.error == (f"connect raised {outcome}" if error else None)


def test_publish_that_fails_fails_its_child_alone() -> None:
    made = told(*CONNECT, start("publish_track", 2), end("publish_track", 2, "PublishTrackError"), *DISCONNECT)
    (publish,) = made.named("publish_track")
    assert (publish.error, publish.attributes["error.type"]) == ("publish_track raised PublishTrackError", "PublishTrackError")
    assert made.session().error is None


def test_server_that_ends_the_room_ends_the_session() -> None:
    made = told(*CONNECT, happened("disconnected"))
    assert made.session().attributes[OUTCOME] == "left by the server or the network"
    assert [event.name for event in made.session().events] == ["disconnected"]
    assert len(made.after(at_times(DISCONNECT)).spans) == 2


def test_disconnected_event_of_an_own_disconnect_leaves_the_end_to_the_call() -> None:
    made = told(*CONNECT, start("disconnect", 9), happened("disconnected"), end("disconnect", 9))
    assert made.session().attributes[OUTCOME] == "disconnected"
    assert [span.name for span in made.spans] == ["connect", "disconnect", ROOM_SESSION]


def test_disconnect_that_was_cancelled_leaves_the_session_open() -> None:
    made = told(*CONNECT, start("disconnect", 8), end("disconnect", 8, "cancelled"))
    assert made.named(ROOM_SESSION) == []
    assert made.after(at_times(DISCONNECT, 2.0)).session().end_ns > WALL_NS + 2_000_000_000


def test_disconnected_event_while_connecting_ends_the_session_with_the_connect() -> None:
    made = told(start("connect", 1), happened("disconnected"), connected(), end("connect", 1))
    assert [span.name for span in made.spans] == ["connect", ROOM_SESSION]
    assert made.session().attributes[OUTCOME] == "left by the server or the network"


def test_story_of_the_room_is_on_its_span() -> None:
    story = ("reconnecting", "reconnected", "moved")
    made = told(
        *CONNECT, *map(happened, story), happened("track_published"), happened("room_sid_changed", sid="RM_2"), *DISCONNECT
    )
    assert tuple(event.name for event in made.session().events) == story
    assert made.session().attributes["lk.room_sid"] == "RM_2"


@pytest.mark.parametrize(
    ("how", "outcome", "error"),
    [
        pytest.param((JournalEnded(0),), "process died", "the process died with the room open", id="killed"),
        pytest.param((ProcessExiting(""), JournalEnded(0)), "process ended", None, id="in order"),
        pytest.param(
            (ProcessExiting("SystemError"), JournalEnded(0)),
            "process ended",
            "the process was ended by SystemError with the room open",
            id="by an exception",
        ),
        pytest.param((JournalEnded(1),), "unwatched", None, id="lives on"),
    ],
)
def test_end_of_the_process_ends_its_sessions(how: Sequence[Event], outcome: str, error: str | None) -> None:
    made = told(*CONNECT, start("publish_track", 2), happened("participant_connected", "id:a"), *how)
    assert [span.name for span in made.spans] == ["connect", "publish_track", "participant", ROOM_SESSION]
    assert (made.session().attributes[OUTCOME], made.session().error) == (outcome, error)
    assert made.named("publish_track")[0].attributes[OUTCOME] == "unfinished"


def test_end_of_another_process_is_nothing_to_the_session() -> None:
    made = told(*CONNECT).after([record(JournalEnded(0), 2.0, of=process("bb"))])
    assert made.named(ROOM_SESSION) == []


def test_job_is_a_child_from_the_first_connect_to_the_end_of_its_process() -> None:
    born = LoopBorn("asyncio", "job_proc", "MainThread")
    made = told(born, *CONNECT, *DISCONNECT, start("connect", 20), ProcessExiting(""), JournalEnded(0))
    (job,) = made.named("job")
    first = next(span for span in made.spans if span.name == ROOM_SESSION)
    assert (job.ids.trace_id, job.parent_id) == (first.ids.trace_id, first.ids.span_id)
    assert job.start_ns == first.start_ns
    assert job.end_ns > first.end_ns
    assert job.error is None


def test_job_whose_process_died_failed() -> None:
    born = LoopBorn("asyncio", "job_proc", "MainThread")
    (job,) = told(born, *CONNECT, *DISCONNECT, JournalEnded(0)).named("job")
    assert job.error == "the job's process did not end in order"


def test_process_that_is_no_job_has_no_job_span() -> None:
    assert told(LoopBorn("asyncio", "MainProcess", "MainThread"), *CONNECT, *DISCONNECT, JournalEnded(0)).named("job") == []


def test_ids_are_the_same_in_a_replay_and_different_for_each_session() -> None:
    twice = (*CONNECT, *DISCONNECT, start("connect", 20), end("connect", 20), *DISCONNECT)
    assert told(*twice).spans == told(*twice).spans
    first, second = told(*twice).named(ROOM_SESSION)
    assert first.ids.trace_id != second.ids.trace_id
    other = told().after([record(event, 1.0, of=process("bb")) for event in (*CONNECT, *DISCONNECT)])
    assert other.session().ids.trace_id not in (first.ids.trace_id, second.ids.trace_id)


def test_session_that_is_not_admitted_has_no_span_and_no_link() -> None:
    made = told(*CONNECT, *DISCONNECT, JournalEnded(0), admit=False)
    assert made.spans == []
    assert len(made.asked) == 1
    assert made.sessions.session_of(MAIN, 1) is None


def test_incident_can_be_linked_during_a_session_and_after_it() -> None:
    made = told(*CONNECT)
    during = made.sessions.session_of(MAIN, 1)
    made.after(at_times(DISCONNECT))
    assert during == made.sessions.session_of(MAIN, 1) == made.session().ids
    assert made.sessions.session_of(MAIN, 2) is None


def test_children_of_a_session_are_bounded_and_the_rest_is_counted() -> None:
    publishes = [e for n in range(2, CHILDREN_MAX + 12) for e in (start("publish_track", n), end("publish_track", n))]
    joins = [happened("participant_connected", f"id:{n}") for n in range(CHILDREN_MAX + 5)]
    made = told(*CONNECT, *publishes, *joins, *DISCONNECT)
    assert len(made.spans) == CHILDREN_MAX + 1
    children = 1 + (CHILDREN_MAX + 10) + (CHILDREN_MAX + 5) + 1
    assert made.session().attributes[CHILDREN_DROPPED] == children - CHILDREN_MAX


def test_open_sessions_are_bounded_and_the_oldest_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_OPEN_MAX", 3)
    monkeypatch.setattr(sessions, "_LINKABLE_MAX", 4)
    made = told(*(start("connect", room, room) for room in range(1, 11)))
    assert len(made.named(ROOM_SESSION)) == 7
    assert {span.attributes[OUTCOME] for span in made.named(ROOM_SESSION)} == {"unwatched"}
    assert [room for room in range(1, 11) if made.sessions.session_of(MAIN, room)] == [7, 8, 9, 10]


def test_finish_ends_what_is_open_without_calling_it_a_failure() -> None:
    made = told(*CONNECT)
    made.sessions.finish(5.0)
    made.sessions.finish(6.0)
    assert made.session().attributes[OUTCOME] == "unwatched"
    assert made.session().end_ns == WALL_NS + 5_000_000_000
    assert made.session().error is None


_METHODS = st.sampled_from(["connect", "disconnect", "publish_track", "unpublish_track"])
_NUMBERS = st.integers(0, 4)
_EVENTS: st.SearchStrategy[Any] = st.one_of(
    st.builds(CallStarted, _NUMBERS, _NUMBERS, _METHODS, st.just("TR_1")),
    st.builds(CallEnded, _NUMBERS, _NUMBERS, _METHODS, st.sampled_from(["ok", "cancelled", "ConnectError"])),
    st.builds(RoomConnected, _NUMBERS, st.just("lobby"), st.just(""), st.just("id:me"), st.just(1), st.just(("id:a",))),
    st.builds(
        RoomEventDispatched,
        _NUMBERS,
        st.sampled_from(["participant_connected", "participant_disconnected", "disconnected", "reconnecting"]),
        st.sampled_from(["id:a", "id:b"]),
        st.just(""),
    ),
    st.builds(LoopBorn, st.just("asyncio"), st.sampled_from(["job_proc", "MainProcess"]), st.just("MainThread")),
    st.builds(ProcessExiting, st.sampled_from(["", "SystemError"])),
    st.builds(JournalEnded, st.integers(0, 1)),
)


@given(st.lists(_EVENTS, max_size=40))
@settings(derandomize=True, database=None)
def test_whatever_happens_every_session_ends_once_and_every_child_has_it_for_a_parent(events: list[Event]) -> None:
    made = told(*events)
    made.sessions.finish(100.0)
    roots = {span.ids.span_id: span for span in made.named(ROOM_SESSION)}
    assert len(made.named(ROOM_SESSION)) == len(made.asked)
    for span in made.spans:
        assert span.start_ns <= span.end_ns
        if span.parent_id:
            assert roots[span.parent_id].ids.trace_id == span.ids.trace_id


def test_end_of_a_process_that_was_noted_late_is_not_before_its_last_record() -> None:
    made = told(*CONNECT).after([record(JournalEnded(0), 0.0)])
    assert made.session().end_ns == WALL_NS + 1_020_000_000
