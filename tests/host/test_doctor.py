"""`race-watch doctor` says whether an interpreter would be watched, and what is in the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from interpreters import BOOTSTRAP, bare_environment, other_python, run

OTEL = "# an agent that does not chain\n"
DDTRACE = """
import os, sys
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(os.path.abspath(__file__))]
own = sys.modules.pop("sitecustomize")
import sitecustomize
"""


def doctor(*command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "race_watch", "doctor", *command], bare_environment(**more))


def test_python_that_would_be_watched_is_attached() -> None:
    told = doctor()
    assert (told.returncode, told.stderr) == (0, "")
    attached, stderr = told.stdout.splitlines()
    assert attached == f"attached: Python {sys.version.split()[0]} loads race_watch from {BOOTSTRAP}"
    assert stderr == "stderr, as it is here: panic texts on it are seen"


@pytest.mark.parametrize(
    ("redirection", "variables", "told"),
    [
        ("2>file", {}, "panic texts on it are seen"),
        ("2>/dev/null", {}, "left alone: a device"),
        ("2>&1", {}, "left alone: the same pipe as stdout"),
        ("2>&-", {}, "left alone: it is closed"),
        ("2>file", {"RACE_WATCH_STDERR": "off"}, "left alone: switched off"),
    ],
)
def test_how_a_worker_with_this_stderr_is_seen_is_told(
    tmp_path: Path, redirection: str, variables: dict[str, str], told: str
) -> None:
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "race_watch", "doctor"]
    ended = run(command, bare_environment(**variables), cwd=tmp_path)
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[-1] == f"stderr, as it is here: {told}"


def test_sitecustomize_after_ours_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("")
    assert doctor("--", sys.executable, PYTHONPATH=str(tmp_path)).stdout.startswith("attached: ")


@pytest.fixture
def instrumented(tmp_path: Path) -> str:
    """A launcher that puts its agent first, as `opentelemetry-instrument python` does."""
    (tmp_path / "agent").mkdir()
    launcher = tmp_path / "instrument"
    launcher.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}/agent:$PYTHONPATH" exec {sys.executable} "$@"\n')
    launcher.chmod(0o755)
    return str(launcher)


def test_agent_that_does_not_chain_is_named_as_the_shadow(instrumented: str) -> None:
    shadow = Path(instrumented).parent / "agent" / "sitecustomize.py"
    shadow.write_text(OTEL)
    told = doctor("--", instrumented)
    assert told.returncode == 1
    assert f"not attached: shadowed by {shadow}" in told.stderr


def test_agent_that_chains_is_no_obstacle(instrumented: str) -> None:
    (Path(instrumented).parent / "agent" / "sitecustomize.py").write_text(DDTRACE)
    told = doctor("--", instrumented)
    assert (told.returncode, told.stderr) == (0, "")


@pytest.mark.parametrize("flags", [["-I"], ["-E"], ["-S"], ["-sE"], ["-B", "-I"]])
def test_flags_that_keep_us_out_are_named(flags: list[str]) -> None:
    told = doctor("--", sys.executable, *flags)
    assert told.returncode == 1
    assert f"not attached: {flags[-1]} makes Python ignore PYTHONPATH or sitecustomize" in told.stderr


@pytest.mark.parametrize("flags", [["-s"], ["-B"], ["-W", "error"], ["-Werror"], ["-X", "dev"], ["-u", "-O"]])
def test_other_flags_are_no_obstacle(flags: list[str]) -> None:
    assert doctor("--", sys.executable, *flags).returncode == 0


def test_switched_off_is_said() -> None:
    told = doctor(RACE_WATCH="0")
    assert told.returncode == 1
    assert told.stderr.endswith("not attached: RACE_WATCH is off in this environment\n")


@pytest.mark.one_python
@pytest.mark.parametrize("version", ["2.7", "3.9"])
def test_python_that_is_too_old_is_said(version: str) -> None:
    executable = other_python(version)
    if executable is None:
        pytest.skip(f"no Python {version} here")
    told = doctor("--", executable)
    assert told.returncode == 1
    assert f"not attached: Python {version}" in told.stderr
    assert "is older than 3.10" in told.stderr


@pytest.mark.parametrize("command", ["/no/such/python", "false", os.path.dirname(sys.executable)])
def test_command_that_is_no_python_is_explained_in_one_line(command: str) -> None:
    told = doctor("--", command)
    assert (told.returncode, told.stdout) == (1, "")
    assert len(told.stderr.splitlines()) == 1
