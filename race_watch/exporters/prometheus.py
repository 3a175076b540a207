"""Prometheus: an own registry on an own port, text or OpenMetrics by negotiation. Never the host's registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from race_watch.metrics import CATALOGUE
from race_watch.settings import SettingsError

Snapshot = dict[str, dict[tuple[str, ...], float]]


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
        server, _ = start_http_server(port, addr=host, registry=registry)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"no metrics: cannot listen on {host}:{port}: {reason} (--metrics-port 0 takes a free port)"
        ) from None
    shown = f"[{host}]" if ":" in host else host
    return Endpoint(f"http://{shown}:{server.server_port}/metrics", server)
