"""Real interpreters with and without race_watch in them, and what they left in the run directory."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from race_watch.events import Event
from race_watch.journal.layout import SUFFIX
from race_watch.journal.reader import JournalReader
from race_watch.launch import bootstrap_dir
from race_watch.records import Process

PATIENCE_S = 60.0
BOOTSTRAP = Path(bootstrap_dir())
PACKAGE = BOOTSTRAP.parent

# A host that makes a loop, which is when race_watch arms.
LOOP = "import asyncio; asyncio.new_event_loop().close()\n"


@dataclass(frozen=True)
class Journal:
    """One process as it told of itself. `torn` records are damaged ones; `lost` counts those and the overwritten ones."""

    process: Process
    events: list[Event]
    torn: int
    lost: int
    alive: bool

    @property
    def role(self) -> str:
        return self.process.role

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)


def read_journals(run_dir: Path) -> list[Journal]:
    """All journals of a run directory, oldest process first."""
    journals = []
    for path in run_dir.glob(f"*{SUFFIX}"):
        reader = JournalReader(str(path))
        alive = reader.alive()
        records = reader.read(final=True)
        torn = reader.lost_torn + reader.lost_malformed
        lost = torn + reader.lost_overwritten
        journals.append(Journal(reader.process, [record.event for record in records], torn, lost, alive))
        reader.close()
    return sorted(journals, key=lambda journal: journal.process.monotonic_ns)


def bare_environment(**more: str) -> dict[str, str]:
    """This environment without race_watch, and without anything that changes what Python prints or writes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RACE_WATCH", "PYTHON", "COVERAGE"))}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", **more}


def watched_environment(
    run_dir: Path, *, before: Sequence[Path | str] = (), after: Sequence[Path | str] = (), **more: str
) -> dict[str, str]:
    """The environment of a worker whose journals somebody else reads. `before` and `after` stand around us on PYTHONPATH."""
    path = os.pathsep.join(map(str, (*before, BOOTSTRAP, *after)))
    settings = {"PYTHONPATH": path, "RACE_WATCH_RUN_DIR": str(run_dir), "RACE_WATCH_WATCHER": "none"}
    return bare_environment(**{**settings, **more})


def python(
    source: str,
    environment: Mapping[str, str],
    *,
    flags: Sequence[str] = (),
    arguments: Sequence[str] = (),
    executable: str | Path = sys.executable,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs `python FLAGS -c SOURCE ARGUMENTS`."""
    command = [str(executable), *flags, "-c", source, *arguments]
    return run(command, environment, cwd=cwd)


def run(
    command: Sequence[str], environment: Mapping[str, str], *, cwd: Path | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def outcome(ended: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    """What the host's caller sees."""
    return ended.returncode, ended.stdout, ended.stderr


def checked(ended: subprocess.CompletedProcess[str]) -> str:
    """The output of a host that ended well and said nothing on stderr."""
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout


def other_python(version: str) -> str | None:
    """An interpreter of that version (2.7, 3.6), if there is one that runs; a shim for one that is not selected does not."""
    found = [
        shutil.which(f"python{version}"),
        *sorted(glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python"))),
    ]
    for candidate in filter(None, found):
        ended = run([candidate, "-c", "import sys; print(sys.version_info[:2])"], bare_environment())
        if ended.returncode == 0 and ended.stdout.strip() == str(tuple(int(part) for part in version.split("."))):
            return candidate
    return None


def fake_livekit(directory: Path) -> Path:
    """A directory whose `livekit.rtc` has what the hooks attach to, and nothing else."""
    package = directory / "livekit" / "rtc"
    package.mkdir(parents=True)
    for name, source in FAKE_LIVEKIT.items():
        (package / f"{name}.py").write_text(source)
    return directory


FAKE_LIVEKIT = {
    "__init__": """
from .version import __version__
from .room import Room
from .participant import LocalParticipant
from ._ffi_client import FfiClient, FfiHandle
""",
    "version": "__version__ = '1.2.0'\n",
    "room": """
class Room:
    def __init__(self):
        self._remote_participants = {}
        self._local_participant = None
        self._info = None
    async def connect(self, url: str, token: str, options: object = None) -> None:
        '''Connects.'''
    async def disconnect(self) -> None:
        pass
    @property
    def local_participant(self) -> object:
        '''The local participant.'''
        if self._local_participant is None:
            raise Exception('cannot access local participant before connecting')
        return self._local_participant
    def _on_room_event(self, event):
        return None
""",
    "participant": """
class LocalParticipant:
    async def publish_track(self, track: object, options: object = None) -> str:
        return 'publication'
    async def unpublish_track(self, track_sid: str) -> None:
        pass
""",
    "_ffi_client": """
class FfiHandle:
    def __init__(self, handle: int) -> None:
        self.handle = handle
        self._disposed = False
    def dispose(self) -> None:
        self._disposed = True
    def mark_consumed(self) -> None:
        self._disposed = True
class FfiClient:
    def request(self, req: object) -> object:
        return req
""",
}
