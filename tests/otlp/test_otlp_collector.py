"""The whole way with real servers: a worker, its /metrics, a real OpenTelemetry Collector and a real Prometheus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from servers import OPENMETRICS, Collector, collector, exemplars, found, get, prometheus, until
from watched_worker import Live, live

from race_watch import metrics

pytestmark = [
    pytest.mark.one_python,
    pytest.mark.skipif(found("otelcol") is None, reason="no OpenTelemetry Collector here: `make collector` builds it"),
]

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]

# Of the resource and the scope, not of ours.
ADDED = ("job", "instance")
# What goes on while one looks.
MOVING = {metrics.LAG.name, metrics.POLLED.name, metrics.CPU.name, metrics.EXPORTS.name}


@pytest.fixture(params=["http/protobuf", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Collector]:
    with collector(tmp_path) as made:
        yield made


def families(text: str) -> dict[str, Any]:
    return {f.name: f for f in text_string_to_metric_families(text) if f.name.startswith("race_watch_")}


def series(text: str) -> Series:
    def own(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((k, v) for k, v in labels.items() if k not in ADDED and not k.startswith("otel_")))

    return {(sample.name, own(sample.labels)): sample.value for family in families(text).values() for sample in family.samples}


def still(found: Series) -> Series:
    return {key: value for key, value in found.items() if key[0].removesuffix("_total") not in MOVING}


def exemplar_of(text: str) -> str | None:
    """The trace of the one exemplar on the incident counter."""
    given = [s.exemplar.labels["trace_id"] for s in families(text)["race_watch_incidents"].samples if s.exemplar is not None]
    return given[0] if given else None


def options(running: Collector, home: Path, protocol: str) -> tuple[list[str], dict[str, str]]:
    named = ["--otlp-endpoint", running.urls[protocol], "--incidents", str(home / "incidents.jsonl")]
    return named, {"RACE_WATCH_OTLP_PROTOCOL": protocol, "RACE_WATCH_OTLP_INTERVAL_S": "1"}


def incident_of(home: Path) -> dict[str, Any]:
    (incident,) = {one["id"]: one for one in map(json.loads, (home / "incidents.jsonl").read_text().splitlines())}.values()
    assert isinstance(incident, dict)
    return incident


def test_collector_has_the_totals_names_and_traces_that_the_worker_serves(
    running: Collector, tmp_path: Path, protocol: str
) -> None:
    given, variables = options(running, tmp_path, protocol)
    worker: Live
    with live(tmp_path, *given, **variables) as worker:
        ours = f"http://{worker.metrics}/metrics"
        trace_id = until(lambda: exemplar_of(get(ours, OPENMETRICS)), "an exemplar on /metrics")
        theirs = until(lambda: text if exemplar_of(text := running.metrics()) else None, "the exemplar in the collector")
        assert series(theirs).keys() == series(get(ours, OPENMETRICS)).keys()
        until(lambda: still(series(running.metrics())) == still(series(get(ours, OPENMETRICS))), "the same totals")
        assert any(still(series(theirs)).values())
        assert exemplar_of(theirs) == trace_id
        lines = worker.end()
    incident = incident_of(tmp_path)
    spans = until(lambda: [one for one in running.exported("traces") if one["name"].startswith("incident ")], "the span")
    logs = until(lambda: running.exported("logs"), "the log record")
    assert [(one["traceId"], one["spanId"]) for one in spans] == [(trace_id, incident["span_id"])]
    assert [(one["traceId"], one["eventName"]) for one in logs] == [(trace_id, "race_watch.incident")]
    assert incident["trace_id"] == trace_id
    assert not [line for line in lines if "OTLP" in line and "export to" not in line]
    assert {sum_["aggregationTemporality"] for one in running.exported("metrics") if (sum_ := one.get("sum"))} == {2}


@pytest.mark.skipif(found("prometheus") is None, reason="no Prometheus here: `make promtool` gets it")
def test_exemplar_that_prometheus_has_stored_leads_to_the_incidents_trace(running: Collector, tmp_path: Path) -> None:
    given, variables = options(running, tmp_path, "http/protobuf")
    worker: Live
    with live(tmp_path, *given, **variables) as worker, prometheus(tmp_path, worker.metrics) as url:
        stored = until(lambda: exemplars(url, "race_watch_incidents_total"), "an exemplar in Prometheus")
        spans = until(lambda: [s for s in running.exported("traces") if s["name"].startswith("incident ")], "the span")
        worker.end()
    assert {(one["labels"]["trace_id"], one["labels"]["span_id"]) for one in stored} == {
        (one["traceId"], one["spanId"]) for one in spans
    }
    assert incident_of(tmp_path)["trace_id"] == stored[0]["labels"]["trace_id"]
