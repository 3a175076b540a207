"""What is read of a process at one moment: counts of resources, what is live, and what has departed until then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Unit:
    """What a leak can be counted by.

    Attributes:
        rare: Such an event is a mishap in itself, and a hundred times rarer than a participant who leaves.
    """

    name: str
    rare: bool


PARTICIPANT = Unit("participant", False)
ROOM = Unit("room", False)
CANCELLED_CONNECT = Unit("cancelled connect", True)
SERVER_LEAVE = Unit("server leave", True)
ABANDONED_ROOM = Unit("abandoned room", True)
FAILED_CONNECT = Unit("failed connect", True)
# Where several explain the growth equally well the first of them is named: the most particular one.
UNITS = (ABANDONED_ROOM, CANCELLED_CONNECT, FAILED_CONNECT, SERVER_LEAVE, ROOM, PARTICIPANT)


@dataclass(frozen=True, slots=True)
class Resource:
    """A count that may leak.

    Attributes:
        settle_s: What a departure leaves behind may take so long to go.
        lags: It does take long (native teardown): readings are compared at equal numbers of recent departures.
        doubt: What one rise that is no larger than noise may say for a leak, as odds. Descriptors and threads are anybody's.
    """

    name: str
    category: str
    settle_s: float
    lags: bool
    doubt: float


HANDLES = Resource("handles", "handle_leak", 1.0, False, 8.0)
SUBSCRIPTIONS = Resource("subscriptions", "subscription_leak", 1.0, False, 8.0)
TASKS = Resource("tasks", "task_leak", 5.0, False, 8.0)
DESCRIPTORS = Resource("fds", "fd_leak", 15.0, True, 3.0)
THREADS = Resource("threads", "thread_leak", 15.0, True, 3.0)
RESOURCES = (HANDLES, SUBSCRIPTIONS, TASKS, DESCRIPTORS, THREADS)


class Reading(NamedTuple):
    """One resource at one moment.

    Attributes:
        rooms: Live ones, without those that nothing but the SDK refers to.
        recent: Rooms that ended just before, of which native code may still be letting go; 0 for a resource that does not lag.
        counts: How many of each of `UNITS` there have been.
        kinds: `kind=count`, as far as they were told.
        collections: Full garbage collections so far.
    """

    t_s: float
    value: int
    rooms: int
    participants: int
    recent: int
    counts: tuple[int, ...]
    kinds: tuple[str, ...] = ()
    collections: int = -1

    @property
    def load(self) -> tuple[int, int, int]:
        return self.rooms, self.participants, self.recent
