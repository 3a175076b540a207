"""The room calls an application awaits (connect, disconnect, publish, unpublish), and its access before connect.

Source: `livekit/rtc/room.py:Room.connect, disconnect, local_participant` and `participant.py:LocalParticipant.publish_track,
unpublish_track` (livekit 0.18 to 1.2.0). These are awaited a few times a room; the awaited coroutine is the SDK's own with one
frame of ours around it.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable
from typing import Any

from race_watch.events import LIST_SEP, CallEnded, CallStarted, RoomConnected, RoomNamed, clean
from race_watch.guard import Guard
from race_watch.hooks.access_token import token_room
from race_watch.hooks.context import Context
from race_watch.hooks.patching import Patches
from race_watch.hooks.rooms import Where

NAME = "room_calls"
TARGET = "livekit.rtc"
SUPPORTED = "livekit 0.18 to 1.2"

# The argument of a call that is looked at: its place and its name.
_LOOKED_AT = {"connect": (1, "token"), "unpublish_track": (0, "track_sid")}
_NAME_KEPT = 128
_PRESENT_KEPT = 16


def install(context: Context, module: Any, patches: Patches, guard: Guard) -> None:
    """Wraps the four calls and the `local_participant` property."""
    from livekit.rtc.participant import LocalParticipant
    from livekit.rtc.room import Room

    calls = _Calls(context)
    started, ended = guard.wrap(calls.started), guard.wrap(calls.ended)
    too_early = guard.wrap(lambda error, room: _too_early(context, error, room))

    def wrap_call(original: Callable[..., Any]) -> Callable[..., Any]:
        method = original.__name__

        async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            number = calls.next()
            started(number, self, method, args, kwargs)
            outcome = "cancelled"
            try:
                result = await original(self, *args, **kwargs)
                outcome = "ok"
                return result
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                outcome = type(error).__name__
                raise
            finally:
                ended(number, self, method, outcome)

        return call

    for owner, name in (
        (Room, "connect"),
        (Room, "disconnect"),
        (LocalParticipant, "publish_track"),
        (LocalParticipant, "unpublish_track"),
    ):
        patches.replace(owner, name, wrap_call)

    def wrap_property(original: Any) -> Any:
        get = original.fget

        @functools.wraps(get)
        def local_participant(self: Any) -> Any:
            try:
                return get(self)
            except Exception as error:
                too_early(error, self)
                raise

        made = property(local_participant, original.fset, original.fdel, original.__doc__)
        # A class statement does this; the text of "has no setter" has the name.
        made.__set_name__(Room, "local_participant")  # type: ignore[attr-defined]
        return made

    patches.replace(Room, "local_participant", wrap_property)


class _Calls:
    def __init__(self, context: Context) -> None:
        self._context = context
        self.next = itertools.count(1).__next__

    def _room(self, owner: Any) -> int:
        """`owner` is a Room or a LocalParticipant, which knows its room only by its native handle."""
        rooms = self._context.rooms
        if hasattr(owner, "_remote_participants"):
            return rooms.number(owner)
        handle = getattr(owner, "_ffi_handle", None)
        return rooms.of_handle(handle.handle) if handle is not None else 0

    def started(self, number: int, owner: Any, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if method == "disconnect":
            self._context.rooms.leaves(owner, leaving=True)
        given = _argument(method, args, kwargs)
        room = self._room(owner)
        self._context.recorder.state(CallStarted, number, room, method, clean(given) if method == "unpublish_track" else "")
        name = token_room(given) if method == "connect" else ""
        if name:
            self._context.recorder.state(RoomNamed, room, clean(name)[:_NAME_KEPT])

    def ended(self, number: int, owner: Any, method: str, outcome: str) -> None:
        context = self._context
        room = self._room(owner)
        if method == "connect" and outcome == "ok":
            info = owner._info
            local = owner._local_participant
            identity = context.recorder.identity(local._info.identity if local is not None else "")
            context.rooms.connected(owner)
            context.resources.handles.of_room(owner._ffi_handle.handle, room)
            context.counting.start()
            # From now on they are taken out of texts.
            present = [context.recorder.identity(remote) for remote in list(owner._remote_participants)]
            context.recorder.state(
                RoomConnected,
                room,
                clean(info.name)[:_NAME_KEPT],
                clean(info.sid),
                identity,
                len(present),
                LIST_SEP.join(present[:_PRESENT_KEPT]),
            )
        elif method == "disconnect":
            # Cancelled or refused, it leaves the room as connected as it was.
            if not owner.isconnected():
                context.rooms.disconnected(owner)
            context.rooms.leaves(owner, leaving=False)
        if method == "connect":
            context.rooms.tally.connects += 1
            context.rooms.tally.connects_cancelled += outcome == "cancelled"
        context.recorder.state(CallEnded, number, room, method, outcome)
        if method in ("connect", "disconnect"):
            context.resources.sample(now=True)


def _argument(method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The argument that is looked at, empty where there is none or it is no string."""
    place, name = _LOOKED_AT.get(method, (len(args), ""))
    given = args[place] if len(args) > place else kwargs.get(name)
    return given if type(given) is str else ""


def _too_early(context: Context, error: BaseException, room: Any) -> None:
    # The default is for what is no Room, or one whose subclass has not called `Room.__init__` yet.
    if getattr(room, "_local_participant", room) is not None:
        return
    name = getattr(room._info, "name", "")
    if name:
        context.recorder.state(RoomNamed, context.rooms.number(room), clean(name)[:_NAME_KEPT])
    task = context.tasks.describe(context.tasks.current())
    context.exceptions.see(error, "before_connect", Where(room=context.rooms.number(room), task=task), on_its_way=True)
