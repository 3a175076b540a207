"""The growth of one process: its samples become readings of each resource, counted by each unit."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from race_watch.events import ResourcesSampled
from race_watch.growth.reading import DESCRIPTORS, HANDLES, RESOURCES, SUBSCRIPTIONS, TASKS, THREADS, UNITS, Reading, Resource
from race_watch.growth.stretches import Alarm, Stretches

# Not counted: what holds a buffer is a frame, of which any number is under way.
_BUFFER = "buffer="
# Not counted: the runtime's threads come with the work and go when idle.
_TOKIO = "tokio="
_ALL = "all="


@dataclass(frozen=True, slots=True)
class Grown:
    """A resource whose growth is confirmed; `unit` is the place in `UNITS` of the test that found it."""

    resource: Resource
    unit: int
    alarm: Alarm


class ProcessGrowth:
    """Takes the samples of one process in order.

    Attributes:
        tests: (resource, place in `UNITS`) -> its test.
        last: The descriptors as last read.
    """

    def __init__(self) -> None:
        self.last: Reading | None = None
        self.tests = {
            (resource, place): Stretches(resource, unit, place) for resource in RESOURCES for place, unit in enumerate(UNITS)
        }
        self._connected = False
        self._abandoned = 0
        self._collections = -1
        self._failed = 0
        # (when, rooms and connects that had ended until then) of the last seconds, oldest first.
        self._ends: deque[tuple[float, int]] = deque()

    def observe(self, t_s: float, sample: ResourcesSampled) -> list[Grown]:
        """Takes a sample; returns what it has confirmed."""
        self._connected = self._connected or sample.rooms > 0 or sample.connects > sample.connects_cancelled
        if not self._connected:
            # The first connect starts the native runtimes, which stay.
            return []
        if sample.rooms_abandoned >= 0:
            self._abandoned = sample.rooms_abandoned
        if sample.collections >= 0:
            self._collections = sample.collections
        if sample.edge:
            # In the counting thread's samples a connect may have been counted whose room has not.
            known = sample.connects_cancelled + sample.rooms_ended + sample.rooms
            self._failed = max(0, sample.connects - known)
        counts = (
            self._abandoned,
            sample.connects_cancelled,
            self._failed,
            sample.server_leaves,
            sample.rooms_ended,
            sample.participants_departed,
        )
        live = (sample.rooms - self._abandoned, sample.participants)
        recent = self._recent(t_s, sample.rooms_ended + sample.connects_cancelled)
        found = []
        for resource, value, kinds in _values(sample):
            reading = Reading(t_s, value, *live, recent if resource.lags else 0, counts, kinds, self._collections)
            if resource is DESCRIPTORS:
                self.last = reading
            for place in range(len(UNITS)):
                alarm = self.tests[resource, place].add(reading)
                if alarm is not None:
                    found.append(Grown(resource, place, alarm))
        return found

    def _recent(self, t_s: float, ended: int) -> int:
        ends = self._ends
        if not ends or ends[-1][1] != ended:
            ends.append((t_s, ended))
        while len(ends) > 1 and ends[1][0] <= t_s - DESCRIPTORS.settle_s:
            ends.popleft()
        return ended - ends[0][1]


def _values(sample: ResourcesSampled) -> list[tuple[Resource, int, tuple[str, ...]]]:
    found: list[tuple[Resource, int, tuple[str, ...]]] = []
    if sample.ffi_handles >= 0:
        found.append((HANDLES, sample.ffi_handles - _count(sample.handles, _BUFFER), sample.handles))
    if sample.subscriptions >= 0:
        found.append((SUBSCRIPTIONS, sample.subscriptions, ()))
    if sample.tasks >= 0:
        found.append((TASKS, sample.tasks, ()))
    if sample.open_fds >= 0:
        found.append((DESCRIPTORS, sample.open_fds, ()))
    if len(sample.threads) > 1:
        found.append((THREADS, _count(sample.threads, _ALL) - _count(sample.threads, _TOKIO), sample.threads))
    return found


def _count(kinds: tuple[str, ...], prefix: str) -> int:
    return next((int(kind[len(prefix) :]) for kind in kinds if kind.startswith(prefix)), 0)
