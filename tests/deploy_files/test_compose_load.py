"""deploy/compose's callers, a real livekit-server and a real livekit-agents worker under `race-watch run`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from deploy_tools import DEPLOY, PATIENCE_S, ROOT

import race_watch.lab
from race_watch.lab.server import LiveKitServer, find_server
from race_watch.lab.wheels import environment

pytestmark = pytest.mark.one_python

LAB = Path(race_watch.lab.__file__).parent
AGENTS = "livekit-agents==1.8.9"


def until(done: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline_s, f"not in time: {what}"
        time.sleep(0.1)


@pytest.mark.skipif(find_server() is None, reason="no livekit-server here: `make livekit-server` builds it")
def test_calls_of_the_mix_reach_the_worker_and_their_faults_are_found(tmp_path: Path) -> None:
    python = environment([AGENTS])
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RACE_WATCH_", "LIVEKIT_", "OTEL_"))}
    env = {**clean, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "no_proxy": "127.0.0.1"}
    log, incidents = tmp_path / "worker.log", tmp_path / "incidents.jsonl"
    watched = [sys.executable, "-m", "race_watch", "run", "--metrics-port", "0", "--incidents", str(incidents), "--"]
    with LiveKitServer() as server, log.open("wb") as out:
        keys = {"LIVEKIT_URL": server.url, "LIVEKIT_API_KEY": server.api_key, "LIVEKIT_API_SECRET": server.api_secret}
        command = [*watched, str(python), str(LAB / "agents_worker.py"), "start"]
        with subprocess.Popen(command, env={**env, **keys}, stdout=out, stderr=out, cwd=tmp_path) as worker:
            try:
                until(lambda: b"registered worker" in log.read_bytes(), "the worker registers")
                load = [str(python), str(DEPLOY / "compose" / "load.py"), "--url", server.url, "--mix", "ghost_mute=1"]
                load += ["--calls", "2", "--every", "0.5", "--alive", str(tmp_path / "alive")]
                load += ["--participant", str(LAB / "participant.py")]
                called = subprocess.run(load, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
                assert called.returncode == 0, called.stderr
                rooms = [line.removeprefix("a call: ") for line in called.stdout.splitlines()]
                assert len(rooms) == 2
                assert (tmp_path / "alive").exists()
                until(lambda: all(room in _rooms(incidents) for room in rooms), "an incident in each room")
            finally:
                worker.send_signal(signal.SIGTERM)
                worker.wait(PATIENCE_S)


def test_callers_leave_before_the_load_ends_as_it_is_asked_to(tmp_path: Path) -> None:
    stays, came, left = tmp_path / "participant.py", tmp_path / "came", tmp_path / "left"
    stays.write_text(f"import sys\nopen({str(came)!r}, 'w')\nsys.stdin.read()\nopen({str(left)!r}, 'w')\n")
    load = [sys.executable, str(DEPLOY / "compose" / "load.py"), "--url", "ws://127.0.0.1:9", "--mix", "clean=1"]
    load += ["--every", "60", "--participant", str(stays)]
    with subprocess.Popen(load) as process:
        until(came.exists, "a caller comes")
        process.terminate()
        # It must not be the signal that ends it: the first process of a container would not hear it.
        assert process.wait(PATIENCE_S) == 0
    assert left.exists()


def _rooms(incidents: Path) -> set[str]:
    return {json.loads(line)["room"]["name"] for line in incidents.read_text().splitlines()} if incidents.exists() else set()
