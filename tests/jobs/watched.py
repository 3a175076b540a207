"""The worker under `race-watch run`: how it is started, what its processes write down, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from race_watch.lab.server import LiveKitServer
from tests.jobs.kinds import GIVEN_UP
from tests.real.processes import LineProcess
from tests.soak.processes import end_children

ROOT = Path(__file__).parents[2]
_STARTS_WITHIN_S = 120.0
_ENDS_WITHIN_S = 120.0
# A server on loopback needs no proxy, livekit-agents would use one; and our own settings are not the worker's.
_NOT_INHERITED = re.compile(r"(?i)^(RACE_WATCH.*|OTEL_.*|LIVEKIT_.*|.*_proxy|PYTHONPATH)$")
_KILLING = "killing process"
_PROCESS_ENDED = re.compile(r"process exited with non-zero exit code (-?\d+)")


@dataclass(frozen=True)
class Said:
    """A line of the ledger. `job` is 0 where it is about the process."""

    pid: int
    ppid: int
    said: str
    job: int


class Watched:
    """Context manager: `race-watch run` with the worker, which is registered at the server.

    Attributes:
        runtime: Where the run directory is made.
        incidents: The incident file.
        process: The supervisor.
    """

    def __init__(self, home: Path, server: LiveKitServer, python: Path) -> None:
        self.runtime, self.incidents = home / "runtime", home / "incidents.jsonl"
        self._server, self._ledger, self._read = server, home / "ledger", 0
        self.runtime.mkdir(mode=0o700)
        self._ledger.touch()
        own = {name: value for name, value in os.environ.items() if not _NOT_INHERITED.match(name)}
        options = ["--metrics-port", "0", "--incidents", str(self.incidents)]
        worker = [str(python), str(Path(__file__).with_name("worker.py")), "start"]
        self.process = LineProcess(
            [sys.executable, "-m", "race_watch", "run", *options, "--", *worker],
            {
                **own,
                "PYTHONPATH": str(ROOT),
                "PYTHONUNBUFFERED": "1",
                "XDG_RUNTIME_DIR": str(self.runtime),
                "JOBS_LEDGER": str(self._ledger),
                "LIVEKIT_URL": server.url,
                "LIVEKIT_API_KEY": server.api_key,
                "LIVEKIT_API_SECRET": server.api_secret,
            },
        )

    def __enter__(self) -> Watched:
        try:
            self.process.wait_for(lambda record: record["message"] == "registered worker", "worker", _STARTS_WITHIN_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self.process.alive:
            end_children({self._server.pid})
        self.process.__exit__()

    def port(self) -> int:
        """Of /metrics."""
        found = self.process.wait_for_stderr(_port, "address of /metrics", _STARTS_WITHIN_S)
        return int(found)

    def read(self) -> list[Said]:
        """What has been written down since this was last asked."""
        with self._ledger.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        self._read += len(text)
        return [Said(**json.loads(line)) for line in text.splitlines()]

    def statuses(self) -> dict[str, int]:
        """Room -> exit status of its job's process, as the worker logs it: not 0, nor always that of one it kills."""
        found: dict[str, int] = {}
        for record in list(self.process.records):
            room, ended = record.get("room"), _PROCESS_ENDED.match(record["message"])
            if room and ended:
                found[room] = int(ended[1])
            elif room and record["message"] == _KILLING:
                found.setdefault(room, GIVEN_UP)
        return found

    def drain(self) -> int | None:
        """Asks it to end; its exit status, None where it takes too long."""
        self.process.signal(signal.SIGTERM)
        try:
            return self.process.exit_code(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            return None


def _port(line: str) -> str | None:
    found = re.search(r"http://127\.0\.0\.1:(\d+)/metrics", line)
    return found and found[1]
