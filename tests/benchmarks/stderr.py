"""What the relay between the worker's stderr and ours takes, in its own process; nothing to compare with."""

from __future__ import annotations

import subprocess
from functools import partial

from tests.benchmarks.in_turns import PROGRAMS
from tests.benchmarks.row import BenchmarkError, Compare, Effort, Round, Row


def _measure(what: str, effort: Effort) -> list[Round]:
    command = [effort.python, str(PROGRAMS / "stderr.py"), what]
    rounds = []
    for _ in range(effort.rounds):
        done = subprocess.run(command, input="\n" * effort.turns, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(f"{' '.join(command)}: {(done.stderr.strip().splitlines() or ['nothing on stderr'])[-1]}")
        rounds.append(Round(None, min(map(float, done.stdout.split()))))
    return rounds


ROWS = (
    Row("stderr.line", "line on stderr that wakes the relay", "us", Compare.ALONE, None, partial(_measure, "line")),
    Row(
        "stderr.megabyte", "MB of lines on stderr, through the relay", "ms", Compare.ALONE, None, partial(_measure, "megabyte")
    ),
)
