"""The vocabulary: everything the host half can state. Past tense; strings and ints only.

An event's journal code is its place in `EVENTS` (append only: a reader of the same layout version must understand older
journals).
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from race_watch.events.encoding import LIST_SEP, SEP, Event, clean
from race_watch.events.failures import (
    ConstructorFailed,
    ExceptionSeen,
    ExceptionSeenAgain,
    FfiErrorLogged,
    FfiPanicked,
    StderrTold,
    TaskDestroyedPending,
)
from race_watch.events.processes import (
    ChildEnded,
    ChildLogged,
    ChildSignalled,
    Disarmed,
    HookInstalled,
    HookStruck,
    LoopBorn,
    LoopClosed,
    MemoryKilled,
    ProblemStated,
    ProcessExiting,
    SdkLoaded,
)
from race_watch.events.resources import (
    DescriptorsClassified,
    HandleHeld,
    ProcessMeasured,
    ResourcesSampled,
)
from race_watch.events.rooms import (
    CallEnded,
    CallStarted,
    RequestSent,
    RoomConnected,
    RoomEventDispatched,
    RoomEventUnmatched,
    RoomHandleDropped,
    RoomNamed,
)

__all__ = [
    "EVENTS",
    "LIST_SEP",
    "SEP",
    "CallEnded",
    "CallStarted",
    "ChildEnded",
    "ChildLogged",
    "ChildSignalled",
    "ConstructorFailed",
    "DescriptorsClassified",
    "Disarmed",
    "Event",
    "ExceptionSeen",
    "ExceptionSeenAgain",
    "FfiErrorLogged",
    "FfiPanicked",
    "HandleHeld",
    "HookInstalled",
    "HookStruck",
    "LoopBorn",
    "LoopClosed",
    "MemoryKilled",
    "ProblemStated",
    "ProcessExiting",
    "ProcessMeasured",
    "RequestSent",
    "ResourcesSampled",
    "RoomConnected",
    "RoomEventDispatched",
    "RoomEventUnmatched",
    "RoomHandleDropped",
    "RoomNamed",
    "SdkLoaded",
    "StderrTold",
    "TaskDestroyedPending",
    "clean",
    "decode",
]

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
    DescriptorsClassified,
    HandleHeld,
    ProcessMeasured,
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
