"""Refused native requests and half-made objects of published SDKs."""

from __future__ import annotations

import types
from typing import Any

import pytest
from arming import Armed, in_thread, sdk
from sdk_runs import SdkRuns, versions

from race_watch.events import ConstructorFailed, ExceptionSeen, FfiErrorLogged, RoomConnected
from race_watch.hooks import ffi_requests

REFUSED = ["NewAudioStream", "NewVideoStream", "Disconnect", "SetLocalName"]


@pytest.mark.parametrize("version", versions())
def test_refusal_has_its_request_and_its_native_record(sdk_runs: SdkRuns, version: str) -> None:
    run = sdk_runs.watched(version)
    seen = [event for event in run.seen(ExceptionSeen) if event.channel == "ffi_request"]
    assert [(event.type, event.message, event.request) for event in seen] == [("AssertionError", "", kind) for kind in REFUSED]
    assert all(event.frames[-1].startswith("livekit/rtc/_ffi_client.py:request:") for event in seen)
    logged = {(event.request, event.reason) for event in run.seen(FfiErrorLogged)}
    assert logged == {(kind, 'InvalidRequest("handle not found")') for kind in REFUSED}


@pytest.mark.parametrize("version", versions())
def test_refusal_is_attributed_where_the_handle_tells_the_room(sdk_runs: SdkRuns, version: str) -> None:
    run = sdk_runs.watched(version)
    lab = next(event.room for event in run.seen(RoomConnected) if event.name == "lab-one")
    rooms = {event.request: event.room for event in run.seen(ExceptionSeen) if event.channel == "ffi_request"}
    # Two rooms were open: nothing tells whose a track of nobody's or a made-up handle is.
    assert rooms == {"NewAudioStream": 0, "NewVideoStream": 0, "Disconnect": 0, "SetLocalName": lab}


@pytest.mark.parametrize("version", versions())
def test_constructor_that_leaves_a_task_is_told_also_when_nothing_is_logged(sdk_runs: SdkRuns, version: str) -> None:
    run = sdk_runs.watched(version)
    failed = run.seen(ConstructorFailed)
    if run.version >= (1, 1, 14):
        # The order was mended, and `VideoStream` never had it wrong.
        assert not failed
        return
    assert [event.cls for event in failed] == ["livekit.rtc.audio_stream.AudioStream"] * 2
    facts = {event.fact: event for event in run.seen(ExceptionSeen)}
    assert [(facts[event.fact].type, facts[event.fact].channel) for event in failed] == [
        ("TypeError", "constructor"),
        ("AssertionError", "ffi_request"),
    ]
    for event in failed:
        (task,) = event.tasks
        key, _, coroutine, created_at = task.split("|")
        assert key
        assert coroutine == "livekit/rtc/audio_stream.py:AudioStream._run"
        assert created_at.startswith("livekit/rtc/audio_stream.py:__init__:")


CONSTRUCTORS = """
class Stream:
    def __init__(self, how, track=None):
        self._track = track
        self.task = asyncio.get_running_loop().create_task(self.reads(), name="reads of caller-jane")
        if how == "cleans up":
            self.task.cancel()
        if how == "nested":
            Stream("fails")
        if how != "works":
            raise ValueError(how)

    async def reads(self):
        await asyncio.sleep(0)
"""


def watched_stream(armed: Armed) -> Any:
    """The class with its constructor wrapped, as it is for the SDK's."""
    cls = sdk(CONSTRUCTORS)["Stream"]
    guard = armed.context.recorder.guard("ffi_requests")
    cls.__init__ = ffi_requests._wrap_constructor(armed.context, guard, cls.__init__)
    return cls


@pytest.mark.parametrize(("how", "tasks"), [("works", 0), ("cleans up", 0), ("fails", 1), ("nested", 2)])
def test_only_tasks_that_nobody_ends_are_told(armed: Armed, how: str, tasks: int) -> None:
    import asyncio

    armed.context.recorder.identity("caller-jane")
    cls = watched_stream(armed)

    async def main() -> None:
        if how == "works":
            await cls(how).task
        else:
            with pytest.raises(ValueError, match=how if how != "nested" else "fails"):
                cls(how, types.SimpleNamespace(sid="TR_1"))
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait([task])

    asyncio.run(main())
    failed = armed.seen(ConstructorFailed)
    assert sum(len(event.tasks) for event in failed) == tasks
    assert len({event.fact for event in failed}) == min(tasks, 1)
    assert not armed.context.tasks.constructing.stack
    assert b"caller-jane" not in armed.raw()


def test_constructors_of_threads_do_not_mix(armed: Armed) -> None:
    seen: list[int] = []
    armed.context.tasks.constructing.stack.append([])
    in_thread(lambda: seen.append(len(armed.context.tasks.constructing.stack)))
    assert seen == [0]
    armed.context.tasks.constructing.stack.clear()
