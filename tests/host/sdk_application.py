"""An application of the real SDK, run by the interpreter of a lab environment: says in JSON what it sees, bare or watched."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "race_watch" / "lab" / "scenarios"))

from _lab import Lab, inject, microphone, parser, run, settle
from livekit import rtc
from livekit.rtc import _ffi_client
from livekit.rtc._proto.ffi_pb2 import FfiRequest
from livekit.rtc.participant import LocalParticipant
from registry_races import EVENTS

CALLS = (
    (rtc.Room, "connect"),
    (rtc.Room, "disconnect"),
    (LocalParticipant, "publish_track"),
    (LocalParticipant, "unpublish_track"),
)
ARGUMENTS = {"connect": ("url", "token"), "disconnect": (), "publish_track": ("track",), "unpublish_track": ("sid",)}
FUNCTIONS = (
    *CALLS,
    (rtc.Room, "_on_room_event"),
    (rtc.AudioStream, "__init__"),
    (rtc.VideoStream, "__init__"),
    (_ffi_client.FfiHandle, "__init__"),
    (_ffi_client.FfiHandle, "dispose"),
    (_ffi_client.FfiClient, "request"),
)


class Mine(rtc.Room):
    """An application's own room."""

    @property
    def local_participant(self) -> Any:
        try:
            return super().local_participant
        except Exception as error:  # noqa: BLE001 - the SDK raises no other type
            return f"not yet: {error}"

    async def connect(self, *args: Any, **kwargs: Any) -> None:
        return await super().connect(*args, **kwargs)


def raised(body: Any) -> str:
    try:
        return f"returned {body()!r}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is shown
        return f"{type(error).__name__}: {error}"


def looks() -> dict[str, Any]:
    """What an application can see of the patched classes; the same with and without race_watch."""
    shown: dict[str, Any] = {}
    for owner, name in FUNCTIONS:
        function = getattr(owner, name)
        shown[f"{owner.__name__}.{name}"] = [
            inspect.iscoroutinefunction(function),
            inspect.isfunction(function),
            str(inspect.signature(function)),
            (function.__name__, function.__qualname__, function.__module__, function.__doc__),
            sorted(map(str, function.__annotations__.items())),
            pickle.loads(pickle.dumps(function)) is function,
        ]
    for owner, name in CALLS:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            coroutine = getattr(owner, name)(object(), *ARGUMENTS[name])
            shown[f"coroutine of {name}"] = [coroutine.__qualname__, coroutine.__name__, inspect.iscoroutine(coroutine)]
            del coroutine
        shown[f"never awaited {name}"] = [str(warning.message) for warning in caught]
    room, mine = rtc.Room(), Mine()
    static = inspect.getattr_static(rtc.Room, "local_participant")
    shown["property"] = [
        type(rtc.Room.local_participant).__name__,
        rtc.Room.local_participant is static,
        static.__doc__,
        (static.fget.__name__, static.fget.__qualname__, str(inspect.signature(static.fget))),
        (static.fset, static.fdel),
        raised(lambda: room.local_participant),
        raised(lambda: hasattr(room, "local_participant")),
        raised(lambda: getattr(room, "local_participant", "default")),
        raised(lambda: setattr(room, "local_participant", 1)),
        raised(lambda: mine.local_participant),
        raised(lambda: [name for name in dir(room) if "local" in name]),
        raised(lambda: static.fget(object())),
    ]
    return shown


def handles() -> int:
    """The gauge of this process; -1 without race_watch."""
    agent = sys.modules.get("race_watch.agent")
    current = agent.current() if agent is not None else None
    return len(current.context.resources.handles.live) if current is not None else -1


async def collected() -> int:
    for _ in range(3):
        await settle()
        gc.collect()
    return handles()


async def fails(text: str) -> None:
    raise ValueError(text)


def stream_errors(track: Any) -> list[str]:
    said = [raised(lambda: rtc.AudioStream(track, sample_rate="48k"))]
    track._ffi_handle.dispose()
    said.append(raised(lambda: rtc.AudioStream(track)))
    said.append(raised(lambda: rtc.VideoStream(track)))
    return said


async def story(lab: Lab) -> dict[str, Any]:
    said: dict[str, Any] = {}
    name, other_name = f"{lab.room_name}-one", f"{lab.room_name}-two"
    base = await collected()
    await lab.server("add", room=name, identities=["caller-early"], tracks=1)
    room = await lab.connect(rtc.Room(), name=name)
    other = await lab.connect(Mine(), name=other_name)
    sid = room.sid
    said["rooms"] = [room.name, await sid if inspect.isawaitable(sid) else sid, other.name]

    heard: list[str] = []
    for event in ("track_published", "track_unpublished", "local_track_unpublished"):
        room.on(event, lambda *_, event=event: heard.append(event))
    publication = await room.local_participant.publish_track(microphone())
    await settle()
    said["refused"] = await outcome(rtc.Room().connect(lab.url, "no token"))
    await lab.server("answer", room=f"{name}-silent", answers=False)
    connecting = asyncio.ensure_future(lab.connect(rtc.Room(), name=f"{name}-silent"))
    await settle()
    connecting.cancel()
    said["cancelled"] = await outcome(connecting)
    await lab.server("add", room=name, identities=["caller"], tracks=1)
    await settle()
    room.on("participant_connected", lambda participant: asyncio.ensure_future(fails(f"{participant.identity} is lost")))
    await lab.server("add", room=name, identities=["caller-late"])
    await settle()
    gc.collect()
    room.on("participant_attributes_changed", lambda *_: int("in a callback"))
    inject(room, participant_attributes_changed={"participant_identity": "caller"})
    await settle()

    for key, (event, message) in EVENTS.items():
        inject(room, **{event: message(room)})
        if key == "local_track_subscribed_twice":
            inject(room, **{event: message(room)})
    inject(room, local_track_unpublished={"publication_sid": "TR_ghost"})
    inject(room, connection_quality_changed={"participant_identity": "ghost-of-quality", "quality": 0})
    inject(other, participant_name_changed={"participant_identity": "ghost-of-two", "name": "n"})
    await settle()

    await room.local_participant.unpublish_track(publication.sid)
    await settle()
    said["heard"] = sorted(set(heard))
    said["streams"] = stream_errors(microphone("for streams"))
    said["stale"] = raised(lambda: _ffi_client.FfiClient.instance.request(stale_request()))
    said["set name"] = await outcome(refused_name(room))
    await lab.server("remove", room=name, identities=["caller-late"])
    await settle()
    await room.disconnect()
    await other.disconnect()
    del room, other, publication, connecting
    said["handles"] = [base, await collected()]
    return said


async def refused_name(room: Any) -> None:
    """A request of a real room that the library refuses: its participant's handle is dropped under it."""
    local = room.local_participant
    handle = local._ffi_handle
    handle.dispose()
    await local.set_name("nobody")


def stale_request() -> Any:
    request = FfiRequest()
    request.disconnect.room_handle = 424_242
    return request


async def outcome(awaited: Any) -> str:
    try:
        await asyncio.wait_for(awaited, 5)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is shown
        return type(error).__name__
    return "ok"


async def main(lab: Lab) -> None:
    shown = {"looks": looks(), "story": await story(lab)}
    print(json.dumps(shown), flush=True)


if __name__ == "__main__":
    run(main, parser(__doc__))
