"""The route `inject` without Kubernetes: the tree that the image carries and an interpreter that knows nothing of race_watch.

Its watcher is in another PID namespace and shares the run directory, as two containers of a pod do.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from deploy_tools import DEPLOY, PATIENCE_S, ROOT

from race_watch.lab.background import background_sfu
from race_watch.lab.wheels import environment

pytestmark = pytest.mark.one_python

SCENARIO = ROOT / "race_watch" / "lab" / "scenarios" / "demo_worker.py"
SIGNATURE = "local-unpublish-keyerror"


def injected(home: Path) -> Path:
    """What the Dockerfile puts into /inject and the init container copies."""
    dockerfile = (DEPLOY / "docker" / "Dockerfile").read_text()
    assert "cp -r race_watch /inject/" in dockerfile
    assert "rm -r /inject/race_watch/lab" in dockerfile
    tree = home / "opt"
    shutil.copytree(ROOT / "race_watch", tree / "race_watch", ignore=shutil.ignore_patterns("lab", "__pycache__"))
    # The worker mounts it read-only: nothing may depend on compiled files that it could leave there.
    for folder, _, files in os.walk(tree):
        for file in files:
            os.chmod(Path(folder) / file, 0o444)
        os.chmod(folder, 0o555)
    return tree


def variables(tree: Path, run_dir: Path) -> dict[str, str]:
    """Those of the worker's container in the chart's example, with our paths."""
    example = yaml.safe_load_all((DEPLOY / "helm" / "examples" / "inject.yaml").read_text())
    (deployment,) = [one for one in example if one["kind"] == "Deployment"]
    (worker,) = deployment["spec"]["template"]["spec"]["containers"]
    found = {variable["name"]: variable["value"] for variable in worker["env"]}
    assert found.keys() == {"RACE_WATCH_RUN_DIR", "RACE_WATCH_WATCHER", "PYTHONPATH"}
    here = {"/opt/race-watch": str(tree), "/run/race-watch/journals": str(run_dir)}
    for there, path in here.items():
        found = {name: value.replace(there, path) for name, value in found.items()}
    return found


def own_namespace() -> list[str]:
    """The prefix that gives a command a PID namespace; nothing where this user may not."""
    prefix = ["unshare", "--pid", "--fork", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        return []
    return prefix


def test_a_worker_that_has_only_the_injected_tree_is_watched_from_the_sidecar(tmp_path: Path) -> None:
    python = environment(["livekit==1.1.8"])
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("RACE_WATCH", "OTEL_", "PYTHON"))}
    bare["no_proxy"] = "127.0.0.1"
    without = subprocess.run([str(python), "-c", "import race_watch"], env=bare, capture_output=True, check=False, cwd=tmp_path)
    assert without.returncode != 0, "the worker's environment has race_watch by itself: this would prove nothing"
    volume = tmp_path / "run"
    volume.mkdir()
    volume.chmod(0o777)
    incidents = tmp_path / "incidents.jsonl"
    watch = [sys.executable, "-m", "race_watch", "watch", "--run-dir", str(volume / "journals"), "--incidents", str(incidents)]
    sidecar_env = {**bare, "PYTHONPATH": str(ROOT), "RACE_WATCH_METRICS_PORT": "0"}
    with background_sfu() as url, subprocess.Popen(watch, env=sidecar_env, stderr=subprocess.PIPE, text=True) as sidecar:
        try:
            _until_private(volume / "journals")
            worker = subprocess.run(
                [*own_namespace(), str(python), str(SCENARIO), "--url", url],
                env={**bare, **variables(injected(tmp_path), volume / "journals")},
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
                cwd=tmp_path,
            )
        finally:
            sidecar.send_signal(signal.SIGTERM)
            said = sidecar.communicate(timeout=PATIENCE_S)[1]
    assert worker.returncode == 0, worker.stderr
    found = {json.loads(line)["signature"] for line in incidents.read_text().splitlines()}
    assert SIGNATURE in found, said


def _until_private(path: Path) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert path.stat().st_mode & 0o077 == 0
