"""The catalogue as text. prometheus_client formats it, which is what a scrape costs: a series when its number has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from race_watch import metrics
from race_watch.guard import Guard
from race_watch.totals import Labels, Totals, Trace

Encoder = Callable[[Collector], bytes]

# A client may ask for any version of a format; beyond it all are forgotten.
_FORMATS_KEPT = 4
_EOF = b"# EOF\n"


def family(metric: metrics.Metric, values: Mapping[Labels, float], traces: Mapping[Labels, Trace]) -> Metric:
    """As prometheus_client has it, in the order of the labels."""
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


class Exposition:
    """The latest snapshot in any format. What fails in here leaves families out. Called from any thread."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals
        self._formats: dict[str, _Format] = {}

    def text(self, encoder: Encoder, content_type: str) -> bytes:
        """All families, without the mark of OpenMetrics at their end."""
        texts: list[bytes] = []
        Guard("collector", lambda *_: None).wrap(self._fill)(texts, encoder, content_type)
        return b"".join(texts)

    def _fill(self, texts: list[bytes], encoder: Encoder, content_type: str) -> None:
        chosen = self._formats.get(content_type)
        if chosen is None:
            if len(self._formats) >= _FORMATS_KEPT:
                self._formats.clear()
            chosen = self._formats[content_type] = _Format(encoder)
        values, traces = self._totals.snapshot, self._totals.traces
        traced = {metrics.INCIDENTS.name: traces}
        texts.extend(chosen.family(m, values[m.name], traced.get(m.name, {})) for m in metrics.CATALOGUE)


class _Format:
    """One format, and the texts of the last time: what stands above the series of a metric, and each series."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._heads: dict[str, bytes] = {}
        self._series: dict[tuple[str, Labels], tuple[float, Trace | None, bytes]] = {}

    def family(self, metric: metrics.Metric, values: Mapping[Labels, float], traces: Mapping[Labels, Trace]) -> bytes:
        head = self._heads.get(metric.name)
        if head is None:
            head = self._heads[metric.name] = self._formatted(metric, {}, {})
        texts = [head]
        for labels, value in sorted(values.items()):
            trace = traces.get(labels)
            kept = self._series.get((metric.name, labels))
            if kept is None or kept[:2] != (value, trace):
                text = self._formatted(metric, {labels: value}, traces).removeprefix(head)
                kept = self._series[metric.name, labels] = value, trace, text
            texts.append(kept[2])
        return b"".join(texts)

    def _formatted(self, metric: metrics.Metric, values: Mapping[Labels, float], traces: Mapping[Labels, Trace]) -> bytes:
        return self._encoder(_Only(family(metric, values, traces))).removesuffix(_EOF)


class _Only(Collector):
    """One family."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric
