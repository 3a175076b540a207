"""The environment that makes a command and all its Python children load the bootstrap."""

from __future__ import annotations

import os
from collections.abc import Mapping

OFF = ("0", "false", "no", "off")


def bootstrap_dir() -> str:
    """The directory to put first on PYTHONPATH. It holds the sitecustomize and nothing else."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "bootstrap")


def switched_off(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether `RACE_WATCH=0` is set."""
    return environ.get("RACE_WATCH", "").strip().lower() in OFF


def python_path(before: str) -> str:
    """PYTHONPATH with the bootstrap first, once, whatever spelling of it stands there already.

    Empty entries stay: they mean the current directory.
    """
    ours = bootstrap_dir()
    same = _resolved(ours)
    rest = before.split(os.pathsep) if before else []
    return os.pathsep.join([ours, *(entry for entry in rest if not entry or _resolved(entry) != same)])


def _resolved(path: str) -> str:
    try:
        return os.path.normcase(os.path.realpath(path))
    except (OSError, ValueError):  # relative, and the working directory is gone
        return path


def environment(before: Mapping[str, str], run_dir: str) -> dict[str, str]:
    """What a supervised command gets: the way in, the directory, and that somebody else watches."""
    return {
        **before,
        "PYTHONPATH": python_path(before.get("PYTHONPATH", "")),
        "RACE_WATCH_RUN_DIR": run_dir,
        "RACE_WATCH_WATCHER": "none",
    }
