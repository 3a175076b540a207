"""A worker that commits records at full speed, in its main process and in forked children, until they are killed.

Committed means that `emit` has returned. How many are is kept in a ledger, a mapped file that survives the kill as the journal
does; it appears when its process is at work in a room. A child that is gone is replaced, and others are born only to be killed
by the main process in the first 2 ms, while they make their journals. All of them end with their stdin.
Under `race-watch run`: `python worker.py LEDGERS CHILDREN [sdk]`.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import random
import select
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any

from numbered import CONNECTED_EVERY, text

_ROOM = 1_000_000
_BATCH = 100
_BIRTHS_EVERY_S = 0.05
_KILLED_WITHIN_S = 0.002
# Nobody listens there: the SDK tries, with its native threads, and fails.
_URL = "ws://127.0.0.1:9"
_TRIES_S = 0.2


class Writer:
    """The records of this process, numbered from 1."""

    def __init__(self, ledgers: Path, *, main: bool) -> None:
        from race_watch import agent
        from race_watch.events import LoopClosed, RoomConnected

        armed = agent.current()
        assert armed is not None
        recorder = armed.context.recorder
        # A text that no detector judges.
        self._record = lambda found: recorder.state(LoopClosed, found)
        self._connected = lambda: recorder.state(RoomConnected, _ROOM, f"soak {os.getpid()}", "", "", 0, "")
        self._next = 1
        self._connected()
        self._ledger = _ledger(ledgers, {"pid": os.getpid(), "journal": armed.path, "main": main})

    def commit(self, count: int) -> None:
        for number in range(self._next, self._next + count):
            if number % CONNECTED_EVERY == 0:
                self._connected()
            self._record(text(number))
            self._ledger[0] = number
        self._next += count

    def killed(self) -> None:
        """One more newborn was."""
        self._ledger[1] += 1


def _ledger(ledgers: Path, about: dict[str, object]) -> memoryview:
    """8 bytes with the number of the last committed record, 8 with how many newborns were killed, then who commits."""
    path = ledgers / f"{about['pid']}.ledger"
    making = path.with_suffix(".making")
    making.write_bytes(struct.pack("<QQ", 0, 0) + json.dumps(about).encode())
    with making.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    making.rename(path)
    return memoryview(mapped)[:16].cast("Q")


class Worker:
    """The main process."""

    def __init__(self, ledgers: Path, children: int) -> None:
        self._ledgers = ledgers
        self._children = {self._fork() for _ in range(children)}
        self._writer = Writer(ledgers, main=True)
        self._born_s = 0.0

    async def work(self, *others: Any) -> None:
        tasks = [asyncio.ensure_future(other) for other in others]
        while not _hung_up():
            self._writer.commit(_BATCH)
            self._replace()
            self._kill_newborn()
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()

    def _fork(self) -> int:
        pid = os.fork()
        if pid == 0:
            writer = Writer(self._ledgers, main=False)
            while not _hung_up():
                writer.commit(_BATCH)
            os._exit(0)
        return pid

    def _replace(self) -> None:
        for pid in list(self._children):
            if os.waitpid(pid, os.WNOHANG)[0]:
                self._children.discard(pid)
                self._children.add(self._fork())

    def _kill_newborn(self) -> None:
        if time.monotonic() - self._born_s < _BIRTHS_EVERY_S:
            return
        self._born_s = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        time.sleep(random.random() * _KILLED_WITHIN_S)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self._writer.killed()


async def _use_sdk() -> None:
    """Calls into the real SDK and its native library, all the time."""
    from livekit import rtc

    while True:
        room = rtc.Room()
        try:
            await asyncio.wait_for(room.connect(_URL, "token"), _TRIES_S)
        except (asyncio.TimeoutError, rtc.ConnectError):
            await asyncio.sleep(0)


def _hung_up() -> bool:
    poll = select.poll()
    poll.register(0, 0)
    return bool(poll.poll(0))


def main(ledgers: str, children: str, *sdk: str) -> None:
    loop = asyncio.new_event_loop()
    worker = Worker(Path(ledgers), int(children))
    loop.run_until_complete(worker.work(*(_use_sdk() for _ in sdk)))


if __name__ == "__main__":
    main(*sys.argv[1:])
