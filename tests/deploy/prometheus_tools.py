"""Prometheus' and Alertmanager's own tools, as `make promtool amtool` gets them."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "dashboards"
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = PROMETHEUS / "rules.yml"
RUNBOOKS = ROOT / "docs" / "runbooks"
PATIENCE_S = 60.0


def tool(name: str) -> str | None:
    cached = ROOT / ".cache" / "bin" / name
    return shutil.which(name) or (str(cached) if cached.exists() else None)


def needs(*names: str) -> pytest.MarkDecorator:
    missing = [name for name in names if tool(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"no {', '.join(missing)} here: `make promtool amtool` gets them")


def run(name: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a tool to its end."""
    found = tool(name)
    assert found is not None
    return subprocess.run(
        [found, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE_S, cwd=cwd, check=False
    )


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])
