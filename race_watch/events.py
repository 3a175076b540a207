"""The vocabulary: everything the host half can state. Past tense; strings and ints only.

An event's journal code is its place in `EVENTS` (append only: a reader of the same layout version must understand older
journals). Its body in the journal is its fields in order, joined by `SEP`; lists inside a field are joined by `LIST_SEP`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

SEP = "\x1f"
LIST_SEP = "\x1e"

_CLEAN = {ord(SEP): " ", ord(LIST_SEP): " ", ord("\n"): " ", ord("\r"): " "}


def clean(text: str) -> str:
    """Free text made safe for a body: no separators, no line ends."""
    # Nearly all texts are as they should be, which is known in 50 ns; to look at each character takes 1700.
    return text if text.isprintable() else text.translate(_CLEAN)


class Event:
    """Base of all events. `code` is set from the place in `EVENTS`."""

    __slots__ = ()
    code: ClassVar[int] = 0

    @classmethod
    def body(cls, *values: object) -> str:
        """Fields in order as the journal carries them. Free text must have been through `clean`."""
        return SEP.join([v if type(v) is str else str(v) for v in values])


@dataclass(frozen=True, slots=True)
class SdkLoaded(Event):
    """A package we watch was imported. `package` is a distribution name."""

    package: str
    version: str


@dataclass(frozen=True, slots=True)
class HookInstalled(Event):
    hook: str


@dataclass(frozen=True, slots=True)
class HookStruck(Event):
    """The body of one of our hooks raised `error`, or its patch target is missing; `off` is 1 when the hook is now off."""

    hook: str
    error: str
    off: int


@dataclass(frozen=True, slots=True)
class LoopBorn(Event):
    """`process_name` is multiprocessing's, at that moment (a livekit job is `job_proc`); `thread` the name of the thread."""

    kind: str
    process_name: str
    thread: str


@dataclass(frozen=True, slots=True)
class LoopClosed(Event):
    kind: str


@dataclass(frozen=True, slots=True)
class CallStarted(Event):
    """A coroutine method of the SDK was awaited. `call` counts calls in this process, `room` rooms."""

    call: int
    room: int
    method: str
    track_sid: str


@dataclass(frozen=True, slots=True)
class CallEnded(Event):
    """`outcome` is `ok`, `cancelled` or the name of the exception type."""

    call: int
    room: int
    method: str
    outcome: str


@dataclass(frozen=True, slots=True)
class RoomConnected(Event):
    """`identity` is the local participant's; `present` are the first identities of the `participants` already there."""

    room: int
    name: str
    sid: str
    identity: str
    participants: int
    present: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RoomEventDispatched(Event):
    """The SDK handled a lifecycle event of the room, without an exception."""

    room: int
    event: str
    identity: str
    sid: str


@dataclass(frozen=True, slots=True)
class RoomEventUnmatched(Event):
    """An event arrived for a participant or publication (`missing`) the SDK's registry does not hold; nothing was raised."""

    room: int
    event: str
    identity: str
    sid: str
    missing: str


@dataclass(frozen=True, slots=True)
class ExceptionSeen(Event):
    """An exception, reduced to text, the first time any hook saw it.

    `fact` names it in every later event. `frames` are `path:function:line`, outermost first. `event` is the room event being
    dispatched, `request` the kind of the native request that failed. `task` is the key of a watched task.
    """

    fact: str
    channel: str
    type: str
    message: str
    frames: tuple[str, ...]
    room: int
    event: str
    identity: str
    track_sid: str
    request: str
    task: str
    task_name: str
    task_coro: str
    task_created_at: str
    logger: str
    template: str
    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class ExceptionSeenAgain(Event):
    """The same exception object came by another channel."""

    fact: str
    channel: str
    room: int
    task: str
    task_name: str
    task_coro: str
    task_created_at: str
    logger: str
    template: str


@dataclass(frozen=True, slots=True)
class FfiErrorLogged(Event):
    """The native library logged a failed request, on a native thread: before or after the assertion it explains.

    `request` is the request's kind (`Disconnect`), `reason` the native error.
    """

    request: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConstructorFailed(Event):
    """A constructor of the SDK raised `fact` after it had started tasks that nobody can reach any more.

    `tasks` are `key|name|coroutine|created at`.
    """

    fact: str
    cls: str
    room: int
    track_sid: str
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskDestroyedPending(Event):
    """The loop reported a pending task that was garbage collected. `awaits` is the line it was suspended at."""

    room: int
    task: str
    task_name: str
    task_coro: str
    task_created_at: str
    awaits: str


@dataclass(frozen=True, slots=True)
class ResourcesSampled(Event):
    """Counts of this process at a lifecycle edge; -1 where it cannot be told."""

    open_fds: int
    ffi_handles: int
    rooms: int
    participants: int


@dataclass(frozen=True, slots=True)
class RoomNamed(Event):
    """The name of a room that is not connected yet, as far as its object has one."""

    room: int
    name: str


@dataclass(frozen=True, slots=True)
class ProblemStated(Event):
    """A line for the operator: a setting of this process that cannot be used."""

    text: str


@dataclass(frozen=True, slots=True)
class Disarmed(Event):
    """`install()` was undone in this process."""

    reason: str


@dataclass(frozen=True, slots=True)
class RequestSent(Event):
    """A request that belongs to a lifecycle was handed to the native library; `request` is its kind (`Disconnect`)."""

    room: int
    request: str


@dataclass(frozen=True, slots=True)
class RoomHandleDropped(Event):
    """The native handle of the room was let go of."""

    room: int


@dataclass(frozen=True, slots=True)
class FfiPanicked(Event):
    """The native library reported a panic; the SDK sends SIGTERM to its own process next."""

    message: str


@dataclass(frozen=True, slots=True)
class ProcessExiting(Event):
    """The interpreter began to end in order; `error` is the type of the exception that ended it, empty for none."""

    error: str


@dataclass(frozen=True, slots=True)
class ChildEnded(Event):
    """A child of this process has ended: `status` is its exit code, or its signal as a negative number."""

    pid: int
    status: int
    core_dumped: int


@dataclass(frozen=True, slots=True)
class ChildSignalled(Event):
    """This process sends a signal to its child. `sender` is the process that it passes it on for; 0 if it is its own doing."""

    pid: int
    signal: int
    sender: int


@dataclass(frozen=True, slots=True)
class ChildLogged(Event):
    """livekit-agents logged something about a job process: `text` is what it says, without its numbers."""

    pid: int
    text: str
    job_id: str
    room: str


@dataclass(frozen=True, slots=True)
class MemoryKilled(Event):
    """The kernel killed `count` processes of this control group for want of memory since it was last looked at."""

    count: int


@dataclass(frozen=True, slots=True)
class StderrTold(Event):
    """A line on the worker's stderr that tells of a death: `kind` is rust_panic, ffi_panic, glibc or python_fatal.

    `thread` is the name and number that the line gives its thread, `place` `file:line:column` in the native source.
    """

    kind: str
    thread: str
    place: str
    message: str


EVENTS: tuple[type[Event], ...] = (
    SdkLoaded,
    HookInstalled,
    HookStruck,
    LoopBorn,
    LoopClosed,
    CallStarted,
    CallEnded,
    RoomConnected,
    RoomEventDispatched,
    RoomEventUnmatched,
    ExceptionSeen,
    ExceptionSeenAgain,
    FfiErrorLogged,
    ConstructorFailed,
    TaskDestroyedPending,
    ResourcesSampled,
    Disarmed,
    RoomNamed,
    ProblemStated,
    RequestSent,
    RoomHandleDropped,
    FfiPanicked,
    ProcessExiting,
    ChildEnded,
    ChildSignalled,
    ChildLogged,
    MemoryKilled,
    StderrTold,
)
for _code, _event in enumerate(EVENTS, start=1):
    _event.code = _code


def decode(code: int, body: str) -> Event:
    """Rebuilds an event from its code and body.

    Raises:
        ValueError: The code is unknown or the body does not have the event's fields.
    """
    if not 1 <= code <= len(EVENTS):
        raise ValueError(f"unknown event code {code}")
    kind = EVENTS[code - 1]
    values = body.split(SEP)
    wanted = fields(kind)  # type: ignore[arg-type]
    if len(values) != len(wanted):
        raise ValueError(f"{kind.__name__} has {len(wanted)} fields, not {len(values)}")
    converted: list[Any] = []
    for spec, value in zip(wanted, values, strict=True):
        if spec.type == "int":
            converted.append(int(value))
        elif spec.type == "str":
            converted.append(value)
        else:
            converted.append(tuple(value.split(LIST_SEP)) if value else ())
    return kind(*converted)
