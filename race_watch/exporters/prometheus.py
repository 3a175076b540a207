"""Prometheus: an own registry, text or OpenMetrics by negotiation, exemplars in the latter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from race_watch import metrics
from race_watch.exporters.exchange import Request, Response
from race_watch.guard import Guard
from race_watch.totals import Totals, Trace


class SnapshotCollector(Collector):
    """Turns the watcher's latest snapshot into metric families, `_created` series left out.

    Collected in the thread of whoever scrapes: what fails in here leaves families out.
    """

    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        families: list[Metric] = []
        Guard("collector", lambda *_: None).wrap(self._fill)(families)
        yield from families

    def _fill(self, families: list[Metric]) -> None:
        values, traces = self._totals.snapshot, self._totals.traces
        for metric in metrics.CATALOGUE:
            traced = traces if metric is metrics.INCIDENTS else {}
            families.append(_family(metric, values[metric.name], traced))


def _family(metric: metrics.Metric, values: Mapping[tuple[str, ...], float], traces: Mapping[tuple[str, ...], Trace]) -> Metric:
    if metric.kind == "gauge":
        gauge = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in sorted(values.items()):
            gauge.add_metric(labels, value)
        return gauge
    counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in sorted(values.items()):
        counter.add_metric(labels, value, exemplar=_exemplar(traces.get(labels)))
    return counter


def _exemplar(trace: Trace | None) -> Exemplar | None:
    if trace is None:
        return None
    return Exemplar({"trace_id": trace.trace_id, "span_id": trace.span_id}, 1.0, trace.unix_s)


def page(totals: Totals) -> Callable[[Request], Response]:
    """What answers requests for /metrics: the catalogue, and `process_*` of the process that serves it."""
    registry = CollectorRegistry(auto_describe=True)  # so that `?name[]=` finds them
    registry.register(SnapshotCollector(totals))
    ProcessCollector(registry=registry)
    application = make_wsgi_app(registry)

    def call(environ: dict[str, str]) -> Response:
        started: list[tuple[str, list[tuple[str, str]]]] = []
        body = b"".join(application(environ, lambda status, headers: started.append((status, headers))))
        status, headers = started[0]
        named = dict(headers)
        kind = named.pop("Content-Type", "text/plain; charset=utf-8")
        return Response(int(status.split()[0]), kind, body, (*named.items(), ("Vary", "Accept, Accept-Encoding")))

    def answer(request: Request) -> Response:
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query,
            # In one line: it comes back in the content type.
            "HTTP_ACCEPT": " ".join(request.headers.get("Accept", "").split()),
            "HTTP_ACCEPT_ENCODING": request.headers.get("Accept-Encoding", ""),
        }
        try:
            return call(environ)
        except (TypeError, ValueError):
            # prometheus_client's answer to an `Accept` with a version that is none.
            return call({**environ, "HTTP_ACCEPT": ""})

    return answer
