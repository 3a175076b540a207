"""The lab's livekit-agents worker on a real server, and the callers who make jobs for it."""

from __future__ import annotations

import os
import re
import secrets
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from processes import LineProcess, Record

import race_watch.lab
from race_watch.lab.server import LiveKitServer
from race_watch.lab.tokens import token

LAB = Path(race_watch.lab.__file__).parent
REGISTER_TIMEOUT_S = 90.0
JOB_TIMEOUT_S = 60.0
DRAIN_TIMEOUT_S = 60.0
CALLER = "caller"
# A loopback server needs no proxy, livekit-agents would use one; and the tests' own settings are not the worker's.
FOREIGN_VARIABLE = re.compile(r"(?i)^(RACE_WATCH_.*|LIVEKIT_.*|.*_proxy|PYTHONPATH)$")


@dataclass(frozen=True)
class Job:
    """A job that has ended, its process gone."""

    behaviour: str
    room: str
    pid: int
    seen_by_caller: tuple[Record, ...]
    _worker: LineProcess

    @property
    def records(self) -> list[Record]:
        """What the worker logged for this job, the lines forwarded from its process included."""
        return [record for record in self._worker.records if record.get("room") == self.room]

    def complaints(self) -> list[tuple[str, str]]:
        """(logger, first line without its numbers) of its errors, sorted; those of native threads vary, so not they."""
        errors = [record for record in self.records if record["level"] == "ERROR" and record["name"] != "livekit"]
        return sorted((record["name"], re.sub(r"\d+", "N", record["message"].splitlines()[0])) for record in errors)


class AgentsWorker:
    """Context manager: `SCRIPT start`, registered; `prefix` is the command that it runs under."""

    def __init__(
        self, server: LiveKitServer, python: Path, prefix: Sequence[str] = (), script: Path = LAB / "agents_worker.py"
    ) -> None:
        self._server = server
        self._python = python
        own = {name: value for name, value in os.environ.items() if not FOREIGN_VARIABLE.match(name)}
        self._caller_env = {**own, "PYTHONUNBUFFERED": "1"}
        keys = {"LIVEKIT_URL": server.url, "LIVEKIT_API_KEY": server.api_key, "LIVEKIT_API_SECRET": server.api_secret}
        command = [*prefix, str(python), str(script), "start"]
        self.process = LineProcess(command, {**self._caller_env, **keys})

    def __enter__(self) -> AgentsWorker:
        try:
            self.process.wait_for(
                lambda record: record["message"] == "registered worker", "registered worker", REGISTER_TIMEOUT_S
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self.process.alive:
            self.process.signal(signal.SIGTERM)
        self.process.__exit__()

    def do(self, *behaviours: str) -> dict[str, Job]:
        """One job for each, all at once; returns when they have ended and their processes are gone."""
        rooms = {behaviour: f"{behaviour}-{secrets.token_hex(4)}" for behaviour in behaviours}
        with ExitStack() as stack:
            callers = {behaviour: stack.enter_context(self._call(room)) for behaviour, room in rooms.items()}
            pids = {behaviour: self._wait_for_job_end(room) for behaviour, room in rooms.items()}
            for caller in callers.values():
                caller.end_stdin()
        return {
            behaviour: Job(behaviour, room, pids[behaviour], tuple(callers[behaviour].records), self.process)
            for behaviour, room in rooms.items()
        }

    def drain(self) -> int:
        """Send SIGTERM; the exit code."""
        self.process.signal(signal.SIGTERM)
        return self.process.exit_code(DRAIN_TIMEOUT_S)

    def _call(self, room: str) -> LineProcess:
        access = token(room, CALLER, self._server.api_key, self._server.api_secret)
        script = str(LAB / "participant.py")
        command = [str(self._python), script, "--url", self._server.url, "--token", access, "--audio"]
        return LineProcess(command, self._caller_env)

    def _wait_for_job_end(self, room: str) -> int:
        def ending(record: Record) -> bool:
            return record.get("room") == room and record["message"].startswith(
                ("process exiting", "process exited", "killing process")
            )

        pid: int = self.process.wait_for(ending, f"end of the job in {room}", JOB_TIMEOUT_S)["pid"]
        deadline_s = time.monotonic() + JOB_TIMEOUT_S
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline_s, f"job process {pid} is still there"
            time.sleep(0.05)
        return pid
