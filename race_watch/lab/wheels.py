"""Python environments that hold one published LiveKit version each, created once and reused."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import LabError

CACHE_VARIABLE = "RACE_WATCH_LAB_CACHE"
INSTALL_TIMEOUT_S = 600
NAME_MAX = 60


def environment(requirements: Sequence[str], python: str = sys.executable, cache: Path | None = None) -> Path:
    """The interpreter of an environment with exactly these requirements installed, created if there is none yet.

    Safe to call from several processes at once: one creates, the others wait. What is left of an interrupted creation
    is removed and made again. The user's pip configuration applies.

    Raises:
        LabError: `python` does not run, or the requirements cannot be installed.
    """
    version = _version(python)
    folder = cache or default_cache()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / _name(version, requirements)
    if not _finished(target).exists():
        with _locked(folder / f"{target.name}.lock"):
            if not _finished(target).exists():
                _create(target, requirements, python, version)
    return target / "bin" / "python"


def default_cache() -> Path:
    """`RACE_WATCH_LAB_CACHE`, else `.cache/envs` of the checkout this file is in, else the user's cache directory."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    project = Path(__file__).resolve().parents[2]
    if (project / "pyproject.toml").exists():
        return project / ".cache" / "envs"
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user) / "race-watch" / "envs"


def _create(target: Path, requirements: Sequence[str], python: str, version: str) -> None:
    print(f"lab: creating environment {' '.join(requirements)} (python {version}) ...", file=sys.stderr, flush=True)
    shutil.rmtree(target, ignore_errors=True)
    own_pip = _run([sys.executable, "-m", "pip", "--version"]).returncode == 0
    made = _run([python, "-m", "venv", *(["--without-pip"] if own_pip else []), str(target)])
    if made.returncode != 0:
        raise LabError(f"cannot create an environment with {python}: {_last_line(made)}")
    interpreter = str(target / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", interpreter] if own_pip else [interpreter, "-m", "pip"]
    installed = _run([*pip, "install", "-q", "--disable-pip-version-check", *requirements])
    if installed.returncode != 0:
        shutil.rmtree(target, ignore_errors=True)
        raise LabError(f"cannot install {' '.join(requirements)} for python {version}: {_last_line(installed)}")
    # The environment exists from this file on. It cannot be built elsewhere and renamed: scripts in it name its path.
    _finished(target).touch()


def _finished(target: Path) -> Path:
    return target / "race-watch-lab-finished"


def _version(python: str) -> str:
    if python == sys.executable:
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    asked = _run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    if asked.returncode != 0:
        raise LabError(f"cannot run {python}: {_last_line(asked)}")
    return asked.stdout.strip()


def _name(version: str, requirements: Sequence[str]) -> str:
    """A folder name a person can read, made unique by a hash."""
    wanted = " ".join(sorted(requirements))
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", wanted).strip("-")[:NAME_MAX]
    return f"py{version}-{readable}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file; the kernel releases it if this process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    # The host's instrumentation must not follow into the tools which build the environment.
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, env=variables)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
