"""What the watcher tells of itself: how far behind it is, what it costs, whom it does not see."""

from __future__ import annotations

import time
from dataclasses import dataclass

from race_watch.clock import WALL_NS, monotonic_s
from race_watch.fleet import Fleet
from race_watch.unattached import Unattached

# The lag that is shown is the longest of this window and of the one before: a scrape sees what came between two.
_WINDOW_S = 30.0


class Lag:
    """The longest wait of the last half to whole minute. Pure."""

    def __init__(self) -> None:
        self._before_s = self._now_s = 0.0
        self._window = 0

    def add(self, lag_s: float, now_s: float) -> None:
        window = int(now_s // _WINDOW_S)
        if window != self._window:
            self._before_s = self._now_s if window == self._window + 1 else 0.0
            self._window, self._now_s = window, 0.0
        self._now_s = max(self._now_s, lag_s)

    @property
    def longest_s(self) -> float:
        return max(self._before_s, self._now_s)


@dataclass(frozen=True, slots=True)
class Own:
    """One moment. `lag_s` is the longest time in the last minute from the statement of an event to its judgement."""

    lag_s: float = 0.0
    polled_unix_s: float = 0.0
    cpu_s: float = 0.0
    missing: int = 0


class SelfMetrics:
    """Used by the watcher's thread, after each poll."""

    def __init__(self) -> None:
        self._lag = Lag()
        self._unattached = Unattached()

    def measure(self, fleet: Fleet, requests_cpu_s: float) -> Own:
        """`requests_cpu_s` is what other threads of the watcher have spent."""
        now_s = monotonic_s()
        oldest_s = fleet.take_oldest_s()
        self._lag.add(0.0 if oldest_s is None else max(now_s - oldest_s, 0.0), now_s)
        self._unattached.look([facts.process.pid for facts in fleet.live()], now_s)
        return Own(self._lag.longest_s, WALL_NS() / 1e9, time.thread_time() + requests_cpu_s, self._unattached.count)
