"""Exceptions that a detector waits for, held until every channel that sees them at once has spoken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from race_watch.events import ExceptionSeen, ExceptionSeenAgain
from race_watch.records import Process, Record

# Long enough for the log record of the same failure, from another thread too; short enough for a person who watches.
WINDOW_S = 0.5
# Exceptions kept that nobody wants yet; beyond it the oldest is forgotten.
_KEPT = 512


@dataclass(slots=True)
class Failure:
    """One exception and the channels it came by so far."""

    seen: ExceptionSeen
    process: Process
    t_s: float
    channels: tuple[str, ...]


class Failures:
    """Exceptions that `wants` accepts by the first channel they came by or by a later one, until they are due."""

    def __init__(self, wants: Callable[[ExceptionSeen], bool]) -> None:
        self._wants = wants
        self._open: dict[str, Failure] = {}
        self._others: dict[str, ExceptionSeen] = {}

    def observe(self, record: Record) -> None:
        event = record.event
        if isinstance(event, ExceptionSeen):
            if self._wants(event):
                self._open[event.fact] = Failure(event, record.process, record.t_s, (event.channel,))
                return
            if len(self._others) >= _KEPT:
                del self._others[next(iter(self._others))]
            self._others[event.fact] = event
        elif isinstance(event, ExceptionSeenAgain):
            self._again(event, record)

    def _again(self, event: ExceptionSeenAgain, record: Record) -> None:
        failure, first = self._open.get(event.fact), self._others.get(event.fact)
        if failure is not None:
            if event.channel not in failure.channels:
                failure.channels += (event.channel,)
        elif first is not None and self._wants(seen := _as_seen_again(first, event)):
            del self._others[event.fact]
            self._open[event.fact] = Failure(seen, record.process, record.t_s, (first.channel, event.channel))

    def due(self, now_s: float) -> list[Failure]:
        """Removes and returns those whose window is over."""
        due = [failure for failure in self._open.values() if now_s - failure.t_s >= WINDOW_S]
        for failure in due:
            del self._open[failure.seen.fact]
        return due


def _as_seen_again(first: ExceptionSeen, again: ExceptionSeenAgain) -> ExceptionSeen:
    """The exception as the later channel tells of it."""
    seen = replace(first, channel=again.channel, room=again.room or first.room)
    if not again.task_name:
        return seen
    return replace(
        seen,
        task=again.task,
        task_name=again.task_name,
        task_coro=again.task_coro,
        task_created_at=again.task_created_at,
    )
