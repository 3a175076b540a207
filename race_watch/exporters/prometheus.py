"""Prometheus: an own registry on an own port, text or OpenMetrics by negotiation. Never the host's registry."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from race_watch.metrics import CATALOGUE
from race_watch.settings import SettingsError

Snapshot = dict[str, dict[tuple[str, ...], float]]

# How long a supervisor whose command has ended may wait for its server (socketserver's own is ten times that).
_STOP_S = 0.05
# A client that says nothing holds a thread no longer than this.
_SILENCE_S = 10.0


class SnapshotCollector(Collector):
    """Turns the watcher's latest snapshot into metric families, `_created` series left out.

    Args:
        snapshot: Called for each scrape, in the server's thread.
    """

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        values = self._snapshot()
        for metric in CATALOGUE:
            family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            made = family(metric.name, metric.help, labels=metric.labels)
            for labels, value in sorted(values[metric.name].items()):
                made.add_metric(labels, value)
            yield made


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or said nothing is no news for the worker's stderr."""


class _Handler(WSGIRequestHandler):
    timeout = _SILENCE_S

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: stderr is the worker's."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A running /metrics. `stop()` frees the port."""

    url: str
    server: WSGIServer

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def serve(host: str, port: int, snapshot: Callable[[], Snapshot]) -> Endpoint:
    """Starts the endpoint in a daemon thread.

    Raises:
        SettingsError: The address cannot be bound.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SnapshotCollector(snapshot))
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listening = type("Server", (_Server,), {"address_family": family})
        server: WSGIServer = make_server(host, port, make_wsgi_app(registry), listening, _Handler)
    except (OSError, OverflowError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        hint = "--metrics-port 0 takes a free port" if taken else "--metrics-host is an address of this machine"
        raise SettingsError(f"no metrics: cannot listen on {host}:{port}: {reason} ({hint})") from None
    threading.Thread(target=server.serve_forever, args=(_STOP_S,), name="race_watch-metrics", daemon=True).start()
    shown = f"[{host}]" if ":" in host else host
    return Endpoint(f"http://{shown}:{server.server_port}/metrics", server)
