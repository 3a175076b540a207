"""The short form of `make jobs`, in a process of its own: it adopts the orphans of what it starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from race_watch.lab.server import HOW_TO_GET, find_server

sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))

from prometheus_tools import needs

ROOT = Path(__file__).parents[2]
# One of every kind that does not take a minute.
JOBS = 14
PATIENCE_S = 540.0

if find_server() is None:
    pytest.skip(f"{HOW_TO_GET}; totals over many jobs are untested", allow_module_level=True)

pytestmark = [pytest.mark.real, pytest.mark.one_python, pytest.mark.timeout(600), needs("prometheus")]


def test_totals_of_jobs_that_come_and_go_equal_the_truth_a_kill_and_aborts_among_them() -> None:
    command = [sys.executable, "-m", "tests.jobs", "--jobs", str(JOBS), "--seed", "1"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = [" ".join(line.split()) for line in ended.stdout.splitlines()]
    assert {
        "processes ended: killed 1 1 equal",
        "processes ended: native_abort 2 2 equal",
        "processes ended: exception 1 1 equal",
        "incidents: registry_race sdk track-muted-untracked 2 2 equal",
        "sessions lost: killed 1 1 equal",
    } <= set(rows)
