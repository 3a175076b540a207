"""Records as OTLP messages: what a backend reads in them, and the names that Prometheus makes of ours."""

from __future__ import annotations

import re

import pytest
from otlp_facts import SPAN, TRACE, incident
from otlp_receiver import REQUESTS, RESPONSES, plain, value
from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from race_watch import metrics
from race_watch.exporters.otel import incident as records
from race_watch.exporters.otel.requests import Requests, rejected
from race_watch.exporters.prometheus import SnapshotCollector
from race_watch.findings import VERDICTS
from race_watch.spans import Link, Span, SpanEvent, SpanIds
from race_watch.totals import Totals

IDS = SpanIds(TRACE, SPAN)
START_NS, NOW_NS = 5, 9


def requests() -> Requests:
    return Requests({"service.name": "w"}, START_NS)


def encoded(span: Span) -> object:
    request = REQUESTS["traces"].FromString(requests().traces([span]))
    (resource,) = request.resource_spans
    assert plain(resource.resource.attributes) == {"service.name": "w"}
    (scope,) = resource.scope_spans
    assert scope.scope.name == "race_watch"
    return scope.spans[0]


def exported_metrics(totals: Totals) -> dict[str, object]:
    request = REQUESTS["metrics"].FromString(requests().metrics(totals.snapshot, totals.traces, NOW_NS))
    return {metric.name: metric for metric in request.resource_metrics[0].scope_metrics[0].metrics}


def test_span_has_its_ids_times_attributes_events_and_links() -> None:
    link = Link(SpanIds("1" * 32, "2" * 16), "room_session")
    event = SpanEvent("reconnecting", 15, {"n": 1})
    span = encoded(Span(IDS, "room session", 10, 20, "3" * 16, {"a": "x", "b": ("y",), "c": 1.5}, None, (event,), (link,)))
    assert (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN, "3" * 16)
    assert (span.name, span.start_time_unix_nano, span.end_time_unix_nano) == ("room session", 10, 20)
    assert plain(span.attributes) == {"a": "x", "b": ("y",), "c": 1.5}
    assert (span.events[0].name, span.events[0].time_unix_nano, plain(span.events[0].attributes)) == (
        "reconnecting",
        15,
        {"n": 1},
    )
    assert (span.links[0].trace_id.hex(), span.links[0].span_id.hex()) == ("1" * 32, "2" * 16)
    assert plain(span.links[0].attributes) == {"race_watch.link": "room_session"}
    assert not span.HasField("status")


def test_span_that_failed_says_so_and_one_cannot_end_before_it_began() -> None:
    span = encoded(Span(IDS, "connect", 20, 10, error="connect raised ConnectError"))
    assert (span.status.code, span.status.message) == (2, "connect raised ConnectError")
    assert span.end_time_unix_nano == 20


def test_text_that_is_no_unicode_does_not_spoil_the_batch() -> None:
    assert plain(encoded(Span(IDS, "connect", 1, 2, attributes={"a": "\udcff"})).attributes) == {"a": "?"}


def test_incident_is_a_short_error_span_with_the_exception_by_convention() -> None:
    links = {
        "room_session": {"trace_id": "1" * 32, "span_id": "2" * 16},
        "application": {"trace_id": "3" * 32, "span_id": "4" * 16},
    }
    span = encoded(records.span(incident(links=links)))
    assert (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id) == (TRACE, SPAN, b"")
    assert span.name == "incident registry_race"
    assert span.start_time_unix_nano == span.end_time_unix_nano == 1_700_000_000_123_456_789
    assert (span.status.code, span.status.message) == (2, "KeyError on local_track_unpublished")
    exception = {"exception.type": "KeyError", "exception.message": "TR_1", "exception.stacktrace": "a.py:f:1\nb.py:g:2"}
    found = plain(span.attributes)
    assert exception.items() <= found.items()
    assert found["error.type"] == "KeyError"
    assert [(event.name, plain(event.attributes)) for event in span.events] == [("exception", exception)]
    assert [(plain(one.attributes)["race_watch.link"], one.trace_id.hex()) for one in span.links] == [
        ("application", "3" * 32),
        ("room_session", "1" * 32),
    ]


def test_incident_without_an_exception_has_its_category_for_an_error_type() -> None:
    span = encoded(records.span(incident(exception=None, category="lost_event")))
    assert plain(span.attributes)["error.type"] == "lost_event"
    assert list(span.events) == []


def test_incident_says_all_of_its_record_under_known_names() -> None:
    found = records.attributes(incident())
    assert found["race_watch.sdk.livekit"] == "1.1.8"
    assert found["race_watch.evidence.event"] == "local_track_unpublished"
    names = ("lk.pii.room_name", "lk.room_sid", "lk.pii.participant_identity", "lk.participant_id", "lk.track_sid", "lk.job_id")
    assert [found[name] for name in names] == ["lobby", "RM_1", "id:abc", "PA_1", "TR_1", "AJ_1"]
    assert not [name for name, text in found.items() if text in ("", None, ())]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_incident_is_a_log_record_as_serious_as_its_verdict(verdict: str) -> None:
    request = REQUESTS["logs"].FromString(requests().logs([records.log(incident(verdict=verdict))]))
    (record,) = request.resource_logs[0].scope_logs[0].log_records
    assert record.severity_text == {"unknown": "WARN", "benign": "INFO"}.get(verdict, "ERROR")
    assert record.severity_number == {"unknown": 13, "benign": 9}.get(verdict, 17)
    assert record.event_name == "race_watch.incident"
    assert value(record.body) == "registry_race: KeyError on local_track_unpublished"
    assert (record.trace_id.hex(), record.span_id.hex(), record.flags) == (TRACE, SPAN, 1)
    assert plain(record.attributes)["exception.type"] == "KeyError"
    assert record.time_unix_nano == record.observed_time_unix_nano == 1_700_000_000_123_456_789


def test_log_record_of_an_incident_that_no_span_has_names_none() -> None:
    request = REQUESTS["logs"].FromString(requests().logs([records.log(incident(trace_id=None, span_id=None))]))
    (record,) = request.resource_logs[0].scope_logs[0].log_records
    assert (record.trace_id, record.span_id, record.flags) == (b"", b"", 0)


def prometheus_name(name: str, unit: str, counter: bool) -> str:
    """What Prometheus' OTLP receiver and the collector make of a name: the rules of prometheus/otlptranslator, spelt out."""
    tokens = [token for token in re.split(r"[^a-zA-Z0-9]", name) if token]
    word = "" if unit.startswith("{") else {"s": "seconds", "By": "bytes", "1": "", "": ""}[unit]
    if word and word not in tokens:
        tokens.append(word)
    if counter:
        tokens = [token for token in tokens if token != "total"] + ["total"]
    elif unit == "1":
        tokens = [token for token in tokens if token != "ratio"] + ["ratio"]
    return "_".join(tokens)


@pytest.mark.parametrize("metric", metrics.CATALOGUE, ids=lambda metric: metric.name)
def test_metric_has_one_name_on_both_ways(metric: metrics.Metric) -> None:
    counter = metric.kind == "counter"
    assert prometheus_name(metric.otel_name, metric.unit, counter) == metric.name + ("_total" if counter else "")
    assert metric.otel_name.startswith("race_watch.")
    assert not set(re.split(r"[._]", metric.otel_name)) & {"total", "count", "sum", "bucket", "seconds", "bytes"}


def test_metrics_are_the_same_numbers_that_prometheus_shows() -> None:
    totals = Totals()
    for number, values in enumerate(totals.snapshot.values()):
        for place, labels in enumerate(values):
            values[labels] = number * 100.0 + place
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(totals))
    shown = {}
    for line in generate_latest(registry).decode().splitlines():
        if not line.startswith("#"):
            series, _, number = line.rpartition(" ")
            name, _, labels = series.partition("{")
            shown[name, tuple(sorted(re.findall(r'(\w+)="([^"]*)"', labels)))] = float(number)
    exported = {}
    for metric in exported_metrics(totals).values():
        kind = metric.WhichOneof("data")
        data = getattr(metric, kind)
        name = prometheus_name(metric.name, metric.unit, kind == "sum")
        for point in data.data_points:
            exported[name, tuple(sorted(plain(point.attributes).items()))] = point.as_double
            assert point.time_unix_nano == NOW_NS
            assert point.start_time_unix_nano == (START_NS if kind == "sum" else 0)
        if kind == "sum":
            assert (data.is_monotonic, data.aggregation_temporality) == (True, 2)
    assert exported == shown


def test_incident_counters_carry_the_trace_that_prometheus_has_for_an_exemplar() -> None:
    totals = Totals()
    totals.trace(incident())
    found = exported_metrics(totals)
    (exemplar,) = [e for point in found["race_watch.incidents"].sum.data_points for e in point.exemplars]
    assert (exemplar.trace_id.hex(), exemplar.span_id.hex(), exemplar.as_double) == (TRACE, SPAN, 1.0)
    assert not [e for point in found["race_watch.events"].sum.data_points for e in point.exemplars]


@pytest.mark.parametrize(
    ("signal", "field"), [("traces", "rejected_spans"), ("metrics", "rejected_data_points"), ("logs", "rejected_log_records")]
)
def test_items_that_an_answer_rejects_are_read_from_it(signal: str, field: str) -> None:
    answer = RESPONSES[signal]()
    setattr(answer.partial_success, field, 3)
    assert rejected(signal, answer.SerializeToString()) == 3
    assert rejected(signal, b"") == 0
    assert rejected(signal, b"<html>") == 0
