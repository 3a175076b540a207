"""One HTTP exchange: a request read within bounds, and its answer. GET and HEAD, no bodies, nothing said of who serves."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Protocol

# From the last byte of a request's head to the last byte of the answer.
ANSWER_S = 10.0
# A request line and its headers, bytes. Prometheus sends 400, a browser under 2,000.
HEAD_BYTES = 16 * 1024
# After a refusal: what the client is still sending is taken, so that it gets to read why.
_LINGER_S, _LINGER_BYTES = 1.0, 256 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """`path` is without the `query`; neither is decoded."""

    path: str
    query: str
    headers: Message


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def plain(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """One line of text."""
    return Response(status, "text/plain; charset=utf-8", f"{text}\n".encode(), headers)


class Server(Protocol):
    """What an exchange needs of the server it is part of."""

    answer: Callable[[Request], Response]

    def extend(self, connection: socket.socket, by_s: float) -> None: ...

    def guarded(self, body: Callable[..., object]) -> Callable[..., None]: ...


def attend(connection: socket.socket, server: Server) -> None:
    """The whole of it; returns when the connection can be closed."""
    try:
        _Handler(connection, ("", 0), server)  # type: ignore[arg-type]
    except OSError:
        return  # it went away, was cut off, or speaks no TLS


def shut(connection: socket.socket, how: int) -> None:
    """The socket's own shutdown: that of a TLS socket would pull the rug from under the thread that reads."""
    try:
        socket.socket.shutdown(connection, how)
    except OSError:
        pass


class _Handler(BaseHTTPRequestHandler):
    """One connection: its constructor does it all, as the standard library's."""

    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # what is no HTTP at all still gets an answer with a status
    wbufsize = -1
    connection: socket.socket
    server: Server  # type: ignore[assignment]

    def setup(self) -> None:
        super().setup()
        self.command, self.request_version, self.requestline, self.close_connection = "", "HTTP/1.1", "", True

    def handle(self) -> None:
        if hasattr(self.connection, "do_handshake"):
            self.connection.do_handshake()
        head = self._head()
        if head is None:
            return
        self.server.extend(self.connection, ANSWER_S)
        self.rfile.close()
        self.rfile = io.BytesIO(head)
        self.raw_requestline = self.rfile.readline()
        if self.parse_request():
            self._send(self._answer())

    def _head(self) -> bytes | None:
        """The request up to its empty line, or None when the client has hung up, was cut off, or was refused."""
        head = b""
        while b"\r\n\r\n" not in head and b"\n\n" not in head:
            if len(head) >= HEAD_BYTES:
                self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                return None
            piece = self.connection.recv(min(4096, HEAD_BYTES - len(head)))
            if not piece:
                return None
            head += piece
        return head

    def _answer(self) -> Response:
        if self.command not in ("GET", "HEAD"):
            return plain(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD only", ("Allow", "GET, HEAD"))
        if self.headers.get("Content-Length", "0").strip() != "0" or "Transfer-Encoding" in self.headers:
            return plain(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "no request bodies")
        path, _, query = self.path.partition("?")
        made: list[Response] = []
        self.server.guarded(lambda: made.append(self.server.answer(Request(path, query, self.headers))))()
        return made[0] if made else plain(HTTPStatus.INTERNAL_SERVER_ERROR, "failed")

    def handle_expect_100(self) -> bool:
        """Whoever asks before sending a body hears no."""
        self.send_error(HTTPStatus.EXPECTATION_FAILED)
        return False

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses, in a line; what was sent is not repeated."""
        self._send(plain(code, HTTPStatus(code).phrase))

    def _send(self, response: Response) -> None:
        self.send_response_only(response.status)
        for name, value in (
            ("Date", self.date_time_string()),
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
            *response.headers,
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)
        self.wfile.flush()
        if response.status >= HTTPStatus.BAD_REQUEST:
            self._linger()

    def _linger(self) -> None:
        self.server.extend(self.connection, _LINGER_S)
        shut(self.connection, socket.SHUT_WR)
        left = _LINGER_BYTES
        while left > 0 and (piece := self.connection.recv(16 * 1024)):
            left -= len(piece)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: stderr is the worker's."""
