"""Processes of the worker that nothing watches from inside, measured from outside: a Node worker with `@livekit/rtc-node`, say.

Nobody counts participants there, so what grows in them can be told against time only.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import psutil

from race_watch.events import LIST_SEP, ProcessMeasured, clean

INTERVAL_S = 15.0
# The others are not measured: a tree of more is no worker of a few processes.
_PROCESSES = 16
# A table of more descriptors takes the watcher too long.
_LOOKED_AT = 4096
# What the count must have grown by for the descriptors to be looked at again: this many, or this part of it.
_GROWN_BY, _GROWN_PART = 4, 16
_NAME_KEPT = 64

_FAMILIES = {int(socket.AF_INET): "", int(socket.AF_INET6): "", int(socket.AF_UNIX): "unix"}
_TYPES = {int(socket.SOCK_STREAM): "tcp", int(socket.SOCK_DGRAM): "udp"}
_STARTS = (("/", "file"), ("pipe:", "pipe"), ("anon_inode:[eventpoll]", "epoll"), ("anon_inode:[eventfd]", "eventfd"))


@dataclass(slots=True)
class _Known:
    """A process from one look to the next; psutil tells by its start whether a pid is still the same one."""

    process: psutil.Process
    looked_at: int = -_GROWN_BY


class Outside:
    """States a `ProcessMeasured` for each such process, every INTERVAL_S. For the watcher's thread.

    Args:
        root: The command's pid: it and what is below it is the worker.
        state: Writes an event into the watcher's own journal.
    """

    def __init__(self, root: int, state: Callable[..., None]) -> None:
        self._root = root
        self._state = state
        self._known: dict[tuple[int, float], _Known] = {}
        self._next_s = float("-inf")

    def look(self, attached: Iterable[int], now_s: float) -> None:
        """`attached` are the pids of the processes that have a journal of their own."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + INTERVAL_S
        watched = set(attached)
        before, self._known = self._known, {}
        for process in _tree(self._root):
            if process.pid in watched or len(self._known) >= _PROCESSES:
                continue
            try:
                key = (process.pid, process.create_time())
                known = self._known[key] = before.get(key) or _Known(process)
                self._measure(known, key[1])
            except psutil.Error:
                # It has ended meanwhile, or is another user's.
                continue

    def _measure(self, known: _Known, born_s: float) -> None:
        process = known.process
        with process.oneshot():
            name, threads, rss = process.name(), process.num_threads(), process.memory_info().rss
        if process.status() == psutil.STATUS_ZOMBIE:
            return
        fds = _or_unknown(process.num_fds)
        self._state(
            ProcessMeasured,
            process.pid,
            int(born_s),
            clean(name)[:_NAME_KEPT],
            fds,
            _or_unknown(lambda: process.rlimit(psutil.RLIMIT_NOFILE)[0]),
            LIST_SEP.join(f"{kind}={count}" for kind, count in sorted(self._kinds(known, fds).items())),
            threads,
            rss,
        )

    def _kinds(self, known: _Known, fds: int) -> dict[str, int]:
        """Count by kind, if the count has grown since they were looked at, or has fallen and grown from there."""
        known.looked_at = min(known.looked_at, max(fds, 0))
        if fds > _LOOKED_AT or fds < known.looked_at + max(_GROWN_BY, known.looked_at // _GROWN_PART):
            return {}
        known.looked_at = fds
        try:
            return _kinds_of(known.process)
        except (OSError, psutil.Error):
            return {}


def _tree(root: int) -> list[psutil.Process]:
    """The process and all below it; none if it has ended."""
    try:
        process = psutil.Process(root)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _kinds_of(process: psutil.Process) -> dict[str, int]:
    # psutil before 6.0 has it under the older name.
    connections: Any = getattr(process, "net_connections", None) or process.connections
    sockets = {
        found.fd: _FAMILIES.get(int(found.family), "other") or _TYPES.get(int(found.type), "other")
        for found in connections("all")
    }
    kinds: dict[str, int] = {}
    directory = f"/proc/{process.pid}/fd"
    for number in os.listdir(directory):
        try:
            link = os.readlink(f"{directory}/{number}")
        except OSError:
            continue
        kind = sockets.get(int(number)) or next((kind for start, kind in _STARTS if link.startswith(start)), "other")
        kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


def _or_unknown(ask: Callable[[], int]) -> int:
    try:
        return ask()
    except (OSError, psutil.Error):
        return -1
