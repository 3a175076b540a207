"""The HTTP side of real runs: a live worker of the SDK, the port of others, token and TLS, livekit-agents' own /metrics."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import packaging
import pytest
from commands import LOSES_A_TASK, PATIENCE_S, RACE_WATCH, ROOT, Place
from prometheus_client.parser import text_string_to_metric_families

from race_watch import __version__, metrics
from race_watch.lab.background import background_sfu
from race_watch.lab.runner import SCENARIOS
from race_watch.lab.wheels import environment

pytestmark = pytest.mark.timeout(180)

CACHED = ROOT / ".cache" / "bin" / "promtool"
PROMTOOL = shutil.which("promtool") or (str(CACHED) if CACHED.exists() else None)
AGENTS = "livekit-agents==1.8.9"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def get(url: str, accept: str = "text/plain", token: str = "", tls: ssl.SSLContext | None = None) -> str:
    headers = {"Accept": accept, **({"Authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_S, context=tls) as answer:
        return str(answer.read().decode())


def url_in(process: subprocess.Popen[str]) -> str:
    """The address that the watcher says, which is its first line but for those of the worker."""
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r"metrics at (https?://\S+)/metrics", line)
        if found:
            return found[1]
    raise AssertionError("no address was said")


@contextmanager
def watched(place: Place, *options: str, worker: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A worker under `race-watch run`, and its address."""
    with place.start(*RACE_WATCH, "run", "--metrics-port", "0", *options, "--", *worker) as process:
        try:
            yield process, url_in(process)
        finally:
            process.kill()


def until(look: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.1)
    return found


# A live worker


@dataclass(frozen=True)
class Live:
    """What a worker on the SDK was seen to be, over HTTP, while it ran."""

    health: dict[str, Any]
    state: dict[str, Any]
    incidents: list[dict[str, Any]]
    metrics: str
    openmetrics: str


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    """The demo's worker with six rooms on livekit 1.1.8; its first room stays connected."""
    place = Place(tmp_path_factory.mktemp("live"))
    python = environment(["livekit==1.1.8"])
    with background_sfu() as url:
        worker = [str(python), str(SCENARIOS / "demo_worker.py"), "--url", str(url), "--hold"]
        with watched(place, worker=worker) as (process, base):

            def seen() -> list[dict[str, Any]]:
                found: list[dict[str, Any]] = json.loads(get(f"{base}/incidents"))["incidents"]
                return found if len({incident["room"]["name"] for incident in found}) >= 5 else []

            def moved() -> dict[str, Any]:
                state: dict[str, Any] = json.loads(get(f"{base}/state"))
                return state if state["rooms"] and len(state["growth"]["points"]) > 2 else {}

            until(seen, "incidents in five rooms")
            made = Live(
                state=until(moved, "a room"),
                health=json.loads(get(f"{base}/healthz")),
                incidents=json.loads(get(f"{base}/incidents"))["incidents"],
                metrics=get(f"{base}/metrics"),
                openmetrics=get(f"{base}/metrics", "application/openmetrics-text; version=1.0.0"),
            )
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE_S)
    return made


@pytest.mark.wheels
@pytest.mark.one_python
def test_live_worker_is_healthy_and_all_that_is_for_it_is_hooked(live: Live) -> None:
    assert (live.health["status"], live.health["trouble"]) == ("ok", [])
    assert (live.health["missing"], live.health["version"]) == (0, __version__)
    worker = next(one for one in live.health["processes"] if one["sdk"])
    assert worker["sdk"] == {"livekit": "1.1.8"}
    assert worker["hooks"]["off"] == {}
    assert {"room_events", "room_calls", "ffi_requests", "asyncio_tasks", "log_records"} <= set(worker["hooks"]["installed"])
    assert 0 < live.health["lag_s"] < 5


@pytest.mark.wheels
@pytest.mark.one_python
def test_rooms_and_growth_of_a_live_worker_are_shown(live: Live) -> None:
    assert "front-desk" in [room["name"] for room in live.state["rooms"]]
    names = live.state["growth"]["names"]
    last = dict(zip(names, live.state["growth"]["points"][-1][1:], strict=True))
    assert last["open_fds"] > 3
    assert last["ffi_handles"] > 0


@pytest.mark.wheels
@pytest.mark.one_python
def test_incidents_of_a_live_worker_come_newest_first(live: Live) -> None:
    times = [incident["time_unix_ns"] for incident in live.incidents]
    assert times == sorted(times, reverse=True)
    assert "local-unpublish-keyerror" in {incident["signature"] for incident in live.incidents}


@pytest.mark.wheels
@pytest.mark.one_python
def test_metrics_of_a_live_worker_count_what_happened_and_name_its_build(live: Live) -> None:
    families = {family.name: family for family in text_string_to_metric_families(live.metrics)}
    (build,) = families["race_watch_build_info"].samples
    assert (build.labels["version"], build.labels["livekit"], build.value) == (__version__, "1.1.8", 1)
    assert re.fullmatch(r"3\.\d+\.\d+", build.labels["python"])
    counted = sum(sample.value for sample in families["race_watch_incidents"].samples)
    assert counted == len(live.incidents)
    (cpu,) = families["race_watch_watcher_cpu_seconds"].samples
    assert 0 < cpu.value < 60
    assert 10 < len([line for line in live.metrics.splitlines() if not line.startswith("#")]) <= 200


@pytest.mark.wheels
@pytest.mark.one_python
@pytest.mark.skipif(PROMTOOL is None, reason="no promtool here: `make promtool` gets it")
def test_promtool_finds_nothing_in_the_metrics_of_a_live_worker(live: Live) -> None:
    assert PROMTOOL
    checked = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=live.metrics, capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    names = {line.split()[2] for line in live.openmetrics.splitlines() if line.startswith("# TYPE")}
    assert {family.name for family in text_string_to_metric_families(live.metrics)} == names


# Options


def test_token_and_tls_are_options_of_run(place: Place) -> None:
    cert, key, token = place.home / "tls.crt", place.home / "tls.key", place.home / "token"
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [*made.split(), "-subj", "/CN=w", "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True, timeout=60
    )
    token.write_text("open sesame")
    options = ("--metrics-token-file", str(token), "--metrics-tls-cert", str(cert), "--metrics-tls-key", str(key))
    with watched(place, *options, worker=[sys.executable, "-c", "input()"]) as (process, base):
        trusting = ssl.create_default_context(cafile=str(cert))
        assert base.startswith("https://127.0.0.1:")
        assert "race_watch_rooms" in get(f"{base}/metrics", token="open sesame", tls=trusting)
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            get(f"{base}/metrics", tls=trusting)
        refused.value.close()
        process.communicate("go on\n", timeout=PATIENCE_S)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("options", "variables", "told"),
    [
        pytest.param(["--metrics-token-file", "nowhere"], {}, "cannot read the token in nowhere", id="token"),
        pytest.param([], {"RACE_WATCH_METRICS_TOKEN_FILE": "nowhere"}, "cannot read the token in nowhere", id="token variable"),
        pytest.param(["--metrics-tls-cert", "nowhere"], {}, "--metrics-tls-cert is given without --metrics-tls-key", id="half"),
        pytest.param(
            ["--metrics-tls-cert", "a", "--metrics-tls-key", "b"], {}, "cannot use the certificate a", id="certificate"
        ),
    ],
)
def test_protection_that_cannot_be_had_leaves_the_endpoint_out_and_the_worker_alone(
    place: Place, options: list[str], variables: dict[str, str], told: str
) -> None:
    done = place.run(*options, script=LOSES_A_TASK, **variables)
    assert (done.returncode, done.stdout) == (0, "worker done\n")
    assert "metrics at" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "no metrics: " in line]
    assert told in line
    assert "1 process watched" in done.stderr


def test_failed_incident_file_is_counted_and_told_in_health(place: Place) -> None:
    script = f"input()\n{LOSES_A_TASK}\ninput()"
    with watched(place, "--incidents", "/dev/full", worker=[sys.executable, "-c", script]) as (process, base):
        assert process.stdin is not None
        process.stdin.write("lose it\n")
        process.stdin.flush()
        failed = 'race_watch_exports_total{exporter="incident_file",outcome="failed"} 1.0'
        until(lambda: failed in get(f"{base}/metrics"), "the failed export is counted")
        health = until(lambda: (h := json.loads(get(f"{base}/healthz")))["status"] == "degraded" and h, "health tells")
        assert health["trouble"] == ["incident file stopped: No space left on device"]
        assert len(json.loads(get(f"{base}/incidents"))["incidents"]) == 1, "it is shown all the same"
        process.communicate("go on\n", timeout=PATIENCE_S)
    assert process.returncode == 0


# The worker's own /metrics

# livekit-agents' own server of /metrics; says what it serves when the watcher's numbers are there or the time is up, and then
# once more after an undo.
_AGENTS_METRICS = """
import asyncio, os, sys, time, urllib.request
from livekit import rtc
from livekit.agents.telemetry.http_server import HttpServer

def scrape(port):
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()

async def main():
    server = HttpServer("127.0.0.1", 0)
    await server.start()
    deadline = time.monotonic() + float(sys.argv[1])
    while True:
        body = await asyncio.to_thread(scrape, server.port)
        if 'livekit_agents="1' in body or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    print(body)
    print("== after the undo")
    import race_watch
    race_watch.install()()
    print(await asyncio.to_thread(scrape, server.port))
    await server.aclose()

asyncio.run(main())
"""
SHOWN_S = 25.0


class Agents:
    """Runs the above where livekit-agents is, by a route, and with what the watcher needs beside it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._python = str(environment([AGENTS]))
        self._beside = place.home / "beside"
        self._beside.mkdir()
        (self._beside / "packaging").symlink_to(Path(packaging.__file__).parent)

    def run(self, patience_s: float, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = ("run", "--metrics-port", "0", *options, "--", self._python, "-c", _AGENTS_METRICS, str(patience_s))
        return self._place.race_watch(*command, **variables)

    def bootstrap(self, patience_s: float, **variables: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join((self._place.race_watch("bootstrap").stdout.strip(), str(self._beside)))
        own = {"PYTHONPATH": path, "RACE_WATCH_METRICS_PORT": "0", **variables}
        return self._place.call(self._python, "-c", _AGENTS_METRICS, str(patience_s), **own)


@pytest.fixture
def agents(place: Place) -> Agents:
    return Agents(place)


ROUTES: dict[str, Callable[[Agents, float], subprocess.CompletedProcess[str]]] = {
    "option of run": lambda agents, s: agents.run(s, "--also-default-registry"),
    "variable of run": lambda agents, s: agents.run(s, RACE_WATCH_ALSO_DEFAULT_REGISTRY="1"),
    "bootstrap": lambda agents, s: agents.bootstrap(s, RACE_WATCH_ALSO_DEFAULT_REGISTRY="1"),
}


@pytest.mark.wheels
@pytest.mark.one_python
@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_livekit_agents_shows_our_metrics_where_that_was_asked_for_and_not_after_the_undo(
    agents: Agents, route: Callable[[Agents, float], subprocess.CompletedProcess[str]]
) -> None:
    done = route(agents, SHOWN_S)
    assert done.returncode == 0, done.stderr
    shown, after = done.stdout.split("== after the undo")
    families = [family.name for family in text_string_to_metric_families(shown)]
    assert len(families) == len(set(families))
    assert {metric.name for metric in metrics.CATALOGUE} <= set(families)
    assert {"lk_agents_active_job_count", "process_cpu_seconds"} <= set(families)
    assert 'livekit_agents="1.8.9"' in shown
    assert "race_watch_" not in after
    assert "lk_agents_active_job_count" in after


@pytest.mark.wheels
@pytest.mark.one_python
def test_livekit_agents_shows_our_metrics_in_multiprocess_mode(place: Place, agents: Agents) -> None:
    done = agents.run(SHOWN_S, "--also-default-registry", PROMETHEUS_MULTIPROC_DIR=str(place.home))
    assert done.returncode == 0, done.stderr
    shown, after = done.stdout.split("== after the undo")
    assert {metric.name for metric in metrics.CATALOGUE} <= {family.name for family in text_string_to_metric_families(shown)}
    assert "process_cpu_seconds" not in shown, "it is not the default registry that is served"
    assert "race_watch_" not in after


@pytest.mark.wheels
@pytest.mark.one_python
@pytest.mark.parametrize("route", [lambda agents: agents.run(1), lambda agents: agents.bootstrap(1)], ids=["run", "bootstrap"])
def test_livekit_agents_metrics_are_its_own_where_nobody_asked(
    agents: Agents, route: Callable[[Agents], subprocess.CompletedProcess[str]]
) -> None:
    done = route(agents)
    assert done.returncode == 0, done.stderr
    assert "metrics at" in done.stderr
    assert "lk_agents_active_job_count" in done.stdout
    assert "race_watch_" not in done.stdout
