"""What went wrong, reduced to text."""

from __future__ import annotations

from dataclasses import dataclass

from race_watch.events.encoding import Event


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
class FfiPanicked(Event):
    """The native library reported a panic; the SDK sends SIGTERM to its own process next."""

    message: str


@dataclass(frozen=True, slots=True)
class StderrTold(Event):
    """A line on the worker's stderr that tells of a death: `kind` is rust_panic, ffi_panic, glibc, cpp_abort or python_fatal.

    `thread` is the name and number that the line gives its thread, `place` `file:line:column` in the native source.
    """

    kind: str
    thread: str
    place: str
    message: str
