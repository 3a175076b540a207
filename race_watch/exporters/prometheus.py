"""Prometheus: an own registry, text or OpenMetrics by negotiation, exemplars in the latter."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from http import HTTPStatus
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector

from race_watch import metrics
from race_watch.exporters.exchange import Request, Response
from race_watch.exporters.exposition import Exposition, family
from race_watch.guard import Guard
from race_watch.totals import Totals

# A fifth of the CPU of the default, for a seventh more bytes.
_GZIP_LEVEL = 1


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
            families.append(family(metric, values[metric.name], traced))


def page(totals: Totals) -> Callable[[Request], Response]:
    """What answers requests for /metrics: the catalogue, and `process_*` of the process that serves it."""
    process, both = CollectorRegistry(), CollectorRegistry(auto_describe=True)  # so that `?name[]=` finds them
    both.register(SnapshotCollector(totals))
    for registry in (process, both):
        ProcessCollector(registry=registry)
    exposition = Exposition(totals)

    def bake(request: Request, accept: str) -> Response:
        encoder, content_type = choose_encoder(accept)
        names = parse_qs(request.query).get("name[]")
        body = encoder(both.restricted_registry(names)) if names else exposition.text(encoder, content_type) + encoder(process)
        headers = [("Vary", "Accept, Accept-Encoding")]
        if gzip_accepted(request.headers.get("Accept-Encoding", "")):
            body = gzip.compress(body, _GZIP_LEVEL)
            headers.insert(0, ("Content-Encoding", "gzip"))
        return Response(HTTPStatus.OK, content_type, body, tuple(headers))

    def answer(request: Request) -> Response:
        # In one line: it comes back in the content type.
        accept = " ".join(request.headers.get("Accept", "").split())
        try:
            return bake(request, accept)
        except (TypeError, ValueError):
            # prometheus_client's answer to an `Accept` with a version that is none.
            return bake(request, "")

    return answer
