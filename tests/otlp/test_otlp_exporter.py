"""The exporter's thread with real receivers: what arrives, what the end costs, what is counted and said."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from otlp_facts import TRACE, all_targets, incident, target
from otlp_receiver import Inbox, Reply, grpc_receiver, http_receiver, refusing_address, silent_server

from race_watch.exporters.otel import build
from race_watch.exporters.otel.exporter import Exporter
from race_watch.exporters.otel.target import Target
from race_watch.fleet import Fleet
from race_watch.incidents import Incidents
from race_watch.settings import Settings
from race_watch.spans import Span, SpanIds
from race_watch.totals import Totals

RESOURCE = {"service.name": "w"}


class Running:
    """A started exporter, its totals and its lines."""

    def __init__(self, targets: list[Target]) -> None:
        self.lines: list[str] = []
        self.totals = Totals()
        self.exporter = Exporter(targets, RESOURCE, self.totals, self.lines.append)
        self.exporter.start()

    def counted(self, metric: str) -> dict[tuple[str, ...], float]:
        self.totals.update(Fleet(), Incidents(Fleet()), [])
        return {labels: value for labels, value in self.totals.snapshot[metric].items() if value}


@contextmanager
def running(targets: list[Target]) -> Iterator[Running]:
    made = Running(targets)
    try:
        yield made
    finally:
        made.exporter.stop()


def span(number: int) -> Span:
    return Span(SpanIds(TRACE, f"{number:016x}"), "connect", 1, 2)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_incidents_spans_and_metrics_arrive_over_both_protocols(protocol: str) -> None:
    receiver = http_receiver if protocol == "http/protobuf" else grpc_receiver
    inbox: Inbox
    with receiver() as (url, inbox), running(all_targets(url, protocol=protocol)) as made:
        made.exporter.incident(incident())
        made.exporter.span(span(1))
        inbox.until(lambda: inbox.logs() and len(inbox.spans()) == 2 and inbox.of("metrics"), "all three signals")
    assert {one.name for one in inbox.spans()} == {"incident registry_race", "connect"}
    assert inbox.logs()[0].trace_id.hex() == TRACE
    assert inbox.resource() == RESOURCE
    assert made.lines == []
    assert made.counted("race_watch_exports")[("otlp", "ok")] >= 3
    assert made.counted("race_watch_otlp_lost") == {}


def test_metrics_are_sent_at_once_in_their_interval_and_at_the_end() -> None:
    with http_receiver() as (url, inbox):
        with running([target("metrics", url, every_s=3600.0)]):
            inbox.until(lambda: inbox.of("metrics"), "the first metrics")
        assert len(inbox.of("metrics")) == 2
        with running([target("metrics", url, every_s=0.01)]):
            inbox.until(lambda: len(inbox.of("metrics")) > 5, "metrics again and again")


def test_end_sends_what_waits() -> None:
    with http_receiver() as (url, inbox):
        with running(all_targets(url, every_s=3600.0)) as made:
            inbox.until(lambda: inbox.of("metrics"), "the first metrics")
            for number in range(600):
                made.exporter.span(span(number + 1))
            made.exporter.incident(incident())
        assert len(inbox.spans()) == 601
        assert len(inbox.logs()) == 1
    assert made.lines == []


def test_end_waits_for_no_endpoint_that_is_silent() -> None:
    with silent_server() as url:
        made = Running(all_targets(url, every_s=3600.0, timeout_s=3600.0))
        made.exporter.incident(incident())
        made.exporter.stop()
        # It came back although an attempt that may take an hour is under way.
        assert "race_watch-otlp" in {thread.name for thread in threading.enumerate()}
    assert made.lines == ["OTLP: 2 spans and log records were not delivered"]


def test_end_tells_what_an_endpoint_that_refuses_did_not_get() -> None:
    with refusing_address() as url:
        made = Running([target("logs", url, every_s=3600.0)])
        made.exporter.incident(incident())
        made.exporter.stop()
    assert made.lines[0].startswith("OTLP export fails, and is tried again: logs to http://127.0.0.1:")
    assert made.lines[1].startswith("OTLP: 1 spans and log records were not delivered (logs to http://127.0.0.1:")
    assert len(made.lines) == 2
    assert made.counted("race_watch_exports") == {("otlp", "failed"): 1.0}


def test_endpoint_that_comes_back_gets_what_waited() -> None:
    away = threading.Event()
    away.set()
    with http_receiver() as (url, inbox):
        inbox.reply = lambda _: Reply(503 if away.is_set() else 200)
        with running([target("traces", url, every_s=0.01)]) as made:
            made.exporter.span(span(1))
            inbox.until(lambda: inbox.requests, "a first attempt")
            away.clear()
            inbox.until(lambda: len(inbox.requests) > 1, "a second attempt")
        assert {one.span_id for one in inbox.spans()} == {(1).to_bytes(8, "big")}
    assert [line.rpartition(": ")[2] for line in made.lines] == ["the answer is HTTP 503"]


def test_exporter_whose_thread_could_not_be_made_can_be_stopped() -> None:
    lines: list[str] = []
    Exporter([target()], RESOURCE, Totals(), lines.append).stop()
    assert lines == []


def test_nothing_is_built_where_nothing_is_asked_for() -> None:
    assert build(Settings(), b"k", Totals(), pytest.fail, {"OTEL_SERVICE_NAME": "x"}) is None


def test_sessions_are_built_only_where_spans_are_exported() -> None:
    made = build(Settings(), b"k", Totals(), pytest.fail, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1"})
    assert made is not None
    assert made.sessions is not None
    assert made.endpoints == ("http://c:1 (http/protobuf)",)
    without = build(Settings(otlp="on", otlp_signals="metrics,logs"), b"k", Totals(), pytest.fail, {})
    assert without is not None
    assert without.sessions is None


def test_each_problem_is_said_once() -> None:
    lines: list[str] = []
    build(
        Settings(otlp="on"), b"k", Totals(), lines.append, {"OTEL_EXPORTER_OTLP_TIMEOUT": "x", "OTEL_RESOURCE_ATTRIBUTES": "y"}
    )
    assert lines == [
        "OTEL_EXPORTER_OTLP_TIMEOUT is not a time; using 10 s",
        "OTEL_RESOURCE_ATTRIBUTES is not key=value,key=value; a part of it is left out",
    ]


def test_no_thread_no_provider_and_no_sdk_come_with_the_import() -> None:
    import subprocess
    import sys

    script = (
        "import sys, threading; from race_watch.exporters.otel.exporter import Exporter; "
        "loaded = {n for n in sys.modules if n.startswith('opentelemetry.') and not n.startswith('opentelemetry.proto')}; "
        "print(loaded, threading.active_count(), 'requests' in sys.modules, 'grpc' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set() 1 False False"
