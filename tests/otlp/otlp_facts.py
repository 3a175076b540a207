"""Settings, targets and incidents by hand, and a sender that does as it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from race_watch.exporters.otel.sending import DELIVERED, Answer
from race_watch.exporters.otel.target import LOGS, METRICS, TRACES, Target, targets
from race_watch.exporters.otel.variables import Variables
from race_watch.incidents import Incident
from race_watch.settings import Settings, from_env

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def target(signal: str = TRACES, url: str = "http://127.0.0.1:4318", **other: Any) -> Target:
    values: dict[str, Any] = {
        "signal": signal,
        "protocol": "http/protobuf",
        "url": urlsplit(url if other.get("protocol") == "grpc" else f"{url}/v1/{signal}"),
        "headers": {},
        "compression": "none",
        "timeout_s": 10.0,
        "every_s": 0.05,
        **other,
    }
    return Target(**values)


def all_targets(url: str, **other: Any) -> list[Target]:
    return [target(signal, url, **other) for signal in (TRACES, METRICS, LOGS)]


def resolved(environ: Mapping[str, str]) -> tuple[dict[str, Target], list[str]]:
    """What an environment, RACE_WATCH_* included, makes of the signals; and what it complains of."""
    settings = from_env(environ)
    assert settings.problems == ()
    variables = Variables(environ)
    return {one.signal: one for one in targets(settings, variables)}, variables.problems


def settings(**given: Any) -> Settings:
    return Settings(**given)


def incident(id: str = "00112233aabbccdd", **other: Any) -> Incident:
    values: dict[str, Any] = {
        "id": id,
        "time_unix_ns": 1_700_000_000_123_456_789,
        "category": "registry_race",
        "verdict": "sdk",
        "signature": "local-unpublish-keyerror",
        "title": "KeyError on local_track_unpublished",
        "confidence": 1.0,
        "count": 1,
        "component": "livekit/rtc/room.py:_on_room_event",
        "sdk": {"livekit": "1.1.8"},
        "fixed_in": "1.1.11",
        "upstream": "livekit/python-sdks#681",
        "advice": "Upgrade.",
        "process": {"pid": 7, "role": "job", "attempt": 1, "job_id": "AJ_1"},
        "room": {"name": "lobby", "sid": "RM_1"},
        "participant": {"identity": "id:abc", "sid": "PA_1"},
        "track_sid": "TR_1",
        "task": {"name": "Task-3", "coro": "livekit/rtc/room.py:Room._listen_task", "created_at": None},
        "exception": {"type": "KeyError", "message": "TR_1", "frames": ["a.py:f:1", "b.py:g:2"]},
        "channels": ["room_event", "log_room"],
        "trace_id": TRACE,
        "span_id": SPAN,
        "evidence": {"event": "local_track_unpublished"},
        "links": {},
        **other,
    }
    return Incident(**values)


class Told:
    """A sender whose answers are prepared: one for each body, the last one for all that follow."""

    def __init__(self, *answers: Answer, took_s: float = 0.0, tick: Callable[[float], None] | None = None) -> None:
        self.answers = list(answers) or [Answer(DELIVERED)]
        self.bodies: list[bytes] = []
        self.closed = False
        self._took_s, self._tick = took_s, tick

    def send(self, body: bytes, timeout_s: float) -> Answer:
        self.bodies.append(body)
        if self._tick is not None:
            self._tick(self._took_s)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def close(self) -> None:
        self.closed = True
