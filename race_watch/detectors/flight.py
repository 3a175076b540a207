"""The flight record of a process: what it was doing when it ended, told from the last events of its journal."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from race_watch.events import (
    CallEnded,
    CallStarted,
    Disarmed,
    Event,
    FfiPanicked,
    LoopBorn,
    ProcessExiting,
    RequestSent,
    RoomConnected,
    RoomEventDispatched,
    RoomHandleDropped,
)
from race_watch.records import Process, Record

PHASES = ("connect", "publish", "unpublish", "disconnect", "after_disconnect", "idle", "exit")

_PHASE_OF_CALL = {
    "connect": "connect",
    "disconnect": "disconnect",
    "publish_track": "publish",
    "unpublish_track": "unpublish",
}
_EVENTS_TOLD = 8
# Rooms and participants of one process that are followed at a time; beyond it the oldest is forgotten.
_ROOMS_KEPT = 1024
_PARTICIPANTS_KEPT = 256
_CALLS_KEPT = 256
# livekit-agents' JobThreadExecutor runs each job in a thread of this name.
_JOB_THREAD = "job_thread_runner"


@dataclass(frozen=True, slots=True)
class Call:
    """An awaited call of the SDK that has not returned."""

    method: str
    room: int
    t_s: float


@dataclass(slots=True)
class Session:
    """A room while it is connected. `others` are the remote participants, in the order they came, and `unnamed` the rest."""

    others: dict[str, None] = field(default_factory=dict)
    unnamed: int = 0

    @property
    def participants(self) -> int:
        return len(self.others) + self.unnamed

    def came(self, identity: str) -> None:
        if identity not in self.others and len(self.others) >= _PARTICIPANTS_KEPT:
            del self.others[next(iter(self.others))]
            self.unnamed += 1
        self.others[identity] = None

    def went(self, identity: str) -> None:
        if identity in self.others:
            del self.others[identity]
        else:
            self.unnamed = max(self.unnamed - 1, 0)


class Flight:
    """What is known of one process. Rooms are numbers, participants hashed identities, times monotonic seconds.

    Attributes:
        exiting: Type name of the exception that ended the interpreter, empty for an exit in order, None before any of it.
        panic: When, and what, the native library reported last as a panic; None if nothing.
        request: Time and kind of the last lifecycle request to the native library.
        silent: It has written nothing yet.
        disarmed: race_watch was undone in it.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.process_name = ""
        self.job_threads = False
        self.calls: dict[int, Call] = {}
        self.sessions: dict[int, Session] = {}
        self.last_room = 0
        self.left_a_room = False
        self.cancelled_connects = 0
        self.exiting: str | None = None
        self.panic: tuple[float, str] | None = None
        self.request: tuple[float, str] | None = None
        self.silent = True
        self.disarmed = False
        self._told: deque[tuple[float, str]] = deque(maxlen=_EVENTS_TOLD)

    def observe(self, record: Record) -> None:
        event, t_s = record.event, record.t_s
        self.silent = False
        if isinstance(event, CallStarted):
            _make_room(self.calls, _CALLS_KEPT)
            self.calls[event.call] = Call(event.method, event.room, t_s)
            self.last_room = event.room or self.last_room
        elif isinstance(event, CallEnded):
            self.calls.pop(event.call, None)
            if event.method == "disconnect" and event.outcome == "ok":
                self._left(event.room)
            self.cancelled_connects += event.method == "connect" and event.outcome == "cancelled"
        elif isinstance(event, RoomConnected):
            _make_room(self.sessions, _ROOMS_KEPT)
            others = dict.fromkeys(event.present)
            self.sessions[event.room] = Session(others, max(event.participants - len(others), 0))
            self.last_room = event.room
        elif isinstance(event, RoomEventDispatched):
            self._room_event(event)
        elif isinstance(event, RequestSent):
            self.request = (t_s, event.request)
        elif isinstance(event, FfiPanicked):
            self.panic = (t_s, event.message)
        elif isinstance(event, ProcessExiting):
            self.exiting = event.error
        elif isinstance(event, LoopBorn):
            self.process_name = event.process_name
            self.job_threads = self.job_threads or event.thread == _JOB_THREAD
        elif isinstance(event, Disarmed):
            self.disarmed = True
        said = _say(event)
        if said:
            self._told.append((t_s, said))

    def _room_event(self, event: RoomEventDispatched) -> None:
        session = self.sessions.get(event.room)
        if event.event == "disconnected":
            self._left(event.room)
        elif session is not None and event.event == "participant_connected":
            session.came(event.identity)
        elif session is not None and event.event == "participant_disconnected":
            session.went(event.identity)

    def _left(self, room: int) -> None:
        self.left_a_room = self.sessions.pop(room, None) is not None or self.left_a_room

    def phase(self) -> str:
        """One of PHASES: the call that was made last and has not returned decides."""
        if self.calls:
            return _PHASE_OF_CALL.get(self._last_call().method, "idle")
        if self.exiting is not None:
            return "exit"
        return "after_disconnect" if self.left_a_room and not self.sessions else "idle"

    def room(self) -> int:
        """The room that the end has to do with: of the last call under way, the only one, the last one called for; or 0."""
        if self.calls and self._last_call().room:
            return self._last_call().room
        return next(iter(self.sessions)) if len(self.sessions) == 1 else self.last_room

    def participant(self) -> str:
        """The remote participant of that room, where it has exactly one."""
        session = self.sessions.get(self.room())
        return next(iter(session.others), "") if session is not None and session.participants == 1 else ""

    def participants(self) -> int:
        return sum(session.participants for session in self.sessions.values())

    def _last_call(self) -> Call:
        return next(reversed(self.calls.values()))

    def describe(self, end_s: float) -> dict[str, str]:
        """What the incident's evidence says of it; ages are seconds before the end."""
        told = {
            "phase": self.phase(),
            "rooms_live": str(len(self.sessions)),
            "participants_live": str(self.participants()),
        }
        if self.calls:
            told["in_flight"] = ", ".join(f"{c.method} for {end_s - c.t_s:.2f} s" for c in list(self.calls.values())[-4:])
        if self._told:
            told["before"] = ", ".join(f"{text} {end_s - t_s:.2f} s" for t_s, text in self._told)
        return told


def _make_room(kept: dict[int, Call] | dict[int, Session], limit: int) -> None:
    if len(kept) >= limit:
        del kept[next(iter(kept))]


def _say(event: Event) -> str:
    """An event in a few words, if it is one of the story."""
    if isinstance(event, CallStarted):
        return f"{event.method} called"
    if isinstance(event, CallEnded):
        return f"{event.method} {event.outcome}"
    if isinstance(event, RequestSent):
        return f"request {event.request}"
    if isinstance(event, RoomHandleDropped):
        return "room handle dropped"
    if isinstance(event, RoomEventDispatched):
        return event.event
    if isinstance(event, FfiPanicked):
        return "FFI panic"
    if isinstance(event, ProcessExiting):
        return "interpreter exit"
    return ""
