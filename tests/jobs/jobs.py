"""The jobs of a run: dispatched a few at a time, followed by what they write down, killed where they are to be."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from race_watch.lab.server import LiveKitServer
from tests.jobs.dispatch import dispatch
from tests.jobs.kinds import Kind
from tests.jobs.watched import Said, Watched
from tests.soak.processes import Target

AGENT_NAME = "jobs"
# 7,200 an hour at most: a start costs half a second of CPU, and two cores have other things to do.
_APART_S = 0.5
_AT_ONCE = 4
_LOOK_S = 0.05
# A server and a worker on a busy machine may miss each other. So many are dispatched again, as another job.
_BEGINS_WITHIN_S = 30.0
_AGAIN_MOST = 20
# The kind that waits for it.
_KILLED = "killed"


class Process:
    """A process of the worker. `target` is None where it was gone before anybody could look."""

    def __init__(self, said: Said) -> None:
        self.pid, self.ppid = said.pid, said.ppid
        try:
            self._target: Target | None = Target(said.pid)
        except ProcessLookupError:
            self._target = None

    def is_dead(self) -> bool:
        return self._target is None or self._target.is_dead()

    def kill(self) -> None:
        if self._target is not None:
            self._target.kill()


@dataclass
class Job:
    """One job, and what came back of it.

    Attributes:
        said: What it has written down, in order.
        process: The one that it runs in, once it has said something.
    """

    number: int
    kind: Kind
    dispatched_s: float
    said: list[str] = field(default_factory=list)
    process: Process | None = None

    @property
    def room(self) -> str:
        return f"{self.kind.name}-{self.number}"


class Jobs:
    """Runs them.

    Attributes:
        all: In the order of their dispatch.
        processes: Those that the worker has made for jobs, in the order of their birth.
    """

    def __init__(self, server: LiveKitServer, watched: Watched) -> None:
        self.all: list[Job] = []
        self.processes: list[Process] = []
        self._server, self._watched = server, watched
        self._running: dict[int, Job] = {}
        self._started_s = float("-inf")

    def run(self, planned: list[Kind], progress: Callable[[int, int], None]) -> None:
        """Dispatches them, again those that do not begin, and returns when all have ended.

        Args:
            progress: Gets how many have, and how many run.
        """
        left, again = deque(planned), _AGAIN_MOST
        while left or self._running:
            self._start(left)
            # Asked before reading: what they have written is then there in full.
            over = [job for job in self._running.values() if _is_over(job)]
            self.learn()
            for job in over:
                del self._running[job.number]
                if not job.said and again:
                    again -= 1
                    left.append(job.kind)
            progress(sum(bool(job.said) and job.number not in self._running for job in self.all), len(self._running))
            time.sleep(_LOOK_S)

    def learn(self) -> None:
        """Takes what has been written down, and kills who waits for it."""
        for said in self._watched.read():
            if not said.job:
                self.processes.append(Process(said))
                continue
            job = self.all[said.job - 1]
            job.said.append(said.said)
            job.process = next(process for process in reversed(self.processes) if process.pid == said.pid)
            if (job.kind.name, said.said) == (_KILLED, "does"):
                job.process.kill()

    def _start(self, left: deque[Kind]) -> None:
        if left and len(self._running) < _AT_ONCE and time.monotonic() - self._started_s >= _APART_S:
            self._started_s = time.monotonic()
            job = Job(len(self.all) + 1, left.popleft(), self._started_s)
            self.all.append(job)
            self._running[job.number] = job
            # What the server does not take does not begin.
            with suppress(OSError):
                dispatch(self._server, AGENT_NAME, job.room, f"{job.number} {job.kind.name}")


def _is_over(job: Job) -> bool:
    return job.process.is_dead() if job.process is not None else time.monotonic() - job.dispatched_s > _BEGINS_WITHIN_S
