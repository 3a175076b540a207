"""One room session as a span with its children: what is open in it, and what it gives as it ends. Pure."""

from __future__ import annotations

from collections.abc import Callable

from race_watch.events import CallEnded, CallStarted, RoomConnected, RoomEventDispatched
from race_watch.records import Process
from race_watch.spans import (
    PARTICIPANT_IDENTITY,
    PARTICIPANT_SID,
    ROOM_NAME,
    ROOM_SID,
    TRACK_SID,
    Span,
    SpanEvent,
    SpanIds,
    Value,
    child_of,
)

ROOM_SESSION = "room session"
PARTICIPANT = "participant"
OUTCOME = "race_watch.outcome"
CHILDREN_DROPPED = "race_watch.children_dropped"

# Children of a session that get a span; the rest is counted on the session's own. Events on that one: the first are kept.
CHILDREN_MAX = 128
_EVENTS_MAX = 64
# What tells a room's story and is no child.
_STORY = frozenset(("reconnecting", "reconnected", "moved", "disconnected"))
_NO_FAILURE = frozenset(("ok", "cancelled", "unfinished"))


class RoomSession:
    """From `connect()` on. Times are monotonic seconds of its process.

    Args:
        emit: Called with each span as it ends, the session's own last.

    Attributes:
        connected: Whether `connect()` has succeeded.
        left: Whether the SDK has said that the room is gone.
    """

    def __init__(self, ids: SpanIds, process: Process, start_s: float, emit: Callable[[Span], None]) -> None:
        self.ids = ids
        self.connected = False
        self.left = False
        self._process = process
        self._start_s = start_s
        self._emit = emit
        self._attributes: dict[str, Value] = {"process.pid": process.pid}
        self._events: list[SpanEvent] = []
        # Call number -> method, track and begin; identity -> sid and begin.
        self._calls: dict[int, tuple[str, str, float]] = {}
        self._participants: dict[str, tuple[str, float]] = {}
        self._children = 0
        self._dropped = 0

    def is_calling(self, *methods: str) -> bool:
        """Whether one of these calls is under way."""
        return any(method in methods for method, _, _ in self._calls.values())

    def call_started(self, event: CallStarted, t_s: float) -> None:
        if len(self._calls) < CHILDREN_MAX or event.method == "disconnect":
            self._calls[event.call] = event.method, event.track_sid, t_s
        else:
            self._dropped += 1

    def call_ended(self, event: CallEnded, t_s: float) -> None:
        self._end_call(event.call, t_s, event.outcome)

    def room_connected(self, event: RoomConnected, t_s: float) -> None:
        self.connected = True
        named = {ROOM_NAME: event.name, ROOM_SID: event.sid, PARTICIPANT_IDENTITY: event.identity}
        self._attributes.update({name: value for name, value in named.items() if value})
        for identity in event.present:
            self._participants.setdefault(identity, ("", t_s))

    def happened(self, event: RoomEventDispatched, t_s: float) -> None:
        if event.event == "participant_connected":
            if len(self._participants) < CHILDREN_MAX:
                self._participants[event.identity] = event.sid, t_s
            else:
                self._dropped += 1
        elif event.event == "participant_disconnected":
            self._end_participant(event.identity, t_s)
        elif event.event == "room_sid_changed":
            self._attributes[ROOM_SID] = event.sid
        elif event.event in _STORY and len(self._events) < _EVENTS_MAX:
            self._events.append(SpanEvent(event.event, self._process.wall(t_s)))
        self.left = self.left or event.event == "disconnected"

    def end(self, t_s: float, outcome: str, error: str | None) -> None:
        """Ends it and what is open in it; `error` says why it failed, if it did."""
        for call in list(self._calls):
            self._end_call(call, t_s, "unfinished")
        for identity in list(self._participants):
            self._end_participant(identity, t_s)
        attributes = {**self._attributes, OUTCOME: outcome}
        if self._dropped:
            attributes[CHILDREN_DROPPED] = self._dropped
        if error is not None:
            attributes["error.type"] = outcome
        start_ns, end_ns = self._process.wall(self._start_s), self._process.wall(t_s)
        events = tuple(self._events)
        self._emit(Span(self.ids, ROOM_SESSION, start_ns, end_ns, attributes=attributes, error=error, events=events))

    def _end_call(self, call: int, t_s: float, outcome: str) -> None:
        method, sid, start_s = self._calls.pop(call, ("", "", 0.0))
        if not method:
            return
        attributes: dict[str, Value] = {OUTCOME: outcome}
        if sid:
            attributes[TRACK_SID] = sid
        error = None
        if outcome not in _NO_FAILURE:
            attributes["error.type"] = outcome
            error = f"{method} raised {outcome}"
        self._child(child_of(self.ids, method, call), method, (start_s, t_s), attributes, error)

    def _end_participant(self, identity: str, t_s: float) -> None:
        if identity not in self._participants:
            return
        sid, start_s = self._participants.pop(identity)
        attributes: dict[str, Value] = {PARTICIPANT_IDENTITY: identity}
        if sid:
            attributes[PARTICIPANT_SID] = sid
        self._child(child_of(self.ids, PARTICIPANT, identity, start_s), PARTICIPANT, (start_s, t_s), attributes, None)

    def _child(
        self, ids: SpanIds, name: str, times_s: tuple[float, float], attributes: dict[str, Value], error: str | None
    ) -> None:
        self._children += 1
        if self._children > CHILDREN_MAX:
            self._dropped += 1
            return
        start_ns, end_ns = (self._process.wall(t_s) for t_s in times_s)
        self._emit(Span(ids, name, start_ns, end_ns, self.ids.span_id, attributes, error))
