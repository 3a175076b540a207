"""The awaited room calls on published SDKs: start, end, outcome; and the same functions to look at as without us."""

from __future__ import annotations

import pytest
from sdk_runs import SdkRuns, versions

from race_watch.events import CallEnded, CallStarted, ExceptionSeen, RoomConnected


@pytest.mark.parametrize("version", versions())
def test_patched_classes_look_as_they_did(sdk_runs: SdkRuns, version: str) -> None:
    bare, watched = sdk_runs.bare(version), sdk_runs.watched(version)
    assert len(bare.looks) == 19
    assert watched.looks == bare.looks


@pytest.mark.parametrize("version", versions())
def test_application_sees_the_same_story(sdk_runs: SdkRuns, version: str) -> None:
    bare, watched = sdk_runs.bare(version), sdk_runs.watched(version)
    fixed = [{key: value for key, value in run.story.items() if key not in ("rooms", "handles")} for run in (bare, watched)]
    assert fixed[0] == fixed[1]
    assert fixed[0]["cancelled"] == "CancelledError"


@pytest.mark.parametrize("version", versions())
def test_each_call_starts_once_and_ends_with_its_outcome(sdk_runs: SdkRuns, version: str) -> None:
    run = sdk_runs.watched(version)
    started, ended = run.seen(CallStarted), run.seen(CallEnded)
    assert [event.call for event in started] == list(range(1, len(started) + 1))
    assert sorted(event.call for event in ended) == [event.call for event in started]
    outcomes = {event.call: event.outcome for event in ended}
    told = [(event.method, outcomes[event.call]) for event in started]
    assert told == [
        ("connect", "ok"),
        ("connect", "ok"),
        ("publish_track", "ok"),
        ("connect", "ConnectError"),
        ("connect", "cancelled"),
        ("unpublish_track", "ok"),
        ("disconnect", "ok"),
        ("disconnect", "ok"),
    ]


@pytest.mark.parametrize("version", versions())
def test_calls_of_a_participant_belong_to_its_room(sdk_runs: SdkRuns, version: str) -> None:
    run = sdk_runs.watched(version)
    lab = next(event.room for event in run.seen(RoomConnected) if event.name == "lab-one")
    track = [event for event in run.seen(CallStarted) if event.method.endswith("_track")]
    assert {event.room for event in track} == {lab}
    assert [event.track_sid[:3] for event in track] == ["", "TR_"]


@pytest.mark.parametrize("version", versions())
def test_room_is_told_with_name_sid_and_who_is_there(sdk_runs: SdkRuns, version: str) -> None:
    run = sdk_runs.watched(version)
    one, two = run.seen(RoomConnected)
    assert [one.name, one.sid, two.name] == run.story["rooms"]
    assert (one.participants, two.participants) == (1, 0)
    assert one.identity == two.identity
    assert one.identity.startswith("id:")
    assert one.room != two.room


@pytest.mark.parametrize("version", versions())
def test_access_before_connect_is_a_fact_each_time(sdk_runs: SdkRuns, version: str) -> None:
    seen = [event for event in sdk_runs.watched(version).seen(ExceptionSeen) if event.channel == "before_connect"]
    assert len(seen) == 4
    assert {(event.type, event.message) for event in seen} == {
        ("Exception", "cannot access local participant before connecting")
    }
    assert [event.room for event in seen] == [1, 1, 1, 2]
    assert all(event.frames[-1].startswith("livekit/rtc/room.py:local_participant:") for event in seen)
