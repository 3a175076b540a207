"""A real OpenTelemetry Collector and a real Prometheus, as `make collector` and `make promtool` leave them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BIN = Path(__file__).parents[2] / ".cache" / "bin"
PATIENCE_S = 60.0
SIGNALS = ("traces", "metrics", "logs")
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

_COLLECTOR = """
receivers:
  otlp:
    protocols:
      http: {{endpoint: "127.0.0.1:{http}"}}
      grpc: {{endpoint: "127.0.0.1:{grpc}"}}
exporters:
  file/traces: {{path: "{folder}/traces.jsonl"}}
  file/metrics: {{path: "{folder}/metrics.jsonl"}}
  file/logs: {{path: "{folder}/logs.jsonl"}}
  prometheus: {{endpoint: "127.0.0.1:{prometheus}", enable_open_metrics: true}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [file/traces]}}
    metrics: {{receivers: [otlp], exporters: [file/metrics, prometheus]}}
    logs: {{receivers: [otlp], exporters: [file/logs]}}
"""

_PROMETHEUS = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: worker
    static_configs: [{{targets: ["{target}"]}}]
"""


def found(name: str) -> str | None:
    """The program, if it is here."""
    cached = BIN / name
    return str(cached) if cached.exists() else shutil.which(name)


class Collector:
    """A running collector. `urls` are its OTLP endpoints by protocol."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ports = {name: _free_port() for name in ("http", "grpc", "prometheus")}
        self.urls = {
            "http/protobuf": f"http://127.0.0.1:{self.ports['http']}",
            "grpc": f"http://127.0.0.1:{self.ports['grpc']}",
        }

    def exported(self, signal: str) -> list[dict[str, Any]]:
        """What its file exporter has written of a signal: spans, log records or metrics, in order."""
        resources, scopes, items = {
            "traces": ("resourceSpans", "scopeSpans", "spans"),
            "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
            "logs": ("resourceLogs", "scopeLogs", "logRecords"),
        }[signal]
        path = self._folder / f"{signal}.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [
            item
            for line in lines
            for resource in json.loads(line)[resources]
            for scope in resource[scopes]
            for item in scope[items]
        ]

    def everything(self) -> str:
        return "".join(path.read_text() for path in self._folder.glob("*.jsonl"))

    def metrics(self) -> str:
        """What its own Prometheus exporter makes of the metrics, as OpenMetrics."""
        return get(f"http://127.0.0.1:{self.ports['prometheus']}/metrics", OPENMETRICS)


@contextmanager
def collector(folder: Path) -> Iterator[Collector]:
    made = Collector(folder)
    config = folder / "collector.yaml"
    config.write_text(_COLLECTOR.format(folder=folder, **made.ports))
    program = found("otelcol")
    assert program is not None
    with _running([program, "--config", str(config)], folder / "collector.log", made.ports["http"]):
        yield made


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """The URL of a Prometheus that scrapes `target` each second and stores exemplars."""
    config, port = folder / "prometheus.yaml", _free_port()
    config.write_text(_PROMETHEUS.format(target=target))
    program = found("prometheus")
    assert program is not None
    options = [
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
    ]
    with _running([program, *options], folder / "prometheus.log", port):
        yield f"http://127.0.0.1:{port}"


def exemplars(url: str, query: str) -> list[dict[str, Any]]:
    """The exemplars that Prometheus has stored of the last minute."""
    now_s = time.time()
    asked = urllib.parse.urlencode({"query": query, "start": now_s - 60, "end": now_s + 60})
    answer = json.loads(get(f"{url}/api/v1/query_exemplars?{asked}"))
    return [exemplar for series in answer["data"] for exemplar in series["exemplars"]]


def get(url: str, accept: str = "*/*") -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, headers={"Accept": accept}), timeout=10) as response:
        text: str = response.read().decode()
    return text


def until(wanted: Callable[[], Any], what: str) -> Any:
    """Waits until `wanted` gives something without failing, and gives that."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            result = wanted()
        except (OSError, ValueError, StopIteration):
            result = None
        if result:
            return result
        assert time.monotonic() < deadline_s, f"not in time: {what}"
        time.sleep(0.1)


@contextmanager
def _running(command: Sequence[str], log: Path, port: int) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        until(lambda: _listens(process, log, port), f"{command[0]} listens")
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _listens(process: subprocess.Popen[bytes], log: Path, port: int) -> bool:
    assert process.poll() is None, log.read_text()[-2000:]
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        return True


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port
