"""A simulated worker: what its rooms and participants hold while they live, what they leave behind, and what is noise."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from race_watch.events import ResourcesSampled

# As the host half samples: edges at most ten a second, the counting thread in between.
EDGE_S = 0.1
SLOW_S = 5.0

# Noise, each a departure or a second.
STEP_HANDLES = 1 / 2000
STEP_FDS = 1 / 1000
_CACHE_FDS = 20
_CACHE_FILLS = 0.3
_LATE = 0.2
_CYCLIC = 0.02
_COLLECTION_S = 40.0
_POOL = 4.0
_POOL_STEP = 0.4
_POOL_RETURN = 0.02
_TEARDOWN_S = (2.0, 12.0)

_ROOM_FDS = 14
_ROOM_THREADS = 6
_PARTICIPANT_FDS = 2


@dataclass(frozen=True)
class Leak:
    """`rate` of `resource` (an attribute of `Worker`) is left by each participant; a fraction by chance."""

    resource: str = "handles"
    rate: float = 0.0


class Worker:
    """One process. `noisy` adds late releases, reference cycles, native teardown, a cache, steps and a wandering pool.

    Attributes:
        cached: Descriptors in the cache after each departure, from none on.
    """

    def __init__(self, seed: str, leak: Leak, *, noisy: bool = True) -> None:
        self.dice = random.Random(seed)
        self.t_s = 0.0
        self.departed = 0
        self.handles = self.subscriptions = self.tasks = 0
        self.fds, self.threads = 23, 12
        self._leak = leak
        self._noisy = noisy
        self._rooms = self._participants = self._rooms_ended = self._connects = self._collections = 0
        self._garbage = 0
        self.cached = [0]
        self._pool = 0.0
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._sampled_s = -1.0
        self._out: list[tuple[float, ResourcesSampled]] = []
        self.after(SLOW_S, self._slow)
        self.after(_COLLECTION_S, self._collect)
        if noisy:
            self.after(1.0, self._wander)

    def after(self, wait_s: float, do: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._later, (self.t_s + wait_s, self._number, do))

    def run(self, departures: int) -> Iterator[tuple[float, ResourcesSampled]]:
        """Samples until so many participants have left."""
        while self.departed < departures:
            self.t_s, _, do = heapq.heappop(self._later)
            do()
            yield from self._out
            self._out.clear()

    def connect(self) -> None:
        self._rooms += 1
        self._connects += 1
        self.handles += 2
        self.subscriptions += 1
        self.tasks += 1
        self.fds += _ROOM_FDS
        self.threads += _ROOM_THREADS
        self._edge(now=True)

    def end_room(self) -> None:
        self._rooms -= 1
        self._rooms_ended += 1
        self._release("handles", 2)
        self._release("subscriptions", 1)
        self._release("tasks", 1)
        self._tear_down("fds", _ROOM_FDS)
        self._tear_down("threads", _ROOM_THREADS)
        self._edge(now=True)

    def join(self, stay_s: float) -> None:
        tracks = self.dice.choice((0, 1, 1, 2)) if self._noisy else 1
        self._participants += 1
        self.handles += 1
        self._edge()
        self.after(min(self.dice.expovariate(2.0), stay_s / 2), lambda: self._publish(tracks))
        self.after(stay_s, lambda: self._leave(tracks))

    def _publish(self, tracks: int) -> None:
        """For each track a publication, the track and its stream."""
        self.handles += 3 * tracks
        self.subscriptions += tracks
        self.tasks += tracks
        self.fds += _PARTICIPANT_FDS

    def _leave(self, tracks: int) -> None:
        self._participants -= 1
        self.departed += 1
        self._release("handles", 1 + 3 * tracks)
        self._release("subscriptions", tracks)
        self._release("tasks", tracks)
        self._release("fds", _PARTICIPANT_FDS)
        whole, part = divmod(self._leak.rate, 1)
        self._add(self._leak.resource, int(whole) + (self.dice.random() < part))
        if self._noisy:
            self._cache_and_step()
        self._edge()

    def _add(self, what: str, count: int) -> None:
        setattr(self, what, getattr(self, what) + count)

    def _release(self, what: str, count: int) -> None:
        if self._noisy and what == "handles" and self.dice.random() < _CYCLIC:
            self._garbage += count
        elif self._noisy and self.dice.random() < _LATE:
            self.after(self.dice.expovariate(2.0), lambda: self._add(what, -count))
        else:
            self._add(what, -count)

    def _tear_down(self, what: str, count: int) -> None:
        """Native code lets go of one after the other."""
        longest_s = self.dice.uniform(*_TEARDOWN_S) if self._noisy else 0.0
        for _ in range(count):
            self.after(longest_s * self.dice.random(), lambda: self._add(what, -1))

    def _collect(self) -> None:
        self.handles -= self._garbage
        self._garbage = 0
        self._collections += 1
        self.after(self.dice.expovariate(1 / _COLLECTION_S), self._collect)

    def _cache_and_step(self) -> None:
        fills = self.dice.random() < _CACHE_FILLS * (1 - self.cached[-1] / _CACHE_FDS)
        self.cached.append(self.cached[-1] + fills)
        self.fds += fills
        if self.dice.random() < STEP_FDS:
            self.fds += self.dice.randint(1, 8)
        if self.dice.random() < STEP_HANDLES:
            self.handles += self.dice.randint(1, 4)

    def _wander(self) -> None:
        """Connections to elsewhere, slow to change."""
        self._pool += self.dice.gauss(0, _POOL_STEP) - self._pool * _POOL_RETURN
        self.after(1.0, self._wander)

    def _edge(self, *, now: bool = False) -> None:
        if now or self.t_s - self._sampled_s >= EDGE_S:
            self._sampled_s = self.t_s
            self._sample(1)

    def _slow(self) -> None:
        self._sample(0)
        self.after(SLOW_S, self._slow)

    def _sample(self, edge: int) -> None:
        pool = max(0.0, _POOL + self._pool) if self._noisy else 0.0
        sample = ResourcesSampled(
            edge=edge,
            open_fds=round(self.fds + pool),
            fd_limit=1024,
            ffi_handles=self.handles,
            rooms=self._rooms,
            participants=self._participants,
            rooms_ended=self._rooms_ended,
            participants_departed=self.departed,
            connects=self._connects,
            connects_cancelled=0,
            server_leaves=0,
            handles=(),
            subscriptions=self.subscriptions,
            tasks=-1 if edge else self.tasks,
            threads=() if edge else (f"all={self.threads}", "tokio=2"),
            rooms_abandoned=-1 if edge else 0,
            collections=-1 if edge else self._collections,
        )
        self._out.append((self.t_s, sample))
