"""The tools of `make deploy-tools`, which have an environment of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TOOLS = ROOT / ".cache" / "deploy-tools"
COLLECTOR = ROOT / ".cache" / "bin" / "otelcol"
PATIENCE_S = 90.0

needs_tools = pytest.mark.skipif(
    not (TOOLS / ".installed").exists(), reason="no tools of deploy/ here: `make deploy-tools` gets them"
)
needs_collector = pytest.mark.skipif(not COLLECTOR.exists(), reason="no collector here: `make collector` builds it")


def run(name: str, *arguments: object, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a tool of the environment to its end, with nothing of ours in its environment but what is given."""
    return subprocess.run(
        [str(TOOLS / "bin" / name), *map(str, arguments)],
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        # compose runs as a plugin of docker's or by itself; its settings and those of kubectl are the caller's.
        env={"PATH": f"{Path(shutil.which('sh') or '/bin/sh').parent}", "HOME": "/nonexistent", **environment},
    )


def ask(question: str, given: Any) -> Any:
    """What charts.py, run by the tools' Python, answers."""
    ended = run("python", Path(__file__).with_name("charts.py"), question, given=json.dumps(given))
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def complaints(objects: list[dict[str, Any]]) -> list[str]:
    """What Kubernetes, or the Prometheus operator, would refuse or silently drop."""
    assert objects
    said: list[str] = ask("validate", objects)
    return said
