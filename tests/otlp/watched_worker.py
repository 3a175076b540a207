"""`race-watch run` with a worker, in an environment that has nothing of ours or of OpenTelemetry's in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 60.0
ROOT = Path(__file__).parents[2]
RACE_WATCH = (sys.executable, "-m", "race_watch")

# A worker without livekit that has one incident, and then stays until its stdin ends.
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
sys.stdin.read()
"""


def environment(home: Path, **variables: str) -> dict[str, str]:
    runtime = home / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RACE_WATCH", "PYTHON", "OTEL_"))}
    return {**clean, "XDG_RUNTIME_DIR": str(runtime), "PYTHONPATH": str(ROOT), **variables}


def run(
    home: Path, *options: str, command: Sequence[str] = (sys.executable, "-c", LOSES_A_TASK), **variables: str
) -> subprocess.CompletedProcess[str]:
    """A whole run, with an empty stdin."""
    return subprocess.run(
        [*RACE_WATCH, "run", "--metrics-port", "0", *options, "--", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(home, **variables),
        cwd=home,
        check=False,
    )


class Live:
    """A run that is under way. `metrics` is the address of its /metrics."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.metrics = self.line(r"metrics at http://([^/]+)/metrics")

    def line(self, pattern: str) -> str:
        """Waits for a line on stderr; gives the pattern's group."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: next((match for line in self.lines if (match := re.search(pattern, line))), None), PATIENCE_S
            )
        assert found, f"no {pattern!r} in {self.lines}"
        return str(found.group(1) if found.groups() else found.group())

    def end(self) -> list[str]:
        """Lets the worker end; gives all lines."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(PATIENCE_S) == 0, self.lines
        self._reader.join()
        return self.lines

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()


@contextmanager
def live(home: Path, *options: str, **variables: str) -> Iterator[Live]:
    command = [*RACE_WATCH, "run", "--metrics-port", "0", *options, "--", sys.executable, "-c", LOSES_A_TASK]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(home, **variables),
        cwd=home,
    ) as process:
        try:
            yield Live(process)
        finally:
            process.terminate()
