"""An OTLP receiver: a real HTTP or gRPC server in this process; it keeps what it is sent, decoded, and answers as told."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

PATIENCE_S = 30.0
REQUESTS: dict[str, Any] = {
    "traces": traces.ExportTraceServiceRequest,
    "metrics": metrics.ExportMetricsServiceRequest,
    "logs": logs.ExportLogsServiceRequest,
}
RESPONSES: dict[str, Any] = {
    "traces": traces.ExportTraceServiceResponse,
    "metrics": metrics.ExportMetricsServiceResponse,
    "logs": logs.ExportLogsServiceResponse,
}
SERVICES = {"traces": "trace.v1.TraceService", "metrics": "metrics.v1.MetricsService", "logs": "logs.v1.LogsService"}


@dataclass(frozen=True)
class Received:
    """One request. `request` is its decoded message; header names are in lower case."""

    signal: str
    path: str
    headers: dict[str, str]
    request: Any
    raw: bytes


@dataclass(frozen=True)
class Reply:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Inbox:
    """Requests as they come. `reply` is asked for the answer to each; every reader is a thread of the test."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.reply: Callable[[Received], Reply] = lambda received: Reply()
        self._changed = threading.Condition()

    def take(self, received: Received) -> Reply:
        with self._changed:
            self.requests.append(received)
            self._changed.notify_all()
        return self.reply(received)

    def until(self, wanted: Callable[[], Any], what: str) -> Any:
        """Waits until `wanted` gives something, and gives that."""
        deadline_s = time.monotonic() + PATIENCE_S
        with self._changed:
            while not (found := wanted()):
                left_s = deadline_s - time.monotonic()
                assert left_s > 0, f"not received in time: {what}; got {[r.path for r in self.requests]}"
                self._changed.wait(min(left_s, 0.5))
        return found

    def of(self, signal: str) -> list[Received]:
        return [received for received in list(self.requests) if received.signal == signal]

    def spans(self) -> list[Any]:
        return [
            span
            for received in self.of("traces")
            for resource in received.request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def logs(self) -> list[Any]:
        return [
            record
            for received in self.of("logs")
            for resource in received.request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def points(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """Instrument name -> attributes -> value, of the latest metrics."""
        latest = self.of("metrics")[-1].request.resource_metrics[0].scope_metrics[0].metrics
        return {
            metric.name: {
                tuple(sorted(plain(point.attributes).items())): point.as_double
                for point in getattr(metric, metric.WhichOneof("data")).data_points
            }
            for metric in latest
        }

    def resource(self) -> dict[str, Any]:
        """The resource that all requests name."""
        found = []
        for received in self.requests:
            (_, parts), *_ = received.request.ListFields()
            found += [plain(part.resource.attributes) for part in parts]
        assert all(one == found[0] for one in found)
        return found[0]

    def everything(self) -> bytes:
        """All that was sent, headers included, for what must not be in it."""
        return b"\n".join(part for r in self.requests for part in (r.path.encode(), str(r.headers).encode(), r.raw))


def plain(attributes: Sequence[Any]) -> dict[str, Any]:
    """Attributes as a dictionary."""
    return {one.key: value(one.value) for one in attributes}


def value(any_value: Any) -> Any:
    kind = any_value.WhichOneof("value")
    if kind == "array_value":
        return tuple(value(one) for one in any_value.array_value.values)
    return getattr(any_value, kind)


def shown(message: Any) -> dict[str, Any]:
    return MessageToDict(message)


@contextmanager
def http_receiver(host: str = "127.0.0.1", wrap: Callable[[Any], Any] | None = None) -> Iterator[tuple[str, Inbox]]:
    """Its URL and inbox; `wrap` makes the listening socket one of TLS."""
    inbox = Inbox()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): text for name, text in self.headers.items()}
            raw = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
            signal = self.path.partition("?")[0].rpartition("/")[2]
            kind = REQUESTS.get(signal)
            message = kind.FromString(raw) if kind is not None else None
            reply = inbox.take(Received(signal, self.path, headers, message, raw))
            self.send_response(reply.status)
            for name, text in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that ended is no news."""

    server = Server((host, 0), Handler)
    if wrap is not None:
        server.socket = wrap(server.socket)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"{'https' if wrap else 'http'}://{host}:{server.server_port}", inbox
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def grpc_receiver(credentials: Any = None) -> Iterator[tuple[str, Inbox]]:
    """The same over gRPC; a reply's status other than 200 is UNAVAILABLE for 503 and INVALID_ARGUMENT for any other."""
    inbox = Inbox()

    def handler(signal: str) -> Any:
        def export(raw: bytes, context: Any) -> bytes:
            headers = {name: text for name, text in context.invocation_metadata() if isinstance(text, str)}
            reply = inbox.take(Received(signal, signal, headers, REQUESTS[signal].FromString(raw), raw))
            if reply.status != 200:
                code = grpc.StatusCode.UNAVAILABLE if reply.status == 503 else grpc.StatusCode.INVALID_ARGUMENT
                context.abort(code, "as told")
            return reply.body

        service = f"opentelemetry.proto.collector.{SERVICES[signal]}"
        return grpc.method_handlers_generic_handler(service, {"Export": grpc.unary_unary_rpc_method_handler(export)})

    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(tuple(handler(signal) for signal in SERVICES))
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield f"{'https' if credentials else 'http'}://127.0.0.1:{port}", inbox
    finally:
        server.stop(0).wait()


@contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and says nothing: the kernel answers for it."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def refusing_address() -> Iterator[str]:
    """Nobody listens there, and nobody else will while this is open."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
