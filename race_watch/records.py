"""What the watcher half reads: events with the process and the moment they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from race_watch.events import Event

# The role of a process that has no journal: one of the watcher's tells of it, and `identity` has which it is of its program.
OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Process:
    """Who wrote a journal. `wall_ns` and `monotonic_ns` were read together when it was opened.

    `identity` has `role` (main, spawn, forkserver, fork), `python` and `sdk` (distribution -> version when it was opened).
    """

    pid: int
    ppid: int
    boot_id: str
    start_ticks: int
    nonce: str
    wall_ns: int
    monotonic_ns: int
    identity: dict[str, Any] = field(hash=False)

    @property
    def role(self) -> str:
        return str(self.identity.get("role", "unknown"))

    def wall(self, t_s: float) -> int:
        """Monotonic seconds of this process's clock as unix nanoseconds."""
        return self.wall_ns + int(t_s * 1e9) - self.monotonic_ns


@dataclass(frozen=True, slots=True)
class JournalEnded(Event):
    """Its writer has let go of the journal: a fact of the watcher's own, in no journal.

    `running` is 1 where the process itself lives on, as another program or with race_watch undone.
    """

    running: int


@dataclass(frozen=True, slots=True)
class Record:
    """One event as read. `number` orders the records of a process; `t_s` is monotonic seconds."""

    process: Process
    number: int
    t_s: float
    event: Event
