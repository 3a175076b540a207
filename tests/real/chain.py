"""What stands behind a worker in production, on loopback: Prometheus, Alertmanager, a webhook, an OpenTelemetry Collector.

Each is the real server with the files of deploy/. Replaced are addresses, how often is scraped and evaluated, and how long
Alertmanager waits before it tells; the rules are the file itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))

from live import JOB, TARGET, Prometheus
from prometheus_tools import PROMETHEUS, ROOT, RULES, free_port, tool

PATIENCE_S = 120.0
END_TIMEOUT_S = 10.0
ALERTING = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
COLLECTING = ROOT / "deploy" / "collector" / "collector.yaml"


def until(wanted: Callable[[], Any], what: Callable[[], object]) -> Any:
    """What `wanted` gives, once it gives something; `what` says how far it has come."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (found := wanted()):
        assert time.monotonic() < deadline_s, what()
        time.sleep(0.2)
    return found


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=15) as answer:
        text: str = answer.read().decode()
    return text


@contextmanager
def serving(command: Sequence[str], ready: str, log: Path, **options: Any) -> Iterator[None]:
    """The server from when `ready` answers until it has ended."""

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            get(ready)
        except OSError:
            return False
        return True

    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out, **options) as process:
        try:
            until(answers, log.read_text)
            yield
        finally:
            process.terminate()
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass(frozen=True)
class Told:
    """An alert as a receiver was told of it, and the labels of the group that it came in."""

    receiver: str
    group: dict[str, str]
    alert: dict[str, Any]


class Webhook(ThreadingHTTPServer):
    """Takes what Alertmanager tells, and keeps it."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        super().__init__(("127.0.0.1", 0), _Keeps)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class _Keeps(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.told += [Told(told["receiver"], told["groupLabels"], alert) for alert in told["alerts"]]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: pytest's output is not for requests."""


@contextmanager
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def alertmanager(home: Path, tells: str) -> Iterator[str]:
    """Its address; all its receivers are one webhook, and it tells again soon what is still so."""
    config = yaml.safe_load(ALERTING.read_text())
    _hasten(config["route"])
    for receiver in config["receivers"]:
        receiver["webhook_configs"] = [{"url": tells}]
    (home / "alertmanager.yml").write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        str(tool("prometheus-alertmanager")),
        f"--config.file={home}/alertmanager.yml",
        f"--storage.path={home}/alertmanager",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
    ]
    # Where `make amtool` has put its templates.
    with serving(command, f"{url}/-/ready", home / "alertmanager.log", cwd=ROOT / ".cache"):
        yield url


def _hasten(route: dict[str, Any]) -> None:
    route |= {"group_wait": "3s", "group_interval": "1s", "repeat_interval": "2s"}
    for child in route.get("routes", ()):
        _hasten(child)


@contextmanager
def prometheus(home: Path, scrapes: int, alerts: str) -> Iterator[Prometheus]:
    """It scrapes that port, and tells that Alertmanager."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    assert config["rule_files"] == [RULES.name]
    config["rule_files"] = [str(RULES)]
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [alerts.removeprefix("http://")]
    (scrape,) = config["scrape_configs"]
    assert scrape["job_name"] == JOB
    scrape["static_configs"] = [{"targets": [f"127.0.0.1:{scrapes}"], "labels": TARGET}]
    (home / "prometheus.yml").write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        str(tool("prometheus")),
        f"--config.file={home}/prometheus.yml",
        f"--storage.tsdb.path={home}/prometheus",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]
    with serving(command, f"{url}/-/ready", home / "prometheus.log"):
        yield Prometheus(url)


@dataclass(frozen=True)
class Collector:
    """Where it takes OTLP over HTTP, and where it shows the metrics it was sent to a Prometheus."""

    url: str
    metrics_url: str


@contextmanager
def collector(home: Path, came: str, leaves: str) -> Iterator[Collector]:
    """It hands on to `leaves` what has passed its pipelines, its logs too, and to `came` what has not."""
    health, grpc, http, metrics = (f"127.0.0.1:{free_port()}" for _ in range(4))
    signals = ("traces", "logs")
    moved = {
        "extensions": {"health_check": {"endpoint": health}},
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": grpc}, "http": {"endpoint": http}}}},
        "exporters": {
            "prometheus": {"endpoint": metrics},
            "otlp_http/logs": {"endpoint": leaves},
            "otlp_http/came": {"endpoint": came},
        },
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {
                "metrics": {"exporters": ["otlp_http/metrics", "prometheus"]},
                "logs": {"exporters": ["otlp_http/logs"]},
                **{f"{signal}/came": {"receivers": ["otlp"], "exporters": ["otlp_http/came"]} for signal in signals},
            },
        },
    }
    (home / "moved.yaml").write_text(yaml.safe_dump(moved))
    command = [str(tool("otelcol")), "--config", str(COLLECTING), "--config", str(home / "moved.yaml")]
    endpoints = {"TRACES_ENDPOINT": leaves, "METRICS_ENDPOINT": leaves}
    with serving(command, f"http://{health}/", home / "collector.log", env=endpoints):
        yield Collector(f"http://{http}", f"http://{metrics}/metrics")
