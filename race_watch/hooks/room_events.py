"""The dispatch of room events: what arrives, in which order, what it finds in the SDK's registry, and what it raises.

The registry is compared before the SDK looks: since 1.1.11 and 1.1.14 it drops events for what it no longer holds with a DEBUG
record that, under the agents command line, is never even created.
Source: `livekit/rtc/room.py:Room._on_room_event`, fields of `proto.RoomEvent` (livekit 0.18 to 1.2.0).
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from race_watch.events import RoomEventDispatched, RoomEventUnmatched, clean
from race_watch.guard import Guard
from race_watch.hooks.context import Context
from race_watch.hooks.patching import Patches
from race_watch.hooks.rooms import Where
from race_watch.journal import layout

NAME = "room_events"
TARGET = "livekit.rtc"
SUPPORTED = "livekit 0.18 to 1.2"

_IDENTITY = attrgetter("participant_identity")


def _nothing(message: Any) -> str:
    return ""


# Events that tell a room's story or are known to race: where the message has the participant's identity and the sid.
FIELDS: dict[str, tuple[Callable[[Any], str], Callable[[Any], str]]] = {
    "participant_connected": (attrgetter("info.info.identity"), attrgetter("info.info.sid")),
    "participant_disconnected": (_IDENTITY, _nothing),
    "local_track_published": (_nothing, attrgetter("track_sid")),
    "local_track_unpublished": (_nothing, attrgetter("publication_sid")),
    "local_track_subscribed": (_nothing, attrgetter("track_sid")),
    "track_published": (_IDENTITY, attrgetter("publication.info.sid")),
    "track_unpublished": (_IDENTITY, attrgetter("publication_sid")),
    "track_subscribed": (_IDENTITY, attrgetter("track.info.sid")),
    "track_unsubscribed": (_IDENTITY, attrgetter("track_sid")),
    "track_subscription_failed": (_IDENTITY, attrgetter("track_sid")),
    "track_muted": (_IDENTITY, attrgetter("track_sid")),
    "track_unmuted": (_IDENTITY, attrgetter("track_sid")),
    "participant_metadata_changed": (_IDENTITY, _nothing),
    "participant_name_changed": (_IDENTITY, _nothing),
    "participant_attributes_changed": (_IDENTITY, _nothing),
    "participant_permission_changed": (_IDENTITY, _nothing),
    "room_sid_changed": (_nothing, attrgetter("sid")),
    "connection_state_changed": (_nothing, _nothing),
    "disconnected": (_nothing, _nothing),
    "reconnecting": (_nothing, _nothing),
    "reconnected": (_nothing, _nothing),
    "moved": (_nothing, _nothing),
}
_NEEDS_PARTICIPANT = frozenset(
    ("track_published", "track_unpublished", "track_subscribed", "track_unsubscribed", "track_subscription_failed")
)
_NEEDS_PUBLICATION = frozenset(("track_unpublished", "track_subscribed", "track_unsubscribed"))
_EDGES = frozenset(("participant_connected", "participant_disconnected", "disconnected"))


def install(context: Context, module: Any, patches: Patches, guard: Guard) -> None:
    """Wraps `Room._on_room_event`."""
    from livekit.rtc.room import Room

    dispatch = context.rooms.dispatch
    begin, done, failed = (
        guard.wrap(_Dispatching(context).begin),
        guard.wrap(_done(context)),
        guard.wrap(_failed(context)),
    )

    def wrap(original: Callable[..., None]) -> Callable[..., None]:
        def _on_room_event(self: Any, event: Any) -> None:
            begin(self, event)
            try:
                original(self, event)
            except Exception as error:
                failed(error, self, event)
                raise
            else:
                if dispatch.event:
                    done(self)
            finally:
                dispatch.room = 0
                dispatch.event = dispatch.missing = dispatch.identity = dispatch.sid = ""

        return _on_room_event

    patches.replace(Room, "_on_room_event", wrap)


class _Dispatching:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._count_index = layout.COUNTER_INDEX["room_events"]

    def begin(self, room: Any, event: Any) -> None:
        context = self._context
        context.recorder.count(self._count_index)
        dispatch = context.rooms.dispatch
        dispatch.room = context.rooms.number(room)
        name = event.WhichOneof("message")
        fields = FIELDS.get(name)
        if fields is None:
            return
        message = getattr(event, name)
        identity = fields[0](message)
        dispatch.event = name
        dispatch.identity = context.recorder.identity(identity) if identity else ""
        dispatch.sid = sid = fields[1](message)
        if name in _NEEDS_PARTICIPANT:
            dispatch.missing = _missing(room, name, identity, sid)
        elif name == "local_track_unpublished" and sid not in room._local_participant._track_publications:
            dispatch.missing = "publication"


def _missing(room: Any, name: str, identity: str, sid: str) -> str:
    participant = room._remote_participants.get(identity)
    if participant is None:
        return "participant"
    if name in _NEEDS_PUBLICATION and sid not in participant._track_publications:
        return "publication"
    return ""


def _done(context: Context) -> Callable[[Any], None]:
    dispatch, recorder = context.rooms.dispatch, context.recorder

    def done(room: Any) -> None:
        if dispatch.missing:
            recorder.state(RoomEventUnmatched, dispatch.room, dispatch.event, dispatch.identity, dispatch.sid, dispatch.missing)
            return
        recorder.emit(RoomEventDispatched.code, f"{dispatch.room}\x1f{dispatch.event}\x1f{dispatch.identity}\x1f{dispatch.sid}")
        if dispatch.event in _EDGES:
            if dispatch.event == "disconnected":
                context.rooms.disconnected(room)
            context.resources.sample()

    return done


def _failed(context: Context) -> Callable[[BaseException, Any, Any], None]:
    dispatch = context.rooms.dispatch

    def failed(error: BaseException, room: Any, event: Any) -> None:
        known = bool(dispatch.event)
        where = Where(
            room=context.rooms.number(room),
            event=dispatch.event or clean(event.WhichOneof("message") or ""),
            identity=dispatch.identity if known else "",
            track_sid=dispatch.sid if known else "",
            task=context.tasks.describe(context.tasks.current()),
        )
        context.exceptions.see(error, "room_event", where, on_its_way=True)

    return failed
