"""Samples of a process's counts as the host half states them, and a small process that makes them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from facts import MAIN, process, record

from race_watch.detectors.growth import Growth
from race_watch.events import Event, ResourcesSampled
from race_watch.findings import Finding
from race_watch.records import Process, Record

__all__ = ["Counted", "process", "raised", "sampled"]


def sampled(**other: Any) -> ResourcesSampled:
    """A sample in between, of an idle process that has connected one room."""
    values: dict[str, Any] = {
        "edge": 0,
        "open_fds": 20,
        "fd_limit": 1024,
        "ffi_handles": 2,
        "rooms": 1,
        "participants": 0,
        "rooms_ended": 0,
        "participants_departed": 0,
        "connects": 1,
        "connects_cancelled": 0,
        "server_leaves": 0,
        "handles": (),
        "subscriptions": 1,
        "tasks": 1,
        "threads": ("all=12", "tokio=3", "webrtc=9"),
        "rooms_abandoned": 0,
        "collections": 0,
    }
    return ResourcesSampled(**{**values, **other})


@dataclass
class Counted:
    """A process whose counts are set by hand; `records` are its samples so far, one each time `sample` is called."""

    of: Process = MAIN
    t_s: float = 100.0
    counts: dict[str, Any] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    _number: itertools.count[int] = field(default_factory=itertools.count)

    def __getattr__(self, name: str) -> Any:
        return getattr(sampled(**self.counts), name)

    def sample(self, after_s: float = 1.0, **changed: int) -> None:
        """Some time later: adds what has changed to the counts, and states them."""
        self.t_s += after_s
        before = sampled(**self.counts)
        self.counts.update({name: getattr(before, name) + change for name, change in changed.items()})
        self.state(sampled(**self.counts))

    def idle(self, seconds: int, every_s: float = 1.0) -> None:
        for _ in range(int(seconds / every_s)):
            self.sample(every_s)

    def state(self, event: Event) -> None:
        self.records.append(record(event, self.t_s, next(self._number), self.of))


def raised(records: Iterable[Record], until_s: float | None = None) -> list[Finding]:
    """What the detector finds, asked after each record and, unless `until_s` is given, at the end of time."""
    growth, found = Growth(), []
    for one in records:
        growth.observe(one)
        found += growth.confirm(one.t_s)
    return found + growth.confirm(float("inf") if until_s is None else until_s)
