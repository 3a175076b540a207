"""deploy/compose, as Docker's own compose resolves it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_tools import DEPLOY, PATIENCE_S, ROOT, needs_tools, run

pytestmark = pytest.mark.one_python

COMPOSE = DEPLOY / "compose"
PROMTOOL = shutil.which("promtool") or str(ROOT / ".cache" / "bin" / "promtool")
# Wherever a port number stands in what one service is told of another.
ADDRESS = re.compile(r"(?:https?|ws)://([a-z]+):(\d+)")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    ended = run("docker-compose", "-f", COMPOSE / "compose.yaml", "config", "--format", "json")
    # Unset variables are warnings there.
    assert (ended.returncode, ended.stderr) == (0, "")
    found: dict[str, Any] = json.loads(ended.stdout)["services"]
    return found


def open_ports(service: dict[str, Any]) -> set[int]:
    return {int(port) for port in service.get("expose", ())} | {int(port["target"]) for port in service.get("ports", ())}


@needs_tools
def test_the_stack_is_whole(services: dict[str, Any]) -> None:
    assert services.keys() == {
        "livekit", "worker", "load", "prometheus", "alertmanager", "collector", "jaeger", "grafana",
    }  # fmt: skip


@needs_tools
def test_every_image_is_pinned_and_every_service_is_bounded_watched_over_and_unprivileged(services: dict[str, Any]) -> None:
    for name, service in services.items():
        tag = service["image"].partition(":")[2]
        if "build" in service:
            assert all(argument for argument in service["build"].get("args", {}).values()), name
        else:
            assert re.search(r"\d+\.\d+", tag), f"{name}: {service['image']}"
        kind, *words = service["healthcheck"]["test"]
        assert kind in {"CMD", "CMD-SHELL"}, name
        assert kind == "CMD-SHELL" or not any(" " in word for word in words), f"{name}: podman would cut the words there"
        assert int(service["mem_limit"]) > 0, name
        assert service["logging"]["options"]["max-size"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for needed in service.get("depends_on", {}).values():
            assert needed["condition"] == "service_healthy", name


def healthy(check: str) -> bool:
    """What the shell of the image would say; the python of these tests stands for the image's."""
    environment = {"PATH": os.pathsep.join([os.path.dirname(sys.executable), "/usr/bin", "/bin"]), "no_proxy": "127.0.0.1"}
    return subprocess.run(["/bin/sh", "-c", check], env=environment, stderr=subprocess.DEVNULL, check=False).returncode == 0


@needs_tools
def test_the_load_is_healthy_while_callers_come(services: dict[str, Any], tmp_path: Path) -> None:
    command, check = services["load"]["command"], services["load"]["healthcheck"]["test"][1]
    named, here = command[command.index("--alive") + 1], tmp_path / "alive"
    assert named in check
    check = check.replace(named, str(here))
    assert not healthy(check)
    here.touch()
    assert healthy(check)
    os.utime(here, (time.time() - 3600, time.time() - 3600))
    assert not healthy(check)


class Health(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: pytest's output is not for requests."""


@needs_tools
def test_the_worker_is_healthy_while_its_watcher_says_so(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    check = services["worker"]["healthcheck"]["test"][1]
    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        check = check.replace("127.0.0.1:9464", f"127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            assert healthy(check)
            monkeypatch.setattr(Health, "status", 503)
            assert not healthy(check)
        finally:
            server.shutdown()
            thread.join()


@needs_tools
def test_alertmanager_remembers_what_it_told_until_it_is_to_tell_it_again(services: dict[str, Any]) -> None:
    (kept,) = [word.partition("=")[2] for word in services["alertmanager"]["command"] if word.startswith("--data.retention=")]
    repeats = re.findall(r"repeat_interval: (\w+)", (DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    assert repeats
    assert hours(kept) > max(map(hours, repeats))


def hours(duration: str) -> float:
    return int(duration[:-1]) * {"m": 1 / 60, "h": 1, "d": 24, "w": 168}[duration[-1]]


@needs_tools
def test_every_mounted_file_exists_and_is_read_only(services: dict[str, Any]) -> None:
    mounted = [mount for service in services.values() for mount in service.get("volumes", ()) if mount["type"] == "bind"]
    assert mounted
    for mount in mounted:
        source = Path(mount["source"])
        assert source.is_file() or (source.is_dir() and any(source.iterdir())), source
        assert mount["read_only"], source


@needs_tools
def test_nothing_is_published_beyond_this_machine(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert published
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}


@needs_tools
def test_every_scraped_port_is_exposed_by_its_service(services: dict[str, Any]) -> None:
    config = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())
    jobs = [*config["scrape_configs"], *config["alerting"]["alertmanagers"]]
    targets = [target for job in jobs for static in job["static_configs"] for target in static["targets"]]
    assert {"worker:9464", "alertmanager:9093"} <= set(targets)
    for target in targets:
        name, _, port = target.partition(":")
        assert int(port) in open_ports(services[name]), target
    livekit = yaml.safe_load((COMPOSE / "livekit.yaml").read_text())
    assert {livekit["port"], livekit["prometheus"]["port"]} <= open_ports(services["livekit"])


@needs_tools
def test_every_address_that_a_service_is_told_is_one_that_another_opens(services: dict[str, Any]) -> None:
    grafana = (COMPOSE / "grafana" / "datasources" / "datasources.yaml").read_text()
    told = grafana + "".join(json.dumps([service.get("environment"), service.get("command")]) for service in services.values())
    found = {(name, int(port)) for name, port in ADDRESS.findall(told)}
    assert {("livekit", 7880), ("collector", 4318), ("jaeger", 4318), ("prometheus", 9090)} <= found
    for name, port in found:
        assert port in open_ports(services[name]), f"{name}:{port}"


@needs_tools
def test_the_worker_is_given_settings_that_race_watch_has(services: dict[str, Any]) -> None:
    from race_watch.settings import from_env

    settings = from_env(services["worker"]["environment"])
    assert settings.problems == ()
    assert settings.otlp_signals == "traces,logs", "its metrics are scraped: exported too they would count twice"


@needs_tools
def test_the_load_names_behaviours_that_the_worker_has(services: dict[str, Any]) -> None:
    command = services["load"]["command"]
    mixed = {entry.partition("=")[0] for entry in command[command.index("--mix") + 1].split(",")}
    text = (ROOT / "race_watch" / "lab" / "agents_worker.py").read_text()
    assert "clean" in mixed
    for behaviour in mixed:
        assert f"async def {behaviour}(" in text


@pytest.mark.skipif(not Path(PROMTOOL).exists(), reason="no promtool here: `make promtool` gets it")
def test_prometheus_accepts_its_configuration_and_rules(tmp_path: Path) -> None:
    config = (COMPOSE / "prometheus.yml").read_text()
    assert "/etc/prometheus/rules.yml" in config
    (tmp_path / "prometheus.yml").write_text(config.replace("/etc/prometheus/", f"{tmp_path}/"))
    shutil.copy(DEPLOY / "prometheus" / "rules.yml", tmp_path)
    ended = subprocess.run(
        [PROMTOOL, "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_grafana_gets_the_dashboards_and_sources_that_its_files_name() -> None:
    sources = yaml.safe_load((COMPOSE / "grafana" / "datasources" / "datasources.yaml").read_text())["datasources"]
    known = {source["uid"] for source in sources}
    (prometheus,) = [source for source in sources if source["type"] == "prometheus"]
    for linked in prometheus["jsonData"]["exemplarTraceIdDestinations"]:
        assert linked["datasourceUid"] in known
    compose = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    (provider,) = yaml.safe_load((COMPOSE / "grafana" / "dashboards" / "dashboards.yaml").read_text())["providers"]
    assert provider["options"]["path"] in mounts.values()
    home = compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "dashboards" / Path(home).name).exists()
