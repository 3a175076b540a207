"""A callback failed: the application's on a room event, or one that the event loop ran."""

from __future__ import annotations

from race_watch.detectors.failures import Failures
from race_watch.detectors.room_registry import from_callback
from race_watch.events import ExceptionSeen
from race_watch.findings import Finding, blame, component, from_exception, function_of, is_sdk
from race_watch.records import Record

NAME = "callback_error"
SUMMARY = "A callback on a room event, or one the loop ran, raised"
CATEGORIES = {"callback_error": ("app", "sdk", "unknown")}

_ROOM = ("room_event", "log_room")
_EMIT = "livekit/rtc/event_emitter.py:emit"


class CallbackError:
    """Callbacks: TypeErrors reach the room's dispatch, all else ends in `emit`, which logs it."""

    def __init__(self) -> None:
        self._failures = Failures(_wanted)

    def observe(self, record: Record) -> None:
        self._failures.observe(record)

    def confirm(self, now_s: float) -> list[Finding]:
        return [
            from_exception(
                failure.seen,
                failure.process,
                failure.t_s,
                category="callback_error",
                verdict=_whose(failure.seen.frames),
                component=_component(failure.seen.frames),
                channels=failure.channels,
            )
            for failure in self._failures.due(now_s)
        ]


def _wanted(seen: ExceptionSeen) -> bool:
    return seen.channel in ("log_emit", "loop_callback") or (seen.channel in _ROOM and from_callback(seen.frames))


def _after_emit(frames: tuple[str, ...]) -> tuple[str, ...] | None:
    """The callback's own frames, or None if no emitter called it."""
    calls = [index for index, frame in enumerate(frames) if function_of(frame) == _EMIT]
    return frames[calls[-1] + 1 :] if calls else None


def _whose(frames: tuple[str, ...]) -> str:
    callback = _after_emit(frames)
    if callback is None:
        return blame(frames)
    # `emit` itself failing means that the callback cannot be called with the arguments of the event.
    return blame(callback) if callback else "app"


def _component(frames: tuple[str, ...]) -> str:
    callback = _after_emit(frames) or frames
    own = [frame for frame in callback if not is_sdk(frame)]
    return function_of(own[-1]) if own else component(frames)
