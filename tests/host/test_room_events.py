"""Room events on published SDKs: each dispatch in order, each swallowed event, each failure, with the room it was in."""

from __future__ import annotations

import pytest
from sdk_runs import SdkRuns, versions

from race_watch.events import (
    ExceptionSeen,
    ExceptionSeenAgain,
    HookStruck,
    RoomConnected,
    RoomEventDispatched,
    RoomEventUnmatched,
)

# Event -> what the registry does not hold; dropped by the SDK with a DEBUG record from this version on, raised before.
SWALLOWED = [
    ("track_unpublished", "participant", (1, 1, 14)),
    ("track_unpublished", "publication", (1, 1, 14)),
    ("track_subscribed", "participant", (1, 1, 14)),
    ("track_unsubscribed", "participant", (1, 1, 14)),
    ("track_published", "participant", (1, 1, 14)),
    ("track_subscription_failed", "participant", (1, 1, 14)),
    ("local_track_unpublished", "publication", (1, 1, 11)),
]
# In the order in which the application puts them.
RAISING = [
    "participant_disconnected",
    "participant_connected",
    "track_muted",
    "track_muted",
    "track_unmuted",
    "active_speakers_changed",
    "participant_metadata_changed",
    "participant_name_changed",
    "participant_attributes_changed",
    "participant_permission_changed",
    "local_track_published",
    "local_track_subscribed",
]


@pytest.mark.parametrize("version", versions())
def test_no_hook_failed_on_the_real_sdk(sdk_runs: SdkRuns, version: str) -> None:
    assert not sdk_runs.watched(version).seen(HookStruck)


@pytest.mark.parametrize("version", versions())
def test_each_swallowed_event_is_a_fact(sdk_runs: SdkRuns, version: str) -> None:
    run = sdk_runs.watched(version)
    unmatched = [(event.event, event.missing) for event in run.seen(RoomEventUnmatched)]
    assert unmatched == [(event, missing) for event, missing, since in SWALLOWED if run.version >= since]
    assert all(event.sid == "TR_ghost" for event in run.seen(RoomEventUnmatched))


@pytest.mark.parametrize("version", versions())
def test_each_raising_event_is_one_exception_with_its_room(sdk_runs: SdkRuns, version: str) -> None:
    run = sdk_runs.watched(version)
    lab = next(event.room for event in run.seen(RoomConnected) if event.name == "lab-one")
    seen = [event for event in run.seen(ExceptionSeen) if event.channel == "room_event" and event.room == lab]
    raised_before = [event for event, _, since in SWALLOWED if run.version < since]
    # 1.1.8 does not know the permission's event; the second `local_track_subscribed` failed until 1.1.13.
    raising = [event for event in RAISING if run.version > (1, 1, 8) or event != "participant_permission_changed"]
    once_more = ["local_track_subscribed"] if run.version < (1, 1, 14) else []
    assert sorted(event.event for event in seen) == sorted(raising + raised_before + once_more)
    assert all(event.frames[-1].startswith("livekit/rtc/room.py:") for event in seen)
    assert {event.task_coro for event in seen} == {"livekit/rtc/room.py:Room._listen_task"}
    assert [event.event for event in seen if event.type == "AssertionError"].count("track_muted") == 1


@pytest.mark.parametrize("version", versions())
def test_log_record_of_a_failure_is_the_same_fact(sdk_runs: SdkRuns, version: str) -> None:
    run = sdk_runs.watched(version)
    seen = [event.fact for event in run.seen(ExceptionSeen) if event.channel == "room_event"]
    again = [event.fact for event in run.seen(ExceptionSeenAgain) if event.channel == "log_room"]
    assert again == seen
    assert run.stderr.count("error running user callback for") == len(seen)


@pytest.mark.parametrize("version", versions())
def test_events_stand_in_the_order_in_which_they_came(sdk_runs: SdkRuns, version: str) -> None:
    run = sdk_runs.watched(version)
    lab, other = (
        next(event.room for event in run.seen(RoomConnected) if event.name == name) for name in ("lab-one", "lab-two")
    )
    first, second = ([e for e in run.seen(RoomEventDispatched) if e.room == room] for room in (lab, other))
    names = [event.event for event in first]
    story = [
        "local_track_published",
        "participant_connected",
        "participant_disconnected",
        "local_track_unpublished",
        "disconnected",
    ]
    places = [names.index(name) for name in ("local_track_published", "participant_connected", "local_track_unpublished")]
    assert places == sorted(places)
    assert set(story) - {"participant_disconnected", "disconnected"} <= set(names)
    assert not {event.event for event in second} & {"participant_connected", "local_track_published"}
    published, unpublished = (
        next(e for e in first if e.event == f"local_track_{what}") for what in ("published", "unpublished")
    )
    assert published.sid == unpublished.sid
    assert published.sid.startswith("TR_")
    connected = [event for event in first if event.event == "participant_connected"]
    assert len({event.identity for event in connected}) == len(connected) == 2
    assert all(event.identity.startswith("id:") and event.sid.startswith("PA_") for event in connected)


@pytest.mark.parametrize("version", versions())
def test_failure_in_a_callback_of_the_application_has_its_event(sdk_runs: SdkRuns, version: str) -> None:
    (seen,) = [event for event in sdk_runs.watched(version).seen(ExceptionSeen) if event.channel == "log_emit"]
    assert (seen.type, seen.event, seen.logger) == ("ValueError", "participant_attributes_changed", "livekit")
    assert seen.identity.startswith("id:")
    assert ":<lambda>:" in seen.frames[-1]


@pytest.mark.parametrize("version", versions())
def test_task_of_a_callback_belongs_to_the_room(sdk_runs: SdkRuns, version: str) -> None:
    run = sdk_runs.watched(version)
    lab = next(event.room for event in run.seen(RoomConnected) if event.name == "lab-one")
    (seen,) = [event for event in run.seen(ExceptionSeen) if event.channel == "never_retrieved"]
    assert seen.room == lab
    assert seen.task_coro == "tests/host/sdk_application.py:fails"
    assert ":<lambda>:" in seen.task_created_at
    assert seen.message.endswith(" is lost")


@pytest.mark.parametrize("version", versions())
def test_no_identity_leaves_the_process(sdk_runs: SdkRuns, version: str) -> None:
    raw = sdk_runs.watched(version).raw
    for identity in (b"caller", b"ghost-of", b"agent\x1f", b"ghost\x1f"):
        assert identity not in raw.replace(b"TR_ghost", b"")
