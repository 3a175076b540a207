"""Simulated workers: who comes and goes, what that costs while it lasts, what it leaves behind, and what is noise."""

from __future__ import annotations

import functools
import heapq
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from race_watch.events import ResourcesSampled

_EDGE_S = 0.25
_SLOW_S = 5.0


@dataclass(frozen=True)
class Leak:
    """`rate` of a resource is left by each departed participant; fractions by chance."""

    resource: str = ""
    rate: float = 0.0
    from_departure: int = 0


@dataclass
class Worker:
    """The counts of one process and everything that is still to happen to it."""

    seed: str
    leak: Leak = Leak()
    noisy: bool = True
    t_s: float = 0.0
    fds: float = 23
    threads: float = 12
    handles: int = 0
    subscriptions: int = 0
    tasks: int = 0
    rooms: int = 0
    participants: int = 0
    rooms_ended: int = 0
    departed: int = 0
    connects: int = 0
    cycles: int = 0
    pool: float = 0.0
    cached: int = 0
    dice: random.Random = field(init=False)
    _later: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _number: int = 0
    _sampled_s: float = -1.0
    _out: list[tuple[float, ResourcesSampled]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.at(self.t_s + _SLOW_S, self._slow)
        if self.noisy:
            self.at(self.t_s + 1.0, self._wander)
            self.at(self.dice.expovariate(1 / 40), self._collect)

    # The clock

    def at(self, t_s: float, do: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._later, (t_s, self._number, do))

    def run(self, departures: int) -> Iterator[tuple[float, ResourcesSampled]]:
        """Samples until so many participants have left."""
        while self.departed < departures:
            self.t_s, _, do = heapq.heappop(self._later)
            do()
            yield from self._out
            self._out.clear()

    # Lifecycle

    def connect(self) -> None:
        self.rooms += 1
        self.connects += 1
        self.handles += 2
        self.subscriptions += 1
        self.tasks += 1
        self.fds += 3 if self.connects == 1 else 14
        self.threads += 6
        self._edge(now=True)

    def end_room(self) -> None:
        self.rooms -= 1
        self.rooms_ended += 1
        self.subscriptions -= 1
        self._release("handles", 2)
        self._release("tasks", 1, 0.2)
        teardown = self.dice.uniform(2, 12) if self.noisy else 0.0
        for _ in range(14):
            self.at(self.t_s + teardown * self.dice.random(), lambda: self._add("fds", -1))
        for _ in range(6):
            self.at(self.t_s + teardown * self.dice.random(), lambda: self._add("threads", -1))
        self._edge(now=True)

    def join(self, stay_s: float) -> None:
        self.participants += 1
        tracks = self.dice.choice((0, 1, 1, 2)) if self.noisy else 1
        self.handles += 1
        self._edge()
        published = self.t_s + min(self.dice.expovariate(2.0), stay_s / 2)
        self.at(published, lambda: self._published(tracks))
        self.at(self.t_s + stay_s, lambda: self.leave(tracks))

    def _published(self, tracks: int) -> None:
        # A publication, and a subscribed track with its stream.
        self.handles += 3 * tracks
        self.subscriptions += tracks
        self.tasks += tracks
        self.fds += 2

    def leave(self, tracks: int) -> None:
        self.participants -= 1
        self.departed += 1
        self._release("handles", 1 + 3 * tracks)
        self._release("subscriptions", tracks)
        self._release("tasks", tracks, 0.3)
        self._release("fds", 2, 1.0)
        if self.noisy:
            self._noise_of_departure()
        if self.leak.rate and self.departed > self.leak.from_departure:
            whole, part = divmod(self.leak.rate, 1)
            self._add(self.leak.resource, int(whole) + (self.dice.random() < part))
        self._edge()

    # Noise

    def _release(self, what: str, count: int, lag_s: float = 0.1) -> None:
        if not self.noisy:
            self._add(what, -count)
        elif what == "handles" and self.dice.random() < 0.02:
            # In a reference cycle: until the next collection.
            self._garbage = getattr(self, "_garbage", 0) + count
        elif self.dice.random() < 0.2:
            self.at(self.t_s + self.dice.expovariate(1 / lag_s), lambda: self._add(what, -count))
        else:
            self._add(what, -count)

    def _collect(self) -> None:
        self.handles -= getattr(self, "_garbage", 0)
        self._garbage = 0
        self.cycles += 1
        self.at(self.t_s + self.dice.expovariate(1 / 40), self._collect)

    def _noise_of_departure(self) -> None:
        # A cache that fills, and a step once in a thousand departures.
        if self.dice.random() < 0.3 * (1 - self.cached / 20):
            self.cached += 1
            self.fds += 1
        if self.dice.random() < 1 / 1000:
            self.fds += self.dice.randint(1, 8)
        if self.dice.random() < 1 / 2000:
            self.handles += self.dice.randint(1, 4)

    def _wander(self) -> None:
        """A connection pool around four, slow to change."""
        self.pool += -self.pool * 0.02 + self.dice.gauss(0, 0.4)
        self.at(self.t_s + 1.0, self._wander)

    # Samples

    def _add(self, what: str, count: int) -> None:
        setattr(self, what, getattr(self, what) + count)

    def _edge(self, *, now: bool = False) -> None:
        if now or self.t_s - self._sampled_s >= _EDGE_S:
            self._sampled_s = self.t_s
            self._sample(1)

    def _slow(self) -> None:
        self._sample(0)
        self.at(self.t_s + _SLOW_S, self._slow)

    def _sample(self, edge: int) -> None:
        fds = round(self.fds + max(0.0, 4 + self.pool if self.noisy else 0.0))
        self._out.append(
            (
                self.t_s,
                ResourcesSampled(
                    edge=edge,
                    open_fds=fds,
                    fd_limit=1024,
                    ffi_handles=self.handles,
                    rooms=self.rooms,
                    participants=self.participants,
                    rooms_ended=self.rooms_ended,
                    participants_departed=self.departed,
                    connects=self.connects,
                    connects_cancelled=0,
                    server_leaves=0,
                    handles=(f"publication={self.handles}",),
                    subscriptions=self.subscriptions,
                    tasks=-1 if edge else self.tasks,
                    threads=(f"all={round(self.threads)}",) if edge else (f"all={round(self.threads)}", "tokio=2"),
                    rooms_abandoned=-1 if edge else 0,
                    collections=self.cycles,
                ),
            )
        )


# Traffic


def one_by_one(worker: Worker) -> None:
    """One room, one participant at a time."""
    worker.connect()

    def come() -> None:
        stay = worker.dice.uniform(0.5, 3.0)
        worker.join(stay)
        worker.at(worker.t_s + stay + worker.dice.uniform(0.3, 2.0), come)

    worker.at(worker.t_s + 1.0, come)


def poisson(mean: float, stay_s: float) -> Callable[[Worker], None]:
    """One room with `mean` participants on average, who come and go independently."""

    def start(worker: Worker) -> None:
        worker.connect()

        def come() -> None:
            worker.join(worker.dice.expovariate(1 / stay_s))
            worker.at(worker.t_s + worker.dice.expovariate(mean / stay_s), come)

        worker.at(worker.t_s + 1.0, come)

    return start


def bursts(worker: Worker) -> None:
    """One room to which groups come at once, and leave at once."""
    worker.connect()

    def group() -> None:
        size = worker.dice.randint(5, 25)
        stay = worker.dice.uniform(5, 60)
        for _ in range(size):
            begin = worker.dice.uniform(0, 2)
            worker.at(worker.t_s + begin, functools.partial(worker.join, stay - begin + worker.dice.uniform(0, 1)))
        worker.at(worker.t_s + worker.dice.uniform(20, 90), group)

    worker.at(worker.t_s + 1.0, group)


def diurnal(worker: Worker) -> None:
    """One room whose participants swing between 2 and 60, in a day of two hours."""
    worker.connect()

    def come() -> None:
        mean = 31 - 29 * math.cos(worker.t_s / 7200 * 2 * math.pi)
        worker.join(worker.dice.expovariate(1 / 30))
        worker.at(worker.t_s + worker.dice.expovariate(mean / 30), come)

    worker.at(worker.t_s + 1.0, come)


def rooms(worker: Worker) -> None:
    """Agents in threads: five rooms on average, one or two participants each, which end their room."""

    def room() -> None:
        worker.connect()
        stay = worker.dice.expovariate(1 / 60) + 2
        guests = worker.dice.choice((1, 1, 1, 2))
        for _ in range(guests):
            worker.at(worker.t_s + 0.3, lambda: worker.join(stay))
        worker.at(worker.t_s + stay + 0.8, worker.end_room)
        worker.at(worker.t_s + worker.dice.expovariate(5 / 60), room)

    worker.at(worker.t_s + 1.0, room)


TRAFFIC: dict[str, Callable[[Worker], None]] = {
    "one by one": one_by_one,
    "steady, 4 live": poisson(4, 20),
    "crowd, 40 live": poisson(40, 60),
    "bursts": bursts,
    "day and night": diurnal,
    "rooms": rooms,
}
