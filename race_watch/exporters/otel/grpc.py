"""OTLP over gRPC: bodies that are serialised already, on a channel that nobody else's instrumentation has wrapped."""

from __future__ import annotations

import inspect
from typing import Any

import grpc

from race_watch.exporters.otel.http import USER_AGENT
from race_watch.exporters.otel.sending import DELIVERED, LATER, REFUSED, Answer
from race_watch.exporters.otel.target import METRICS, TRACES, Target

_SERVICE = {TRACES: "trace.v1.TraceService", METRICS: "metrics.v1.MetricsService"}
_LOGS_SERVICE = "logs.v1.LogsService"
# The protocol's list.
_RETRYABLE = frozenset(
    ("CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
)
_PORT = {"http": 80, "https": 443}


class GrpcSender:
    """Calls `Export` of one service. The channel is made with the first body."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._channel: Any = None
        self._export: Any = None

    def send(self, body: bytes, timeout_s: float) -> Answer:
        try:
            if self._export is None:
                self._open()
            metadata = tuple(self._target.headers.items())
            return Answer(DELIVERED, body=self._export(body, timeout=timeout_s, metadata=metadata))
        except grpc.RpcError as error:
            code = error.code().name
            return Answer(LATER if code in _RETRYABLE else REFUSED, f"the answer is {code}")
        except OSError as error:
            return Answer(REFUSED, f"certificate: {error.strerror}")

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()

    def _open(self) -> None:
        target = self._target
        where = f"{target.url.hostname}:{target.url.port or _PORT[target.url.scheme]}"
        if ":" in (target.url.hostname or ""):
            where = f"[{target.url.hostname}]:{target.url.port or _PORT[target.url.scheme]}"
        options: dict[str, Any] = {"options": (("grpc.primary_user_agent", USER_AGENT),)}
        if target.compression == "gzip":
            options["compression"] = grpc.Compression.Gzip
        # OpenTelemetry's, Sentry's and ddtrace's wraps of these functions keep what they wrap.
        if target.url.scheme == "http":
            self._channel = inspect.unwrap(grpc.insecure_channel)(where, **options)
        else:
            self._channel = inspect.unwrap(grpc.secure_channel)(where, self._credentials(), **options)
        service = _SERVICE.get(target.signal, _LOGS_SERVICE)
        self._export = self._channel.unary_unary(f"/opentelemetry.proto.collector.{service}/Export")

    def _credentials(self) -> Any:
        target = self._target
        return grpc.ssl_channel_credentials(
            _read(target.certificate), _read(target.client_key), _read(target.client_certificate)
        )


def _read(path: str) -> bytes | None:
    if not path:
        return None
    with open(path, "rb") as file:
        return file.read()
