"""Who comes and goes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from tests.growth_bench.worker import Worker

_DAY_S = 7200.0


def one_by_one(worker: Worker) -> None:
    """One room, one participant at a time."""
    worker.connect()

    def come() -> None:
        stay_s = worker.dice.uniform(0.5, 3.0)
        worker.join(stay_s)
        worker.after(stay_s + worker.dice.uniform(0.3, 2.0), come)

    worker.after(1.0, come)


def steady(live: float, stay_s: float) -> Callable[[Worker], None]:
    """One room with `live` participants on average, who come and go independently."""

    def start(worker: Worker) -> None:
        worker.connect()

        def come() -> None:
            worker.join(worker.dice.expovariate(1 / stay_s))
            worker.after(worker.dice.expovariate(live / stay_s), come)

        worker.after(1.0, come)

    return start


def bursts(worker: Worker) -> None:
    """One room to which groups of 5 to 25 come at once, and leave at once."""
    worker.connect()

    def group() -> None:
        stay_s = worker.dice.uniform(5, 60)
        for _ in range(worker.dice.randint(5, 25)):
            late_s = worker.dice.uniform(0, 2)
            worker.after(late_s, functools.partial(worker.join, stay_s - late_s + worker.dice.uniform(0, 1)))
        worker.after(worker.dice.uniform(20, 90), group)

    worker.after(1.0, group)


def day_and_night(worker: Worker) -> None:
    """One room whose participants swing between 2 and 60."""
    worker.connect()

    def come() -> None:
        live = 31 - 29 * math.cos(worker.t_s / _DAY_S * 2 * math.pi)
        worker.join(worker.dice.expovariate(1 / 30))
        worker.after(worker.dice.expovariate(live / 30), come)

    worker.after(1.0, come)


def rooms(worker: Worker) -> None:
    """Agents in threads: five rooms at a time, one or two participants each, who end their room."""

    def room() -> None:
        worker.connect()
        stay_s = worker.dice.expovariate(1 / 60) + 2
        for _ in range(worker.dice.choice((1, 1, 1, 2))):
            worker.after(0.3, functools.partial(worker.join, stay_s))
        worker.after(stay_s + 0.8, worker.end_room)
        worker.after(worker.dice.expovariate(5 / 60), room)

    worker.after(1.0, room)


TRAFFIC: dict[str, Callable[[Worker], None]] = {
    "one by one": one_by_one,
    "4 at a time": steady(4, 20),
    "40 at a time": steady(40, 60),
    "bursts": bursts,
    "day and night": day_and_night,
    "rooms": rooms,
}
