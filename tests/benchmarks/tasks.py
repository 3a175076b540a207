"""A task: created, run, awaited. One that is the host's own affair, and one of the SDK, whose creation site is kept."""

from __future__ import annotations

import subprocess
from functools import partial

from tests.benchmarks.in_turns import in_turns
from tests.benchmarks.row import Compare, Effort, Round, Row, Skipped


def _measure(whose: str, loop: str, effort: Effort) -> list[Round]:
    if loop == "uvloop" and subprocess.run([effort.python, "-c", "import uvloop"], capture_output=True).returncode:
        raise Skipped("uvloop is not installed")
    return in_turns(effort, "tasks", whose, loop, witness="tasks_watched" if whose == "sdk" else "")


ROWS = (
    Row("task.other", "task of the host", "us", Compare.RATIO, 1.10, partial(_measure, "other", "asyncio")),
    Row("task.sdk", "task of the SDK", "us", Compare.RATIO, 1.35, partial(_measure, "sdk", "asyncio")),
    Row("task.other.uvloop", "task of the host, uvloop", "us", Compare.RATIO, 1.10, partial(_measure, "other", "uvloop")),
    Row("task.sdk.uvloop", "task of the SDK, uvloop", "us", Compare.RATIO, 1.35, partial(_measure, "sdk", "uvloop")),
)
