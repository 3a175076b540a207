"""Processes of the worker that nothing watches from inside, measured from outside: a Node worker with `@livekit/rtc-node`, say.

Nobody counts participants there, so what grows in them can be told against time only.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import psutil

from race_watch.events import LIST_SEP, ProcessMeasured, clean

INTERVAL_S = 15.0
# The others are not measured: a tree of more is no worker of a few processes.
_PROCESSES = 16
# Of a table of more descriptors only the number is told: looking at one costs some 10 us.
_LOOKED_AT = 2048
_NAME_KEPT = 64

_FAMILIES = {int(socket.AF_INET): "", int(socket.AF_INET6): "", int(socket.AF_UNIX): "unix"}
_TYPES = {int(socket.SOCK_STREAM): "tcp", int(socket.SOCK_DGRAM): "udp"}
_STARTS = (("/", "file"), ("pipe:", "pipe"), ("anon_inode:[eventpoll]", "epoll"), ("anon_inode:[eventfd]", "eventfd"))


@dataclass(slots=True)
class _Known:
    """A process from one look to the next. `looked_at` is how many descriptors it had when their kinds were looked at."""

    process: psutil.Process
    born_s: int
    stated: bool = False
    looked_at: int = -1


class Outside:
    """States a `ProcessMeasured` for each such process, every INTERVAL_S. For the watcher's thread.

    A process is measured from the second look on that finds it: what lives shorter, or is about to attach, is nobody's worker.

    Args:
        command: The command's pid: it and what is below it is the worker. What stands at its stderr is no part of that.
        state: Writes an event into a journal of the watcher's.
    """

    def __init__(self, command: int, state: Callable[..., None]) -> None:
        self._command = command
        self._state = state
        self._known: dict[int, _Known] = {}
        self._next_s = float("-inf")

    def look(self, attached: Iterable[int], now_s: float) -> None:
        """`attached` are the pids of the processes that have a journal of their own."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + INTERVAL_S
        try:
            watched, tree = set(attached), _tree(self._command)
        except (psutil.Error, OSError):
            # For want of descriptors, say: the next look tells.
            return
        children = Counter(_or_unknown(process.ppid) for process in tree)
        before, self._known = self._known, {}
        for process in sorted(tree, key=lambda process: process.pid not in before):
            if process.pid in watched or len(self._known) >= _PROCESSES:
                continue
            known = before.get(process.pid)
            try:
                # psutil tells by its start whether a pid is still the same process.
                if known is None or known.process != process:
                    self._known[process.pid] = _Known(process, int(process.create_time()))
                elif self._measure(process, known, children[process.pid]):
                    self._known[process.pid] = before.pop(process.pid)
            except (psutil.Error, OSError):
                # It has ended meanwhile, or is another user's.
                continue
        for pid, known in before.items():
            if known.stated:
                self._state(ProcessMeasured, pid, known.born_s, "", -1, -1, "", 0, -1, 0)

    def _measure(self, process: psutil.Process, known: _Known, children: int) -> bool:
        """Whether it lives, and was measured."""
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        with process.oneshot():
            threads, rss = process.num_threads(), process.memory_info().rss
        fds = _or_unknown(process.num_fds)
        self._state(
            ProcessMeasured,
            process.pid,
            known.born_s,
            clean(_program(process))[:_NAME_KEPT],
            fds,
            _or_unknown(lambda: process.rlimit(psutil.RLIMIT_NOFILE)[0]),
            LIST_SEP.join(f"{kind}={count}" for kind, count in sorted(_kinds(process, known, fds).items())),
            threads,
            rss,
            children,
        )
        known.stated = True
        return True


def _tree(root: int) -> list[psutil.Process]:
    """The process and all below it; none if it has ended."""
    try:
        process = psutil.Process(root)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _program(process: psutil.Process) -> str:
    """Not the process's name: that is what the program says, and may say of whom it is."""
    try:
        path = process.exe()
    except psutil.AccessDenied:
        path = ""
    return os.path.basename(path) or str(process.name())


def _kinds(process: psutil.Process, known: _Known, fds: int) -> dict[str, int]:
    """Descriptors by kind; nothing where their number is what it was when they were looked at."""
    if fds in (-1, known.looked_at) or fds > _LOOKED_AT:
        return {}
    known.looked_at = fds
    try:
        return _kinds_of(process)
    except (OSError, psutil.Error):
        return {}


def _kinds_of(process: psutil.Process) -> dict[str, int]:
    # psutil before 6.0 has it under the older name.
    connections: Any = getattr(process, "net_connections", None) or process.connections
    sockets = {
        found.fd: _FAMILIES.get(int(found.family), "other") or _TYPES.get(int(found.type), "other")
        for found in connections("all")
    }
    kinds: Counter[str] = Counter()
    directory = f"/proc/{process.pid}/fd"
    for number in os.listdir(directory):
        try:
            link = os.readlink(f"{directory}/{number}")
        except OSError:
            continue
        kinds[sockets.get(int(number)) or next((kind for start, kind in _STARTS if link.startswith(start)), "other")] += 1
    return kinds


def _or_unknown(ask: Callable[[], int]) -> int:
    try:
        return ask()
    except (OSError, psutil.Error):
        return -1
