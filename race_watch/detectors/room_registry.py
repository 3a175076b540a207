"""The SDK's own handling of a room event failed: it looked for something that another event had taken away."""

from __future__ import annotations

from race_watch.detectors.failures import Failures
from race_watch.findings import Finding, from_exception, function_of, is_sdk
from race_watch.records import Record

NAME = "room_registry"
SUMMARY = "A room event found the registry of participants and publications without what it needs"
CATEGORIES = {"registry_race": ("sdk",), "double_resolve": ("sdk",)}

_EMIT = "livekit/rtc/event_emitter.py:emit"


class RoomRegistry:
    """Exceptions out of `Room._on_room_event` that no callback of the application raised."""

    def __init__(self) -> None:
        self._failures = Failures(lambda e: e.channel in ("room_event", "log_room") and not from_callback(e.frames))

    def observe(self, record: Record) -> None:
        self._failures.observe(record)

    def confirm(self, now_s: float) -> list[Finding]:
        return [
            from_exception(
                failure.seen,
                failure.process,
                failure.t_s,
                category="double_resolve" if failure.seen.type.endswith("InvalidStateError") else "registry_race",
                verdict="sdk",
                channels=failure.channels,
            )
            for failure in self._failures.due(now_s)
        ]


def from_callback(frames: tuple[str, ...]) -> bool:
    """Whether the exception came out of a callback: what is inside `emit`, or `emit` itself (it cannot be called as given)."""
    functions = [function_of(frame) for frame in frames]
    if _EMIT in functions:
        return True
    return bool(frames) and not is_sdk(frames[-1]) and any(f.endswith(":_on_room_event") for f in functions)
