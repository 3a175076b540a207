"""Run one scenario script with one published LiveKit version, bare or under a command such as `race-watch run`."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from .background import background_sfu
from .errors import LabError
from .wheels import environment

SCENARIOS = Path(__file__).with_name("scenarios")
DEFAULT_LIVEKIT = "1.1.8"


@dataclass(frozen=True)
class Completed:
    """How a scenario ended; a negative `returncode` is the signal that ended it."""

    returncode: int
    stdout: str
    stderr: str


def scenarios() -> dict[str, str]:
    """Name -> first line of its docstring, for every scenario script."""
    return {path.stem: _title(path) for path in sorted(SCENARIOS.glob("[!_]*.py"))}


def run_scenario(
    name: str,
    args: Sequence[str] = (),
    livekit: str = DEFAULT_LIVEKIT,
    agents: str | None = None,
    python: str = sys.executable,
    sfu_url: str | None = None,
    under: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> Completed:
    """Run `scenarios/<name>.py --url URL ARGS`, in an environment with that livekit, or that livekit-agents.

    Args:
        agents: a livekit-agents version; it pins its livekit itself, so `livekit` is ignored then.
        sfu_url: a server that is already running; without it a scripted one is started for this run.
        under: a command prefix, say `["race-watch", "run", "--"]`.
        env: variables on top of this process's own.
        timeout: seconds, the creation of the environment not counted.

    Raises:
        LabError: there is no such scenario, no such environment, or it did not end in time.
    """
    if name not in scenarios():
        raise LabError(f"no scenario {name}; one of {', '.join(scenarios())}")
    interpreter = environment([f"livekit-agents=={agents}" if agents else f"livekit=={livekit}"], python)
    with nullcontext(sfu_url) if sfu_url else background_sfu() as url:
        command = [*under, str(interpreter), str(SCENARIOS / f"{name}.py"), "--url", str(url), *args]
        return _run(name, command, {**os.environ, **(env or {})}, timeout)


def _run(name: str, command: Sequence[str], env: Mapping[str, str], timeout: float) -> Completed:
    try:
        # A session of its own: what runs under a prefix command ends with it when the time is up.
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True
        )
    except OSError as error:
        raise LabError(f"cannot run {command[0]}: {error.strerror}") from None
    with process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            _, stderr = process.communicate()
            last = stderr.strip().splitlines()[-1:] or ["nothing on stderr"]
            raise LabError(f"{name} did not end in {timeout:g} s; last: {last[0]}") from None
    return Completed(process.returncode, stdout, stderr)


def _title(script: Path) -> str:
    doc = ast.get_docstring(ast.parse(script.read_text())) or ""
    return doc.split("\n", 1)[0]
