"""The room sessions of all processes: records in, spans out as they end. Pure: no clock, no thread, nothing of OpenTelemetry.

A session is a trace of its own, from `connect()` to the end of `disconnect()`, to the server's end of it or to that of the
process. Its children are the calls (connect, publish_track, unpublish_track, disconnect), each remote participant while it is
there, and, in a livekit-agents job, the job from its first connect to the end of its process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from race_watch.events import CallEnded, CallStarted, LoopBorn, ProcessExiting, RoomConnected, RoomEventDispatched
from race_watch.records import JournalEnded, Process, Record
from race_watch.room_session import OUTCOME, RoomSession
from race_watch.spans import Span, SpanIds, child_of, ids_of

JOB = "job"
# Sessions that are open at a time (the oldest is ended), and ended ones that an incident can still be linked to.
_OPEN_MAX = 4096
_LINKABLE_MAX = 4096
_LEFT = "left by the server or the network"

_Key = tuple[str, int]


@dataclass(slots=True)
class _ProcessFacts:
    """`exiting` is None before the interpreter has said that it ends; `job` the job's session and the time of its connect."""

    last_s: float = 0.0
    process_name: str = ""
    exiting: str | None = None
    job: tuple[SpanIds, float] | None = None


class Sessions:
    """Follows the sessions by process nonce and room number.

    Args:
        emit: Called with each span as it ends.
        admit: Asked with trace id and time when a session begins: whether it gets spans.
    """

    def __init__(self, emit: Callable[[Span], None], admit: Callable[[str, float], bool]) -> None:
        self._emit = emit
        self._admit = admit
        # The oldest first.
        self._open: dict[_Key, RoomSession] = {}
        self._linkable: dict[_Key, SpanIds] = {}
        self._processes: dict[str, _ProcessFacts] = {}

    def observe(self, record: Record) -> None:
        event, nonce, t_s = record.event, record.process.nonce, record.t_s
        facts = self._processes.setdefault(nonce, _ProcessFacts())
        facts.last_s = max(facts.last_s, t_s)
        if isinstance(event, LoopBorn):
            facts.process_name = event.process_name
        elif isinstance(event, ProcessExiting):
            facts.exiting = event.error
        elif isinstance(event, JournalEnded):
            self._process_ended(record.process, event, self._processes.pop(nonce))
        elif isinstance(event, (CallStarted, CallEnded, RoomConnected, RoomEventDispatched)):
            key = (nonce, event.room)
            if isinstance(event, CallStarted) and event.method == "connect" and key not in self._open:
                self._begin(key, record, event.call, facts)
            session = self._open.get(key)
            if session is not None:
                self._follow(key, session, event, t_s)

    def session_of(self, process: Process, room: int) -> SpanIds | None:
        """The span of the room's latest session; None where it gets none."""
        return self._linkable.get((process.nonce, room))

    def finish(self, now_s: float) -> None:
        """Ends what is still open: nobody watches any longer."""
        for key in list(self._open):
            self._end(key, now_s, "unwatched", None)

    def _begin(self, key: _Key, record: Record, call: int, facts: _ProcessFacts) -> None:
        ids = ids_of("session", *key, call)
        self._linkable.pop(key, None)
        if not self._admit(ids.trace_id, record.t_s):
            return
        self._open[key] = RoomSession(ids, record.process, record.t_s, self._emit)
        self._linkable[key] = ids
        if len(self._linkable) > _LINKABLE_MAX:
            del self._linkable[next(iter(self._linkable))]
        if len(self._open) > _OPEN_MAX:
            self._end(next(iter(self._open)), record.t_s, "unwatched", None)
        if facts.process_name.startswith("job_proc") and facts.job is None:
            facts.job = ids, record.t_s

    def _follow(
        self,
        key: _Key,
        session: RoomSession,
        event: CallStarted | CallEnded | RoomConnected | RoomEventDispatched,
        t_s: float,
    ) -> None:
        if isinstance(event, CallStarted):
            session.call_started(event, t_s)
        elif isinstance(event, RoomConnected):
            session.room_connected(event, t_s)
        elif isinstance(event, RoomEventDispatched):
            session.happened(event, t_s)
            # Whoever is connecting or disconnecting is told of it first: the session ends with that call.
            if session.left and not session.is_calling("connect", "disconnect"):
                self._end(key, t_s, _LEFT, None)
        else:
            session.call_ended(event, t_s)
            self._call_ended(key, session, event, t_s)

    def _call_ended(self, key: _Key, session: RoomSession, event: CallEnded, t_s: float) -> None:
        if event.method == "connect" and event.outcome != "ok" and not session.connected:
            failed = event.outcome != "cancelled"
            self._end(key, t_s, event.outcome, f"connect failed: {event.outcome}" if failed else None)
        elif event.method == "disconnect" and (event.outcome == "ok" or session.left):
            self._end(key, t_s, "disconnected", None)
        elif event.method == "connect" and session.left:
            self._end(key, t_s, _LEFT, None)

    def _process_ended(self, process: Process, event: JournalEnded, facts: _ProcessFacts) -> None:
        if event.running:
            outcome, error = "unwatched", None
        elif facts.exiting is None:
            outcome, error = "process died", "the process died with the room open"
        else:
            outcome = "process ended"
            error = f"the process was ended by {facts.exiting} with the room open" if facts.exiting else None
        for key in [key for key in self._open if key[0] == process.nonce]:
            # Of a process that was killed nobody knows the time; not before the last that it said.
            self._end(key, facts.last_s, outcome, error)
        if facts.job is not None:
            session, start_s = facts.job
            self._emit(
                Span(
                    child_of(session, JOB),
                    JOB,
                    process.wall(start_s),
                    process.wall(facts.last_s),
                    session.span_id,
                    {"process.pid": process.pid, OUTCOME: outcome},
                    error and "the job's process did not end in order",
                )
            )

    def _end(self, key: _Key, t_s: float, outcome: str, error: str | None) -> None:
        self._open.pop(key).end(t_s, outcome, error)
