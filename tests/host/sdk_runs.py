"""Runs of `sdk_application.py`: one bare and one watched of each published version a session, for all its workers."""

from __future__ import annotations

import fcntl
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from interpreters import bare_environment, read_journals, run, watched_environment

from race_watch.events import Event
from race_watch.journal.layout import SUFFIX
from race_watch.lab.background import background_sfu
from race_watch.lab.wheels import environment

VERSIONS = ("1.1.8", "1.1.11", "1.1.21", "1.2.0")
APPLICATION = Path(__file__).with_name("sdk_application.py")

E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class SdkRun:
    """What the application said, and what we wrote meanwhile."""

    version: tuple[int, ...]
    looks: dict[str, Any]
    story: dict[str, Any]
    stderr: str
    events: list[Event]
    raw: bytes

    def seen(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


class SdkRuns:
    """The runs of a session, in a folder that its workers share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read = functools.cache(self._made)

    def bare(self, version: str) -> SdkRun:
        return self._read(version, False)

    def watched(self, version: str) -> SdkRun:
        return self._read(version, True)

    def _made(self, version: str, watched: bool) -> SdkRun:
        folder = self._folder / f"{version}-{'watched' if watched else 'bare'}"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "stderr").exists():
                _make(version, watched, folder)
        journals = read_journals(folder / "run")
        assert len(journals) == watched
        said = json.loads((folder / "stdout").read_text())
        numbers = tuple(int(part) for part in version.split("."))
        events = journals[0].events if watched else []
        raw = b"".join(path.read_bytes() for path in (folder / "run").glob(f"*{SUFFIX}"))
        return SdkRun(numbers, said["looks"], said["story"], (folder / "stderr").read_text(), events, raw)


def _make(version: str, watched: bool, folder: Path) -> None:
    run_dir = folder / "run"
    run_dir.mkdir(mode=0o700, exist_ok=True)
    variables = watched_environment(run_dir) if watched else bare_environment()
    python = environment([f"livekit=={version}"])
    with background_sfu() as url:
        ended = run([str(python), "-W", "error::RuntimeWarning", str(APPLICATION), "--url", url, "--room", "lab"], variables)
    assert ended.returncode == 0, ended.stderr[-3000:]
    (folder / "stdout").write_text(ended.stdout)
    (folder / "stderr").write_text(ended.stderr)


def versions() -> list[Any]:
    """The published versions as test parameters."""
    return [pytest.param(version, marks=(pytest.mark.wheels, pytest.mark.one_python)) for version in VERSIONS]
