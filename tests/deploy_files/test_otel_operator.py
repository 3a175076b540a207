"""The operator's route: OpenTelemetry's own loader finds race_watch by its entry point."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deploy_tools import PATIENCE_S, ROOT

from race_watch.journal.layout import SUFFIX
from race_watch.lab.wheels import environment

pytestmark = [
    pytest.mark.one_python,
    pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11"),
]

NEEDS = ["opentelemetry-distro==0.66b1"]
PROBE = """
import asyncio, json, os, sys
asyncio.run(asyncio.sleep(0))
found = sys.modules.get("_race_watch_post_import")
run_dir = os.environ["RACE_WATCH_RUN_DIR"]
print(json.dumps([found is not None and found.watching, os.listdir(run_dir) if os.path.isdir(run_dir) else []]))
"""


def tree(home: Path) -> Path:
    """What deploy/operator/Dockerfile adds to the operator's tree: the package and what pip notes of it."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["opentelemetry_instrumentor"]
    made = home / "autoinstrumentation"
    shutil.copytree(ROOT / "race_watch", made / "race_watch", ignore=shutil.ignore_patterns("lab", "__pycache__"))
    info = made / f"race_watch-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"{name} = {target}" for name, target in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[opentelemetry_instrumentor]", *lines, ""]))
    return made


def probed(home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A program under OpenTelemetry's sitecustomize, with PYTHONPATH as the operator sets it."""
    python = environment(NEEDS)
    asked = "import opentelemetry.instrumentation.auto_instrumentation as a; print(a.__path__[0])"
    loader = subprocess.run([str(python), "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RACE_WATCH", "OTEL_", "PYTHON"))}
    given = {
        "PYTHONPATH": f"{loader}{os.pathsep}{tree(home)}",
        "RACE_WATCH_RUN_DIR": str(home / "journals"),
        "RACE_WATCH_WATCHER": "none",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    return subprocess.run(
        [str(python), "-c", PROBE],
        env={**clean, **given, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        cwd=home,
    )


def test_the_operators_loader_arms_the_worker(tmp_path: Path) -> None:
    ended = probed(tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    watching, files = json.loads(ended.stdout)
    assert watching
    assert len([name for name in files if name.endswith(SUFFIX)]) == 1


def test_switched_off_it_does_nothing(tmp_path: Path) -> None:
    ended = probed(tmp_path, RACE_WATCH="0")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout) == [False, []]
