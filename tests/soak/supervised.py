"""One `race-watch run` on the run directory of the soak, and the processes that come of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.soak.processes import SoakError, Target, all_pids, children, command_of, end_children, until

ROOT = Path(__file__).parents[2]
_NOT_INHERITED = ("RACE_WATCH", "PYTHON", "OTEL_", "XDG_RUNTIME_DIR", "TMPDIR")
_RELAY = "stderr-relay"


class Place:
    """The directories of one soak. `run_dir` is the same for all its supervisors, one after the other."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.run_dir = home / "run"
        self.ledgers = home / "ledgers"
        self.incidents = home / "incidents.jsonl"
        # Where a supervisor that cannot have the run directory would make another.
        self.runtime = home / "runtime"
        self.ledgers.mkdir()
        self.runtime.mkdir(mode=0o700)

    def environment(self, journal_bytes: int) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        return {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "XDG_RUNTIME_DIR": str(self.runtime),
            "RACE_WATCH_JOURNAL_BYTES": str(journal_bytes),
        }


class Supervised:
    """A running `race-watch run -- COMMAND`. The command has its stdin, and nothing comes from there.

    Args:
        relayed: Its stderr is a pipe, so that there is a relay; else a file.
    """

    def __init__(self, place: Place, command: Sequence[str], journal_bytes: int, *, relayed: bool) -> None:
        self.relayed = relayed
        self._log = place.home / "stderr"
        options = ["--run-dir", str(place.run_dir), "--quiet", "--metrics-port", "0", "--incidents", str(place.incidents)]
        with self._log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "race_watch", "run", *options, "--", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE if relayed else file,
                env=place.environment(journal_bytes),
                cwd=place.home,
                start_new_session=True,
            )
        self.target = Target(self.process.pid)

    def relays(self) -> list[int]:
        """The processes between the worker's stderr and ours: a keeper and the one that copies."""
        begin = f"{_RELAY} of {self.process.pid}"
        return [pid for pid in all_pids() if command_of(pid).rstrip() == begin]

    def wait(self) -> int:
        """Returns how it ended: its exit code, or its signal as a negative number."""
        until(lambda: self.process.poll() is not None, "end of the supervisor")
        return self.process.returncode

    def said(self) -> list[str]:
        """Its own lines on stderr, when everybody who had it is dead."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.target.close()
        told = self._log.read_bytes()
        if self.process.stderr is not None:
            with self.process.stderr as pipe:
                told = pipe.read()
        return [line for line in told.decode(errors="replace").splitlines() if line.startswith("race-watch:")]


def end_strays(*but: Supervised) -> None:
    """Kills what killed processes have left, their relays excepted."""
    end_children({supervised.process.pid for supervised in but if supervised.process.poll() is None}, _RELAY)


def wait_for_relays() -> None:
    """Nobody writes to them any more: they have to end by themselves.

    Raises:
        SoakError: One has not.
    """
    try:
        until(lambda: not children(), "end of the relays")
    except SoakError as error:
        raise SoakError(f"{error}: {', '.join(f'{pid} {command_of(pid).strip()}' for pid in children())}") from None
