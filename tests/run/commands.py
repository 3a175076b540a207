"""`race-watch` as a user runs it: a real process, an environment without ours in it, a place of its own for journals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATIENCE_S = 30.0
RACE_WATCH = (sys.executable, "-m", "race_watch")
ROOT = Path(__file__).parents[2]

# A worker without livekit that has one incident: a task that fails and nobody asks.
LOSES_A_TASK = """
import asyncio, gc, sys

async def look_up():
    raise LookupError("no profile")

async def main():
    task = asyncio.create_task(look_up())
    await asyncio.sleep(0)
    del task
    gc.collect()
    await asyncio.sleep(0)

asyncio.run(main())
print("worker done", flush=True)
"""


class Place:
    """Where a test's commands run. `runtime` is where private run directories are made."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.runtime = home / "runtime"
        self.runtime.mkdir(mode=0o700)

    def env(self, **variables: str) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("RACE_WATCH", "PYTHON", "OTEL_"))}
        return {**clean, "XDG_RUNTIME_DIR": str(self.runtime), "PYTHONPATH": str(ROOT), **variables}

    def call(self, *command: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=self.env(**variables),
            cwd=self.home,
            check=False,
        )

    def race_watch(self, *arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return self.call(*RACE_WATCH, *arguments, stdin=stdin, **variables)

    def run(self, *options: str, script: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """`race-watch run OPTIONS -- python -c SCRIPT`, on a free port unless the options name one."""
        port = () if any(o.startswith("--metrics-port") for o in options) else ("--metrics-port", "0")
        return self.race_watch("run", *port, *options, "--", sys.executable, "-c", script, stdin=stdin, **variables)

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.env(**variables),
            cwd=self.home,
            start_new_session=True,
        )


def last_of_each(lines: Sequence[str]) -> list[dict[str, Any]]:
    """The incidents of JSON lines; the last line of an id wins."""
    found = {incident["id"]: incident for incident in map(json.loads, lines)}
    return list(found.values())


def incidents_in(path: Path) -> list[dict[str, Any]]:
    return last_of_each(path.read_text().splitlines()) if path.exists() else []
