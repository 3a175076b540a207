"""deploy/collector, read and run by a real OpenTelemetry Collector."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_tools import COLLECTOR, DEPLOY, PATIENCE_S, needs_collector

pytestmark = [needs_collector, pytest.mark.one_python]

CONFIG = DEPLOY / "collector" / "collector.yaml"
KUBERNETES = DEPLOY / "collector" / "kubernetes.yaml"
SID = "PA_abcdefabcdef"
PERSONAL = {
    "lk.pii.room_name": "call-+15550100",
    "lk.pii.participant_identity": "3f9c",
    "participant_identity": "+15550100",
    "caller.phone": "+15550100",
    "user.email": "someone@example.com",
}
KEPT = {"lk.participant_sid": SID, "race_watch.category": "lost_event"}


def environment(backend: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "TRACES_ENDPOINT": backend, "METRICS_ENDPOINT": backend}


@pytest.mark.parametrize("files", [(CONFIG,), (CONFIG, KUBERNETES)], ids=["by itself", "in Kubernetes"])
def test_the_collector_accepts_the_configuration(files: tuple[Path, ...]) -> None:
    named = [option for file in files for option in ("--config", str(file))]
    ended = subprocess.run(
        [str(COLLECTOR), "validate", *named], env=environment("http://localhost:1"), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_memory_is_bounded_first_and_people_are_dropped_in_every_pipeline() -> None:
    base, more = yaml.safe_load(CONFIG.read_text()), yaml.safe_load(KUBERNETES.read_text())
    assert base["service"]["pipelines"].keys() == more["service"]["pipelines"].keys() == {"traces", "metrics", "logs"}
    for signal, pipeline in base["service"]["pipelines"].items():
        assert pipeline["processors"][0] == "memory_limiter"
        assert "transform/identities" in pipeline["processors"]
        theirs = more["service"]["pipelines"][signal]["processors"]
        assert [name for name in theirs if name != "k8s_attributes"] == pipeline["processors"]


class Backend(ThreadingHTTPServer):
    """Takes OTLP over HTTP and keeps what came, by path."""

    def __init__(self) -> None:
        self.came: queue.Queue[tuple[str, bytes]] = queue.Queue()
        super().__init__(("127.0.0.1", 0), Keeps)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Keeps(BaseHTTPRequestHandler):
    server: Backend

    def do_POST(self) -> None:
        import gzip

        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.came.put((self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: pytest's output is not for requests."""


@contextmanager
def backend() -> Iterator[Backend]:
    with Backend() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def free_ports(count: int) -> list[int]:
    bound = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in bound]
    for one in bound:
        one.close()
    return ports


@contextmanager
def collector(home: Path, hands_on_to: str) -> Iterator[str]:
    """The collector on free ports; yields where it takes OTLP over HTTP."""
    health, grpc, http = (f"127.0.0.1:{port}" for port in free_ports(3))
    moved = {
        "extensions": {"health_check": {"endpoint": health}},
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": grpc}, "http": {"endpoint": http}}}},
        "service": {"telemetry": {"metrics": {"level": "none"}}},
    }
    (home / "moved.yaml").write_text(yaml.safe_dump(moved))
    command = [str(COLLECTOR), "--config", str(CONFIG), "--config", str(home / "moved.yaml")]
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen(command, env=environment(hands_on_to), stdout=log, stderr=log) as process,
    ):
        try:
            deadline_s = time.monotonic() + PATIENCE_S
            while not _healthy(f"http://{health}/"):
                assert process.poll() is None, (home / "log").read_text()
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
            yield f"http://{http}"
        finally:
            process.terminate()


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def attributes(values: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": name, "value": {"stringValue": value}} for name, value in values.items()]


def post(url: str, given: dict[str, Any]) -> None:
    request = urllib.request.Request(url, json.dumps(given).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        assert answer.status == 200


def test_identities_end_here_and_sids_go_on(tmp_path: Path) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    both = attributes({**PERSONAL, **KEPT})
    span = {"traceId": "1" * 32, "spanId": "2" * 16, "name": "incident lost_event", "attributes": both}
    span["events"] = [{"name": "exception", "attributes": both}]
    sent = {"resourceSpans": [{"resource": {"attributes": both}, "scopeSpans": [{"spans": [span]}]}]}
    with backend() as server, collector(tmp_path, server.url) as url:
        post(f"{url}/v1/traces", sent)
        path, body = server.came.get(timeout=PATIENCE_S)
    assert path == "/v1/traces"
    (of_resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    (arrived,) = of_resource.scope_spans[0].spans
    for found in (of_resource.resource.attributes, arrived.attributes, arrived.events[0].attributes):
        assert {one.key: one.value.string_value for one in found} == KEPT


def test_metrics_get_the_labels_that_dashboards_know(tmp_path: Path) -> None:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    where = {"k8s.namespace.name": "voice", "k8s.pod.name": "worker-0", "k8s.cluster.name": "eu-1"}
    point = {"asInt": "3", "timeUnixNano": "1", "attributes": attributes({"category": "hang", "user.email": "a@example.com"})}
    metric = {"name": "race_watch.incidents", "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [point]}}
    sent = {"resourceMetrics": [{"resource": {"attributes": attributes(where)}, "scopeMetrics": [{"metrics": [metric]}]}]}
    with backend() as server, collector(tmp_path, server.url) as url:
        post(f"{url}/v1/metrics", sent)
        path, body = server.came.get(timeout=PATIENCE_S)
    assert path == "/v1/metrics"
    (of_resource,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
    (arrived,) = of_resource.scope_metrics[0].metrics[0].sum.data_points
    labels = {one.key: one.value.string_value for one in arrived.attributes}
    assert labels == {"category": "hang", "cluster": "eu-1", "namespace": "voice", "pod": "worker-0"}
