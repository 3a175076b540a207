"""Start-up of an interpreter: whole processes, bare and watched in turns."""

from __future__ import annotations

import os
import subprocess
from functools import partial

from tests.benchmarks.in_turns import best, check, run_directory, variables
from tests.benchmarks.row import BenchmarkError, Compare, Effort, Round, Row

_PASS = "pass"
_LOOP = "import asyncio; asyncio.new_event_loop().close()"
_MODULES = "import sys; print(*sorted(sys.modules))"


def _cpu(code: str, arms: bool, effort: Effort) -> list[Round]:
    rounds = []
    for seed in range(1, effort.rounds + 1):
        with run_directory() as run_dir:
            bare = partial(_cpu_ms, effort.python, code, variables(None, seed))
            watched = partial(_cpu_ms, effort.python, code, variables(run_dir, seed))
            bare(), watched()  # their compiled modules are on disk and in the page cache from here on
            if arms:
                check(run_dir, "")
            rounds.append(best(bare, watched, effort.turns))
    return rounds


def _cpu_ms(python: str, code: str, environment: dict[str, str]) -> float:
    process = subprocess.Popen([python, "-c", code], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchmarkError(f"python -c {code!r} ended with {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1e3


def _count_modules(effort: Effort) -> list[Round]:
    with run_directory() as run_dir:
        bare, watched = (_modules(effort.python, variables(where, 1)) for where in (None, run_dir))
    if "race_watch.post_import" not in watched:
        raise BenchmarkError("the bootstrap did not run")
    return [Round(len(bare), len(watched))]


def _modules(python: str, environment: dict[str, str]) -> list[str]:
    done = subprocess.run([python, "-c", _MODULES], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"python -c {_MODULES!r} ended with {done.returncode}")
    return done.stdout.split()


ROWS = (
    Row("startup.idle", "start without asyncio and livekit", "ms", Compare.DIFFERENCE, 3.0, partial(_cpu, _PASS, False)),
    Row("startup.modules", "modules then loaded", "", Compare.DIFFERENCE, 5, _count_modules),
    Row(
        "startup.loop",
        "start with asyncio and a loop (arms)",
        "ms",
        Compare.DIFFERENCE,
        None,
        partial(_cpu, _LOOP, True),
    ),
)
