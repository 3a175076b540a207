"""What happens to a room: calls awaited on it, events it dispatches, requests made for it."""

from __future__ import annotations

from dataclasses import dataclass

from race_watch.events.encoding import Event


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
class RoomNamed(Event):
    """The name of a room that is not connected yet, as far as its object has one."""

    room: int
    name: str


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
class RequestSent(Event):
    """A request that belongs to a lifecycle was handed to the native library; `request` is its kind (`Disconnect`)."""

    room: int
    request: str


@dataclass(frozen=True, slots=True)
class RoomHandleDropped(Event):
    """The native handle of the room was let go of."""

    room: int
