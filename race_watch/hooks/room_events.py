"""The dispatch of room events: what arrives, in which order, what it finds in the SDK's registry, and what it raises.

The registry is compared before the SDK looks: since 1.1.11 and 1.1.14 it drops events for what it no longer holds with a DEBUG
record that, under the agents command line, is never even created.
Source: `livekit/rtc/room.py:Room._on_room_event`, fields of `proto.RoomEvent` (livekit 0.18 to 1.2.0).
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
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


def _joined(message: Any) -> tuple[str, str]:
    info = message.info.info
    return info.identity, info.sid


# Events that tell a room's story or are known to race: the participant's identity and the sid that the message has. One call
# for both, of plain attributes: an `attrgetter` for each takes 60 ns more an event.
FIELDS: dict[str, Callable[[Any], tuple[str, str]]] = {
    "participant_connected": _joined,
    "participant_disconnected": lambda message: (message.participant_identity, ""),
    "local_track_published": lambda message: ("", message.track_sid),
    "local_track_unpublished": lambda message: ("", message.publication_sid),
    "local_track_subscribed": lambda message: ("", message.track_sid),
    "track_published": lambda message: (message.participant_identity, message.publication.info.sid),
    "track_unpublished": lambda message: (message.participant_identity, message.publication_sid),
    "track_subscribed": lambda message: (message.participant_identity, message.track.info.sid),
    "track_unsubscribed": lambda message: (message.participant_identity, message.track_sid),
    "track_subscription_failed": lambda message: (message.participant_identity, message.track_sid),
    "track_muted": lambda message: (message.participant_identity, message.track_sid),
    "track_unmuted": lambda message: (message.participant_identity, message.track_sid),
    "participant_metadata_changed": lambda message: (message.participant_identity, ""),
    "participant_name_changed": lambda message: (message.participant_identity, ""),
    "participant_attributes_changed": lambda message: (message.participant_identity, ""),
    "participant_permission_changed": lambda message: (message.participant_identity, ""),
    "room_sid_changed": lambda message: ("", message.sid),
    "connection_state_changed": lambda message: ("", ""),
    "disconnected": lambda message: ("", ""),
    "reconnecting": lambda message: ("", ""),
    "reconnected": lambda message: ("", ""),
    "moved": lambda message: ("", ""),
}
_NEEDS_PARTICIPANT = frozenset(
    ("track_published", "track_unpublished", "track_subscribed", "track_unsubscribed", "track_subscription_failed")
)
_NEEDS_PUBLICATION = frozenset(("track_unpublished", "track_subscribed", "track_unsubscribed"))
_EDGES = frozenset(("participant_connected", "participant_disconnected", "disconnected"))


def install(context: Context, module: Any, patches: Patches, guard: Guard) -> None:
    """Wraps `Room._on_room_event`."""
    from livekit.rtc.room import Room

    begin, done, failed = guard.wrap_two(_begin(context)), guard.wrap_two(_done(context)), guard.wrap(_failed(context))
    end = context.rooms.dispatch.now.pop

    def wrap(original: Callable[..., None]) -> Callable[..., None]:
        def _on_room_event(self: Any, event: Any) -> None:
            begin(self, event)
            try:
                original(self, event)
            except Exception as error:
                failed(error, self, event)
                raise
            finally:
                about = end(get_ident(), None)
            if about is not None and about[1]:
                done(self, about)

        return _on_room_event

    patches.replace(Room, "_on_room_event", wrap)


def _begin(context: Context) -> Callable[[Any, Any], None]:
    recorder, number, now = context.recorder, context.rooms.number, context.rooms.dispatch.now
    counter = layout.COUNTER_INDEX["room_events"]

    def begin(room: Any, event: Any) -> None:
        recorder.count(counter)
        name = event.WhichOneof("message")
        fields = FIELDS.get(name)
        if fields is None:
            now[get_ident()] = (number(room), "", "", "", "")
            return
        identity, sid = fields(getattr(event, name))
        missing = ""
        if name in _NEEDS_PARTICIPANT:
            missing = _missing(room, name, identity, sid)
        elif name == "local_track_unpublished" and sid not in room._local_participant._track_publications:
            missing = "publication"
        now[get_ident()] = (number(room), name, recorder.identity(identity) if identity else "", sid, missing)

    return begin


def _missing(room: Any, name: str, identity: str, sid: str) -> str:
    participant = room._remote_participants.get(identity)
    if participant is None:
        return "participant"
    if name in _NEEDS_PUBLICATION and sid not in participant._track_publications:
        return "publication"
    return ""


def _done(context: Context) -> Callable[[Any, Any], None]:
    recorder = context.recorder

    def done(room: Any, about: tuple[int, str, str, str, str]) -> None:
        number, name, identity, sid, missing = about
        if missing:
            recorder.state(RoomEventUnmatched, number, name, identity, sid, missing)
            return
        recorder.emit(RoomEventDispatched.code, f"{number}\x1f{name}\x1f{identity}\x1f{sid}")
        if name in _EDGES:
            if name == "disconnected":
                context.rooms.disconnected(room)
            elif name == "participant_disconnected":
                context.rooms.departed(room)
            context.resources.sample()

    return done


def _learn(context: Context, event: Any) -> None:
    """Makes the identities of an event that is not in FIELDS known, so that they are taken out of texts."""
    message = getattr(event, event.WhichOneof("message") or "", None)
    for field in message.DESCRIPTOR.fields if message is not None else ():
        if field.name.startswith("participant_identit"):
            value = getattr(message, field.name)
            for identity in (value,) if type(value) is str else value:
                context.recorder.identity(identity)


def _failed(context: Context) -> Callable[[BaseException, Any, Any], None]:
    dispatch = context.rooms.dispatch

    def failed(error: BaseException, room: Any, event: Any) -> None:
        if context.exceptions.suppressed(error):
            return
        known = bool(dispatch.event)
        if not known:
            _learn(context, event)
        where = Where(
            room=context.rooms.number(room),
            event=dispatch.event or clean(event.WhichOneof("message") or ""),
            identity=dispatch.identity if known else "",
            track_sid=dispatch.sid if known else "",
            task=context.tasks.describe(context.tasks.current()),
        )
        context.exceptions.see(error, "room_event", where, on_its_way=True)

    return failed
