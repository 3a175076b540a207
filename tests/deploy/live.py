"""A real Prometheus that scrapes a real run: workers on published LiveKit versions that race, under `race-watch run`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prometheus_tools import PATIENCE_S, PROMETHEUS, ROOT, RULES, free_port, run, tool

from race_watch.lab.background import background_sfu
from race_watch.lab.wheels import environment

JOB = "race-watch"
TARGET = {"cluster": "lab", "namespace": "voice", "pod": "worker-0"}
CRASHES, RACES = "livekit==1.1.7", "livekit==1.1.8"


@dataclass(frozen=True)
class Answer:
    """What Prometheus says to a query."""

    status: str
    result: list[dict[str, Any]]
    complaints: tuple[str, ...]


class Prometheus:
    """A running server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._began_s = time.time()

    def ask(self, path: str, **query: object) -> dict[str, Any]:
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as reply:
                found: dict[str, Any] = json.load(reply)
        except urllib.error.HTTPError as error:
            found = json.load(error)
        return found

    def instant(self, expr: str, at_s: float | None = None) -> Answer:
        return _answer(self.ask("query", query=expr, **({} if at_s is None else {"time": at_s})))

    def since_start(self, expr: str) -> Answer:
        """As a graph has it, a point each second."""
        return _answer(self.ask("query_range", query=expr, start=self._began_s, end=time.time(), step=1))

    def exemplars(self, expr: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("query_exemplars", query=expr, start=self._began_s - 60, end=time.time() + 60)[
            "data"
        ]
        return found

    def until(self, expr: str) -> None:
        """Waits until the query has a result."""
        self._wait(lambda: bool(self.instant(expr).result), expr)

    def ready(self) -> None:
        """Waits until it answers."""
        self._wait(self._answers, "an answer")

    def _answers(self) -> bool:
        try:
            return self.instant("vector(1)").status == "success"
        except (urllib.error.URLError, json.JSONDecodeError):
            return False

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < deadline_s, f"not in time: {what}"
            time.sleep(0.2)


def _answer(said: dict[str, Any]) -> Answer:
    result = said.get("data", {}).get("result", [])
    complaints = [*said.get("warnings", []), *([said["error"]] if "error" in said else [])]
    return Answer(said["status"], result, tuple(complaints))


@contextmanager
def prometheus(home: Path, target: int) -> Iterator[Prometheus]:
    """Prometheus with the repository's own configuration and rules, only faster, that scrapes a port of this host."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"}
    config.pop("alerting")
    scrape = config["scrape_configs"][0]
    assert scrape["job_name"] == JOB
    scrape["static_configs"] = [{"targets": [f"127.0.0.1:{target}"], "labels": TARGET}]
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        group["interval"] = "1s"
    (home / RULES.name).write_text(yaml.safe_dump(rules))
    with _running(home, config) as server:
        server.until("up")
        yield server


@contextmanager
def backfilled(home: Path, openmetrics: str) -> Iterator[Prometheus]:
    """Prometheus that has these samples and scrapes nothing."""
    (home / "samples.txt").write_text(openmetrics)
    made = run("promtool", "tsdb", "create-blocks-from", "openmetrics", home / "samples.txt", home / "data")
    assert made.returncode == 0, made.stdout + made.stderr
    with _running(home, {"global": {}}) as server:
        yield server


@contextmanager
def _running(home: Path, config: dict[str, Any]) -> Iterator[Prometheus]:
    (home / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        str(tool("prometheus")),
        f"--config.file={home}/prometheus.yml",
        f"--storage.tsdb.path={home}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]
    with (home / "prometheus.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            server = Prometheus(f"http://127.0.0.1:{port}")
            server.ready()
            yield server
        finally:
            process.terminate()


@contextmanager
def workers(home: Path, port: int, **variables: str) -> Iterator[None]:
    """A worker under `race-watch run`, which serves on the port: a native abort first, then what `race-watch demo` shows."""
    with background_sfu() as url:
        command = [sys.executable, "-m", "race_watch", "run", "--quiet", "--metrics-port", str(port)]
        command += ["--incidents", str(home / "incidents.jsonl"), "--"]
        command += [str(environment([CRASHES])), str(Path(__file__).with_name("worker_that_races.py")), url]
        command.append(str(environment([RACES])))
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("RACE_WATCH", "OTEL_"))}
        env = {**clean, "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(home), **variables}
        with (home / "worker.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=home, start_new_session=True)
            with process:
                try:
                    yield
                finally:
                    process.send_signal(signal.SIGTERM)
                    try:
                        process.wait(PATIENCE_S)
                    except subprocess.TimeoutExpired:
                        os.killpg(process.pid, signal.SIGKILL)
