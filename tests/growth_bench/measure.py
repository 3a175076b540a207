"""The detector of the watcher on simulated and on recorded traffic, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from race_watch.detectors.growth import Growth
from race_watch.events import ResourcesSampled
from race_watch.records import Process, Record
from tests.growth_bench import lab
from tests.growth_bench.traffic import TRAFFIC
from tests.growth_bench.worker import Leak, Worker

LAB = "lab, recorded"
NO_NOISE = "one by one, no noise"
KINDS = (NO_NOISE, *TRAFFIC, LAB)


@dataclass(frozen=True)
class Alarms:
    """False alarms of one process; the resources that gave them."""

    kind: str
    departures: int
    samples: int
    resources: tuple[str, ...]


@dataclass(frozen=True)
class Delay:
    """Departures until alarm; None without one."""

    kind: str
    leak: Leak
    departures: int | None


@dataclass
class _Watched:
    seed: str
    growth: Growth = field(default_factory=Growth)
    samples: int = 0
    departed: int = 0

    def alarms(self, samples: Iterator[tuple[float, ResourcesSampled]]) -> Iterator[str]:
        """The resource of each finding, as it is raised."""
        process = Process(1, 1, "", 0, self.seed, 0, 0, {})
        for t_s, sample in samples:
            self.samples += 1
            self.departed = sample.participants_departed
            self.growth.observe(Record(process, self.samples, t_s, sample))
            for finding in self.growth.confirm(t_s):
                yield finding.evidence["resource"]
        for finding in self.growth.confirm(math.inf):
            yield finding.evidence["resource"]


def samples_of(kind: str, seed: str, leak: Leak, departures: int) -> Iterator[tuple[float, ResourcesSampled]]:
    """What the host half would state under this kind of traffic."""
    return lab.looped(seed, leak, departures) if kind == LAB else worker_of(kind, seed, leak).run(departures)


def worker_of(kind: str, seed: str, leak: Leak) -> Worker:
    """A simulated worker under this kind of traffic, about to begin."""
    worker = Worker(seed, leak, noisy=kind != NO_NOISE)
    TRAFFIC.get(kind, TRAFFIC["one by one"])(worker)
    return worker


def clean(kind: str, seed: str, departures: int) -> Alarms:
    """A process that leaks nothing."""
    watched = _Watched(seed)
    found = tuple(watched.alarms(samples_of(kind, seed, Leak(), departures)))
    return Alarms(kind, departures, watched.samples, found)


def leaking(kind: str, seed: str, leak: Leak, departures: int) -> Delay:
    """A process that leaks from its first participant on, until it is found."""
    watched = _Watched(seed)
    found = leak.resource in watched.alarms(samples_of(kind, seed, leak, departures))
    return Delay(kind, leak, watched.departed if found else None)
