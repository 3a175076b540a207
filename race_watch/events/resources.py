"""Counts of what a process holds."""

from __future__ import annotations

from dataclasses import dataclass

from race_watch.events.encoding import Event


@dataclass(frozen=True, slots=True)
class ResourcesSampled(Event):
    """Counts of this process, at a lifecycle edge (`edge` 1) or in between (0); -1 for what is not known or was not looked at.

    `handles` are live native ones by owner, as `kind=count`. `rooms` and `participants` are connected now. Totals since the
    process began: `rooms_ended` (`server_leaves` of them not by the application), `participants_departed` (alone or with their
    room), `connects` that have ended, `connects_cancelled` of them. Looked at in between only: `tasks` (the SDK's, pending),
    `threads` as `kind=count` (`all` is their number), `rooms_abandoned` (connected, and nothing but the SDK refers to them),
    `collections` (full ones of the garbage collector).
    """

    edge: int
    open_fds: int
    fd_limit: int
    ffi_handles: int
    rooms: int
    participants: int
    rooms_ended: int
    participants_departed: int
    connects: int
    connects_cancelled: int
    server_leaves: int
    handles: tuple[str, ...]
    subscriptions: int
    tasks: int
    threads: tuple[str, ...]
    rooms_abandoned: int
    collections: int


@dataclass(frozen=True, slots=True)
class DescriptorsClassified(Event):
    """What the open descriptors are, as `kind=count`; `complete` is 0 where only the first of very many were looked at."""

    kinds: tuple[str, ...]
    complete: int


@dataclass(frozen=True, slots=True)
class HandleHeld(Event):
    """What refers to the oldest live handle of a kind that has grown: types, and functions as `module:name`, nearest first."""

    kind: str
    chain: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProcessMeasured(Event):
    """A process below the watcher that nothing watches from inside; -1 where it cannot be told.

    `born_s` is when it started, in seconds since 1970: pids repeat. `program` is the name of its executable's file. `kinds` are
    its descriptors as `kind=count`, empty unless they were looked at. `children` are the processes that it has started and that
    live. `threads` is 0 in the last one: it has ended, has a journal of its own by now, or is one too many.
    """

    pid: int
    born_s: int
    program: str
    open_fds: int
    fd_limit: int
    kinds: tuple[str, ...]
    threads: int
    rss_bytes: int
    children: int
