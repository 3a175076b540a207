"""Exceptions that a detector waits for, held until every channel that sees them at once has spoken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from race_watch.events import ExceptionSeen, ExceptionSeenAgain
from race_watch.records import Process, Record

# Long enough for the log record of the same failure, from another thread too; short enough for a person who watches.
WINDOW_S = 0.5


@dataclass(slots=True)
class Failure:
    """One exception and the channels it came by so far."""

    seen: ExceptionSeen
    process: Process
    t_s: float
    channels: tuple[str, ...]


class Failures:
    """Exceptions that `wants` accepts, until they are due."""

    def __init__(self, wants: Callable[[ExceptionSeen], bool]) -> None:
        self._wants = wants
        self._open: dict[str, Failure] = {}

    def observe(self, record: Record) -> None:
        event = record.event
        if isinstance(event, ExceptionSeen):
            if self._wants(event):
                self._open[event.fact] = Failure(event, record.process, record.t_s, (event.channel,))
        elif isinstance(event, ExceptionSeenAgain) and event.fact in self._open:
            failure = self._open[event.fact]
            if event.channel not in failure.channels:
                failure.channels += (event.channel,)

    def due(self, now_s: float) -> list[Failure]:
        """Removes and returns those whose window is over."""
        due = [failure for failure in self._open.values() if now_s - failure.t_s >= WINDOW_S]
        for failure in due:
            del self._open[failure.seen.fact]
        return due
