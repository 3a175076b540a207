"""The short form of `make soak`, in a process of its own: it adopts the orphans of what it kills."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 150.0

# Its first rounds have the SDK, a relay that is killed, and a worker that outlives its supervisor.
SEED = 2


@pytest.mark.wheels
@pytest.mark.one_python
def test_kills_at_random_points_lose_nothing_that_was_committed_and_leave_nothing() -> None:
    command = [sys.executable, "-m", "tests.soak", "--kills", "25", "--seed", str(SEED)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "soak: 0 problems" in ended.stdout.splitlines()
