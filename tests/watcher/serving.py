"""A real endpoint on a free port, and a client that asks it."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from race_watch.exporters.http import Endpoint
from race_watch.exporters.recent import Recent
from race_watch.exporters.status import Status
from race_watch.incidents import Incident
from race_watch.settings import Settings
from race_watch.totals import Totals

PATIENCE_S = 10.0


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Serving:
    """What is served, and what was said about it."""

    totals: Totals = field(default_factory=Totals)
    status: Status = field(default_factory=Status)
    recent: Recent = field(default_factory=Recent)
    said: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    endpoint: Endpoint = None  # type: ignore[assignment]

    def open(self, **settings: Any) -> Endpoint:
        chosen = Settings(**{"metrics_port": 0, **settings})
        self.endpoint = Endpoint(chosen, self.totals, self.status, self.recent, self.said.append, self.warned.append)
        return self.endpoint

    @property
    def address(self) -> tuple[str, int]:
        url = urlsplit(self.endpoint.url)
        assert url.hostname
        assert url.port
        return url.hostname, url.port

    def ask(
        self,
        path: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Reply:
        host, port = self.address
        if tls is not None:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(host, port, timeout=PATIENCE_S, context=tls)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=PATIENCE_S)


@contextmanager
def serving(**settings: Any) -> Iterator[Serving]:
    made = Serving()
    made.open(**settings)
    try:
        yield made
    finally:
        made.endpoint.stop()


def read_to_end(connection: socket.socket) -> bytes:
    """All that the server says until it hangs up, politely or not."""
    said = b""
    try:
        while piece := connection.recv(65536):
            said += piece
    except ConnectionResetError:
        pass
    return said


def incident(id: str = "id1", **changes: Any) -> Incident:
    """A registry race in the room `lobby`, at unix second 1,000."""
    values: dict[str, Any] = {
        "id": id,
        "time_unix_ns": 1_000_000_000_000,
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
        "advice": "Upgrade livekit to 1.1.11 or newer.",
        "process": {"pid": 100, "role": "main", "attempt": 1},
        "room": {"name": "lobby", "sid": "RM_1"},
        "participant": {"identity": "id:0a1b2c", "sid": None},
        "track_sid": "TR_1",
        "task": {"name": "Task-3", "coro": None, "created_at": None},
        "exception": {"type": "KeyError", "message": "TR_1", "frames": ["livekit/rtc/room.py:_on_room_event:732"]},
        "channels": ["room_event", "log_room"],
        "trace_id": None,
        "span_id": None,
        "evidence": {"event": "local_track_unpublished"},
        "links": {},
    }
    return Incident(**{**values, **changes})
