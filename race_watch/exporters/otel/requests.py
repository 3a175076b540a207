"""Records as OTLP protobuf requests: one body a signal, all of one resource and one scope.

The messages are opentelemetry-proto's and nothing else of OpenTelemetry is loaded: no provider, no context, no hook at fork
or exit, so there is nothing that an application's own SDK could meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs, SeverityNumber
from opentelemetry.proto.metrics.v1 import metrics_pb2 as m
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2 as t

from race_watch import __version__
from race_watch.exporters.otel.incident import EVENT_NAME, Log
from race_watch.metrics import CATALOGUE, INCIDENTS, Metric
from race_watch.spans import Attributes, Link, Span, SpanIds, Value
from race_watch.totals import Trace, Values

LINK_RELATION = "race_watch.link"

_SAMPLED = 1
_SCOPE = InstrumentationScope(name="race_watch", version=__version__)
_CUMULATIVE = m.AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


class Requests:
    """Makes request bodies.

    Args:
        resource: Attributes of the worker.
        start_ns: Since when the counters count, unix nanoseconds.
    """

    def __init__(self, resource: Mapping[str, str], start_ns: int) -> None:
        self._resource = Resource(attributes=_attributes(resource))
        self._start_ns = start_ns

    def traces(self, spans: Sequence[Span]) -> bytes:
        scope = t.ScopeSpans(scope=_SCOPE, spans=[_span(span) for span in spans])
        request = ExportTraceServiceRequest(resource_spans=[t.ResourceSpans(resource=self._resource, scope_spans=[scope])])
        return request.SerializeToString()

    def logs(self, logs: Sequence[Log]) -> bytes:
        scope = ScopeLogs(scope=_SCOPE, log_records=[_log(log) for log in logs])
        request = ExportLogsServiceRequest(resource_logs=[ResourceLogs(resource=self._resource, scope_logs=[scope])])
        return request.SerializeToString()

    def metrics(self, values: Mapping[str, Values], traces: Mapping[tuple[str, ...], Trace], now_ns: int) -> bytes:
        """The whole catalogue; the incident counters carry the span of their latest incident as an exemplar."""
        made = [
            self._metric(metric, values[metric.name], traces if metric is INCIDENTS else {}, now_ns) for metric in CATALOGUE
        ]
        scope = m.ScopeMetrics(scope=_SCOPE, metrics=made)
        request = ExportMetricsServiceRequest(
            resource_metrics=[m.ResourceMetrics(resource=self._resource, scope_metrics=[scope])]
        )
        return request.SerializeToString()

    def _metric(self, metric: Metric, values: Values, traces: Mapping[tuple[str, ...], Trace], now_ns: int) -> m.Metric:
        made = m.Metric(name=metric.otel_name, description=metric.help, unit=metric.unit)
        points = [
            m.NumberDataPoint(
                attributes=_attributes(dict(zip(metric.labels, labels, strict=True))),
                start_time_unix_nano=self._start_ns if metric.kind == "counter" else 0,
                time_unix_nano=now_ns,
                as_double=value,
                exemplars=[_exemplar(traces[labels])] if labels in traces else [],
            )
            for labels, value in sorted(values.items())
        ]
        if metric.kind == "counter":
            made.sum.CopyFrom(m.Sum(data_points=points, aggregation_temporality=_CUMULATIVE, is_monotonic=True))
        else:
            made.gauge.CopyFrom(m.Gauge(data_points=points))
        return made


_RESPONSES: dict[str, tuple[Any, str]] = {
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
}


def rejected(signal: str, body: bytes) -> int:
    """How many items the answer to a request says it did not take. A body that is no such answer says nothing."""
    response, field = _RESPONSES[signal]
    try:
        return int(getattr(response.FromString(body).partial_success, field))
    except DecodeError:
        return 0


def _attributes(attributes: Attributes) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]


def _value(value: Value) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, tuple):
        return AnyValue(array_value=ArrayValue(values=[_value(one) for one in value]))
    # An environment may hold what is no UTF-8; protobuf would refuse the whole batch for it.
    return AnyValue(string_value=value.encode("utf-8", "replace").decode())


def _ids(ids: SpanIds) -> dict[str, Any]:
    return {"trace_id": bytes.fromhex(ids.trace_id), "span_id": bytes.fromhex(ids.span_id)}


def _span(span: Span) -> t.Span:
    failed = span.error is not None
    return t.Span(
        **_ids(span.ids),
        parent_span_id=bytes.fromhex(span.parent_id),
        flags=_SAMPLED,
        name=span.name,
        kind=t.Span.SpanKind.SPAN_KIND_INTERNAL,
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=max(span.end_ns, span.start_ns),
        attributes=_attributes(span.attributes),
        events=[
            t.Span.Event(name=event.name, time_unix_nano=event.time_ns, attributes=_attributes(event.attributes))
            for event in span.events
        ],
        links=[_link(link) for link in span.links],
        status=t.Status(code=t.Status.StatusCode.STATUS_CODE_ERROR, message=span.error or "") if failed else None,
    )


def _link(link: Link) -> t.Span.Link:
    return t.Span.Link(**_ids(link.to), flags=_SAMPLED, attributes=_attributes({LINK_RELATION: link.relation}))


def _log(log: Log) -> LogRecord:
    return LogRecord(
        **(_ids(log.ids) if log.ids is not None else {}),
        flags=_SAMPLED if log.ids is not None else 0,
        time_unix_nano=log.time_ns,
        observed_time_unix_nano=log.time_ns,
        severity_number=SeverityNumber.Value(f"SEVERITY_NUMBER_{log.severity}"),
        severity_text=log.severity,
        event_name=EVENT_NAME,
        body=_value(log.body),
        attributes=_attributes(log.attributes),
    )


def _exemplar(trace: Trace) -> m.Exemplar:
    return m.Exemplar(
        trace_id=bytes.fromhex(trace.trace_id),
        span_id=bytes.fromhex(trace.span_id),
        time_unix_nano=int(trace.unix_s * 1e9),
        as_double=1.0,
    )
