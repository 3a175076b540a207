"""What the watcher knows at this moment, for /healthz and the page: processes and their hooks, rooms, growth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from race_watch import __version__, metrics
from race_watch.clock import WALL_NS, monotonic_s
from race_watch.detectors.growth_outside import Measured
from race_watch.fleet import HOOKS, Fleet, ProcessFacts
from race_watch.stderr import NOT_HERE
from race_watch.totals import Totals

# A view is made anew at most this often: it costs 10 us a process.
_INTERVAL_S = 1.0
PROCESSES_SHOWN = 100
ROOMS_SHOWN = 100
# Points of the growth series; at that many every second one goes, and points are taken half as often.
POINTS = 240
# A poll that takes longer than this stands still.
STALLED_S = 15.0
_GROWTH = (metrics.OPEN_FDS, metrics.FFI_HANDLES, metrics.ROOMS, metrics.PARTICIPANTS)


class Growth:
    """Counts over the whole run in a bounded number of points: time_unix_s and one value for each of `names`. Pure."""

    names = tuple(metric.name.removeprefix("race_watch_") for metric in _GROWTH)

    def __init__(self) -> None:
        self.points: list[tuple[float, ...]] = []
        self._step_s = _INTERVAL_S
        self._next_s = float("-inf")

    def add(self, snapshot: Mapping[str, Mapping[tuple[str, ...], float]], now_s: float, unix_s: float) -> None:
        if now_s < self._next_s:
            return
        self._next_s = now_s + self._step_s
        self.points.append((round(unix_s, 1), *(sum(snapshot[metric.name].values()) for metric in _GROWTH)))
        if len(self.points) >= POINTS:
            self.points = self.points[::2]
            self._step_s *= 2


@dataclass(frozen=True, slots=True)
class View:
    """One moment; never changed once it is made."""

    made_s: float = float("-inf")
    trouble: tuple[str, ...] = ()
    health: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


class Status:
    """`look` is the watcher's thread's, the rest that of requests.

    Args:
        stderr: How the worker's stderr is seen, in words.

    Attributes:
        gave_up: The watcher has failed too often and stands still.
        failures: What failed in the watcher and its exporters, latest last; the process runs on.
    """

    def __init__(self, stderr: str = NOT_HERE) -> None:
        self.gave_up = False
        self.failures: tuple[str, ...] = ()
        self._began_s = self._polled_s = monotonic_s()
        self._stderr = stderr
        self._growth = Growth()
        self._view = View(state={"rooms": [], "growth": {"names": Growth.names, "points": []}})

    def failed(self, what: str) -> None:
        """Keeps what failed, once each and the last few only."""
        self.failures = (*(known for known in self.failures if known != what), what)[-5:]

    def look(self, fleet: Fleet, totals: Totals) -> None:
        """After each poll."""
        now_s = self._polled_s = monotonic_s()
        if now_s - self._view.made_s < _INTERVAL_S:
            return
        unix_s = WALL_NS() / 1e9
        self._growth.add(totals.snapshot, now_s, unix_s)
        live = fleet.live()
        state = {
            "time_unix_s": round(unix_s, 1),
            "rooms": _rooms(live),
            "growth": {"names": self._growth.names, "points": list(self._growth.points)},
        }
        self._view = View(now_s, tuple(_trouble(live, totals)), _health(fleet, live, totals), state)

    def health(self) -> tuple[int, dict[str, Any]]:
        """HTTP status and what /healthz says: 503 only when the watcher has given up; the worker is never what is ill."""
        now_s, view = monotonic_s(), self._view
        trouble = [*view.trouble, *self.failures]
        idle_s = now_s - self._polled_s
        if self.gave_up:
            trouble.insert(0, "the watcher failed too often and gave up")
        elif idle_s > STALLED_S:
            trouble.insert(0, f"the watcher has not read the journals for {idle_s:.0f} s")
        said = {
            "status": "failed" if self.gave_up else "degraded" if trouble else "ok",
            "trouble": trouble,
            "version": __version__,
            "uptime_s": round(now_s - self._began_s, 1),
            "last_poll_s_ago": round(idle_s, 2),
            "stderr": self._stderr,
            **view.health,
        }
        return (503 if self.gave_up else 200), said

    def state(self) -> dict[str, Any]:
        """Rooms that are connected, and growth."""
        return self._view.state


def _health(fleet: Fleet, live: list[ProcessFacts], totals: Totals) -> dict[str, Any]:
    outside = totals.outside
    return {
        "lag_s": round(totals.own.lag_s, 3),
        "cpu_s": round(totals.own.cpu_s, 3),
        "attached": totals.attached,
        "missing": totals.own.missing,
        "journal": {
            "read": totals.records,
            "lost": {reason: int(totals.snapshot[metrics.LOST.name][(reason,)]) for reason in metrics.LOST_REASONS},
        },
        "live": len(live),
        "processes": [_process(fleet, facts) for facts in live[:PROCESSES_SHOWN]],
        "measured": [_measured(one) for one in outside.live({facts.process.pid for facts in live})] if outside else [],
    }


def _process(fleet: Fleet, facts: ProcessFacts) -> dict[str, Any]:
    installed = fleet.hooks_of(facts)
    off = dict(facts.hooks_off)
    wanted = {*HOOKS, "default_registry"} if facts.process.identity.get("shows_metrics") else set(HOOKS)
    return {
        "pid": facts.process.pid,
        "role": facts.role,
        "attempt": facts.ordinal,
        "python": str(facts.process.identity.get("python", "")),
        "sdk": dict(facts.sdk),
        "hooks": {
            "installed": sorted(installed - off.keys()),
            "off": off,
            # Installed when the module they are for is imported.
            "waiting": sorted(wanted - installed - off.keys()),
        },
    }


def _measured(measured: Measured) -> dict[str, Any]:
    latest = measured.latest
    counts = {
        "open_fds": latest.open_fds,
        "fd_limit": latest.fd_limit,
        "threads": latest.threads,
        "rss_bytes": latest.rss_bytes,
    }
    return {
        "pid": latest.pid,
        "program": latest.program,
        **{name: count if count >= 0 else None for name, count in counts.items()},
        "grows_per_hour": {resource.name: round(slope.value, 2) for resource, slope in measured.slopes.items()},
    }


def _trouble(live: list[ProcessFacts], totals: Totals) -> list[str]:
    told: dict[str, int] = {}
    for facts in live:
        for hook, error in facts.hooks_off.items():
            text = f"hook {hook} is off ({error})"
            told[text] = told.get(text, 0) + 1
    trouble = [f"{text} in {count} process{'es' if count > 1 else ''}" for text, count in sorted(told.items())]
    if totals.own.missing:
        trouble.append(f"{totals.own.missing} with LiveKit's library not watched (race-watch doctor)")
    return trouble


def _rooms(live: list[ProcessFacts]) -> list[dict[str, Any]]:
    connected = [(facts, room) for facts in live for room in facts.rooms.values() if room.connected]
    return [
        {"name": room.name, "sid": room.sid, "participants": room.participants, "pid": facts.process.pid}
        for facts, room in connected[:ROOMS_SHOWN]
    ]
