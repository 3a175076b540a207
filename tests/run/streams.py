"""Supervised workers with a stderr of the test's choosing, in bytes, and the relays that serve them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from commands import PATIENCE_S, RACE_WATCH, Place

from race_watch.events import StderrTold
from race_watch.journal.reader import JournalReader
from race_watch.stderr import pipe

RUN = (*RACE_WATCH, "run", "--metrics-port", "0")


class Worker:
    """`race-watch run OPTIONS -- COMMAND`, its three streams pipes unless said otherwise."""

    def __init__(self, place: Place, command: Sequence[str], variables: Mapping[str, str], **streams: Any) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            command, env=place.env(**variables), cwd=place.home, start_new_session=True, **{**pipes, **streams}
        )

    @property
    def pid(self) -> int:
        """The worker's own."""
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])

    def relays(self) -> list[int]:
        """The relay's processes, the keeper first."""
        return relays_of(self.process.pid)

    def say(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def hear(self) -> bytes:
        """The next line of its stdout."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def working(
    place: Place,
    *command: str,
    options: Sequence[str] = ("--quiet",),
    variables: Mapping[str, str] | None = None,
    **streams: Any,
) -> Iterator[Worker]:
    worker = Worker(place, [*RUN, *options, "--", *command], variables or {}, **streams)
    try:
        yield worker
    finally:
        worker.process.kill()
        for stream in (worker.process.stdin, worker.process.stdout, worker.process.stderr):
            if stream is not None:
                stream.close()
        worker.process.wait(PATIENCE_S)


class Reader:
    """Reads a stream to its end in a thread, `at_once` bytes at a time."""

    def __init__(self, stream: IO[bytes] | None, at_once: int = 65536) -> None:
        assert stream is not None
        self.read = bytearray()
        # Its own: the number of the stream's may be another file's by the time a failed test has closed it.
        self._descriptor = os.dup(stream.fileno())
        self._at_once = at_once
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while piece := os.read(self._descriptor, self._at_once):
            self.read += piece
        os.close(self._descriptor)

    def all(self) -> bytes:
        """What there was, once everybody has closed the other end."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the stream does not end"
        return bytes(self.read)


def relays_of(supervisor: int) -> list[int]:
    """The processes of its relay, the keeper first: the other is its child."""
    title = f"stderr-relay of {supervisor}".encode()
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has ended
                if (entry / "cmdline").read_bytes().rstrip(b"\0") == title:
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return sorted(parents, key=lambda pid: parents[pid] in parents)


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def told_in(run_dir: Path) -> dict[str, list[StderrTold]]:
    """The facts in the kept journals, by the role of who stated them."""
    facts: dict[str, list[StderrTold]] = {}
    for path in sorted(run_dir.glob("*.rwj")):
        reader = JournalReader(str(path))
        for record in reader.read(final=True):
            if isinstance(record.event, StderrTold):
                facts.setdefault(record.process.role, []).append(record.event)
        reader.close()
    return facts


def unread(stream: IO[bytes] | None) -> int:
    assert stream is not None
    return pipe.unread(stream.fileno())


def python(source: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", source, *arguments]
