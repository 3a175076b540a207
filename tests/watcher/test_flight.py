"""The flight record: what a process was doing when it ended, from the last events of its journal."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from facts import MAIN, at_times, record
from hypothesis import given
from hypothesis import strategies as st

from race_watch.detectors import flight
from race_watch.detectors.flight import PHASES, Flight
from race_watch.events import (
    CallEnded,
    CallStarted,
    Disarmed,
    Event,
    FfiPanicked,
    HookInstalled,
    LoopBorn,
    ProcessExiting,
    RequestSent,
    RoomConnected,
    RoomEventDispatched,
    RoomHandleDropped,
)


def flown(happened: Sequence[Event]) -> Flight:
    """The flight of a process to which this happened, 10 ms apart from second 1 on."""
    made = Flight(MAIN)
    for one in at_times(happened):
        made.observe(one)
    return made


def started(method: str, call: int = 1, room: int = 1) -> CallStarted:
    return CallStarted(call, room, method, "")


def ended(method: str, call: int = 1, room: int = 1, outcome: str = "ok") -> CallEnded:
    return CallEnded(call, room, method, outcome)


def connected(room: int = 1, present: tuple[str, ...] = (), unnamed: int = 0) -> RoomConnected:
    return RoomConnected(room, f"room-{room}", f"RM_{room}", "id:agent", len(present) + unnamed, present)


def dispatched(event: str, room: int = 1, identity: str = "") -> RoomEventDispatched:
    return RoomEventDispatched(room, event, identity, "")


JOINED = (started("connect"), connected(), ended("connect"))
LEFT = (started("disconnect", 2), ended("disconnect", 2))
TOLD = ProcessExiting("")

STORIES: dict[str, tuple[Sequence[Event], str]] = {
    "nothing yet": ((), "idle"),
    "a loop": ((LoopBorn("asyncio", "MainProcess", "MainThread"),), "idle"),
    "connect under way": ((started("connect"),), "connect"),
    "connect after the room is there": ((started("connect"), connected()), "connect"),
    "connected": (JOINED, "idle"),
    "connect failed": ((started("connect"), ended("connect", outcome="ConnectError")), "idle"),
    "connect cancelled": ((started("connect"), ended("connect", outcome="cancelled")), "idle"),
    "publish under way": ((*JOINED, started("publish_track", 2)), "publish"),
    "published": ((*JOINED, started("publish_track", 2), ended("publish_track", 2)), "idle"),
    "unpublish under way": ((*JOINED, started("unpublish_track", 2)), "unpublish"),
    "disconnect under way": ((*JOINED, started("disconnect", 2)), "disconnect"),
    "disconnect refused": ((*JOINED, started("disconnect", 2), ended("disconnect", 2, outcome="AssertionError")), "idle"),
    "disconnected": ((*JOINED, *LEFT), "after_disconnect"),
    "left by the server": ((*JOINED, dispatched("disconnected")), "after_disconnect"),
    "the server's word before the call returns": (
        (*JOINED, started("disconnect", 2), dispatched("disconnected")),
        "disconnect",
    ),
    "one of two rooms left": ((*JOINED, connected(2), *LEFT), "idle"),
    "both rooms left": (
        (*JOINED, connected(2), *LEFT, started("disconnect", 3, 2), ended("disconnect", 3, 2)),
        "after_disconnect",
    ),
    "connected again": ((*JOINED, *LEFT, connected()), "idle"),
    "a room that was never connected is left": (LEFT, "idle"),
    "two calls, the later one under way": ((*JOINED, started("publish_track", 2), started("disconnect", 3)), "disconnect"),
    "two calls, the later one done": (
        (*JOINED, started("publish_track", 2), started("unpublish_track", 3), ended("unpublish_track", 3)),
        "publish",
    ),
    "a call that nobody knows": ((*JOINED, started("set_metadata", 2)), "idle"),
    "interpreter exit": ((*JOINED, *LEFT, TOLD), "exit"),
    "interpreter exit with a room": ((*JOINED, TOLD), "exit"),
    "interpreter exit under a call": ((*JOINED, started("disconnect", 2), TOLD), "disconnect"),
    "end of a call that was lost": ((ended("publish_track", 9), *JOINED), "idle"),
}


@pytest.mark.parametrize(("happened", "phase"), STORIES.values(), ids=STORIES)
def test_phase_is_that_of_the_call_under_way(happened: Sequence[Event], phase: str) -> None:
    assert flown(happened).phase() == phase


def test_stories_have_every_phase() -> None:
    assert {phase for _, phase in STORIES.values()} == set(PHASES)


# Blast radius


def test_rooms_and_participants_that_are_live_are_counted() -> None:
    made = flown(
        [
            connected(1, ("id:a", "id:b")),
            dispatched("participant_connected", 1, "id:c"),
            dispatched("participant_disconnected", 1, "id:a"),
            dispatched("participant_disconnected", 1, "id:unknown"),
            dispatched("participant_connected", 1, "id:c"),
            connected(2, ("id:d",)),
            connected(3),
            dispatched("disconnected", 3),
            dispatched("participant_connected", 3, "id:late"),
        ]
    )
    assert (len(made.sessions), made.participants()) == (2, 3)
    assert made.describe(9.0)["rooms_live"] == "2"
    assert made.describe(9.0)["participants_live"] == "3"


def test_participants_of_a_full_room_are_counted_without_their_names() -> None:
    present = tuple(f"id:{number}" for number in range(16))
    went = [dispatched("participant_disconnected", 1, f"id:{number}") for number in range(14, 20)]
    came = [dispatched("participant_connected", 1, "id:new")]
    assert flown([connected(1, present, unnamed=34), *went, *came]).participants() == 45
    assert flown([connected(1, (), unnamed=1)]).participant() == ""
    assert flown([connected(1, ("id:a",), unnamed=1)]).participant() == ""
    assert flown([connected(1, (), unnamed=1), *went]).participants() == 0


def test_participant_is_named_where_the_room_has_one_alone() -> None:
    assert flown([connected(1, ("id:a",))]).participant() == "id:a"
    assert flown([connected(1, ("id:a", "id:b"))]).participant() == ""
    assert flown([connected()]).participant() == ""
    assert flown([connected(1, ("id:a",)), dispatched("disconnected")]).participant() == ""


ROOMS: dict[str, tuple[Sequence[Event], int]] = {
    "none": ((), 0),
    "that connects": ((started("connect", 1, 4),), 4),
    "of the call under way": ((connected(1), connected(2), started("publish_track", 7, 1)), 1),
    "the only one": ((connected(1), connected(2), dispatched("disconnected", 2), ended("x", 1, 2)), 1),
    "the last one called for": ((connected(1), connected(2), started("publish_track", 7, 1), ended("publish_track", 7, 1)), 1),
    "the one that was left": ((*JOINED, *LEFT), 1),
    "of a call without a room": ((connected(3), started("publish_track", 7, 0)), 3),
}


@pytest.mark.parametrize(("happened", "room"), ROOMS.values(), ids=ROOMS)
def test_room_of_the_end(happened: Sequence[Event], room: int) -> None:
    assert flown(happened).room() == room


# What is told


def test_last_events_and_calls_are_told_with_their_ages() -> None:
    made = flown(
        [
            *JOINED,
            started("publish_track", 2),
            RequestSent(1, "PublishTrack"),
            HookInstalled("not of the story"),
            ended("publish_track", 2),
            RoomHandleDropped(1),
            started("disconnect", 3),
            RequestSent(1, "Disconnect"),
            FfiPanicked("x"),
        ]
    )
    told = made.describe(2.0)
    assert told["phase"] == "disconnect"
    assert told["in_flight"] == "disconnect for 0.92 s"
    assert told["before"] == (
        "connect ok 0.98 s, publish_track called 0.97 s, request PublishTrack 0.96 s, publish_track ok 0.94 s, "
        "room handle dropped 0.93 s, disconnect called 0.92 s, request Disconnect 0.91 s, FFI panic 0.90 s"
    )
    assert made.request == (pytest.approx(1.09), "Disconnect")


def test_process_that_did_nothing_tells_no_story() -> None:
    assert flown([HookInstalled("x")]).describe(2.0) == {"phase": "idle", "rooms_live": "0", "participants_live": "0"}


def test_only_what_has_been_written_ends_the_silence() -> None:
    assert flown([]).silent
    assert not flown([HookInstalled("x")]).silent
    assert flown([HookInstalled("x"), Disarmed("undo")]).disarmed


@pytest.mark.parametrize(("error", "exiting"), [("", ""), ("ValueError", "ValueError")])
def test_end_of_the_interpreter_is_known_with_its_exception(error: str, exiting: str) -> None:
    assert flown([]).exiting is None
    assert flown([ProcessExiting(error)]).exiting == exiting


def test_jobs_in_threads_are_known_by_the_name_of_their_thread() -> None:
    of_job = LoopBorn("asyncio", "MainProcess", "job_thread_runner")
    assert flown([of_job, LoopBorn("asyncio", "MainProcess", "MainThread")]).job_threads
    assert not flown([LoopBorn("asyncio", "MainProcess", "MainThread")]).job_threads


# Bounds


def test_rooms_participants_and_calls_are_bounded_and_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight, "_ROOMS_KEPT", 3)
    monkeypatch.setattr(flight, "_PARTICIPANTS_KEPT", 3)
    monkeypatch.setattr(flight, "_CALLS_KEPT", 3)
    happened: list[Event] = []
    for number in range(1, 10):
        happened += [connected(number), started("publish_track", number, number)]
        happened += [dispatched("participant_connected", 9, f"id:{number}-{n}") for n in range(5)]
    made = flown(happened)
    assert list(made.sessions) == [7, 8, 9]
    assert list(made.calls) == [7, 8, 9]
    assert list(made.sessions[9].others) == ["id:9-2", "id:9-3", "id:9-4"]
    assert made.sessions[9].participants == 5


_ANY = st.one_of(
    st.builds(
        started, st.sampled_from(("connect", "disconnect", "publish_track", "other")), st.integers(0, 3), st.integers(0, 2)
    ),
    st.builds(
        ended,
        st.sampled_from(("connect", "disconnect", "publish_track")),
        st.integers(0, 3),
        st.integers(0, 2),
        st.sampled_from(("ok", "cancelled", "E")),
    ),
    st.builds(connected, st.integers(0, 2), st.sampled_from(((), ("id:a",), ("id:a", "id:b")))),
    st.builds(
        dispatched,
        st.sampled_from(("participant_connected", "participant_disconnected", "disconnected", "track_muted")),
        st.integers(0, 2),
        st.sampled_from(("id:a", "id:b")),
    ),
    st.sampled_from([RequestSent(1, "Connect"), RoomHandleDropped(1), FfiPanicked("x"), TOLD, Disarmed("undo")]),
)


@given(st.lists(_ANY, max_size=40))
def test_any_story_can_be_told(happened: list[Event]) -> None:
    made = flown(happened)
    told = made.describe(99.0)
    assert told["phase"] in PHASES
    assert int(told["rooms_live"]) == len(made.sessions)
    assert made.room() >= 0
    assert made.participant() in ("", "id:a", "id:b")
    assert all(type(text) is str for text in told.values())
    made.observe(record(connected(7, ("id:z",)), 99.0))
    assert made.sessions[7].others == {"id:z": None}
