"""Counts of this process, stated at lifecycle edges from the loop's thread and in between from the counting thread.

Source: `FfiClient._instance` and `FfiQueue._subscribers` of `livekit.rtc._ffi_client` (0.18 to 1.2.0).
"""

from __future__ import annotations

import sys

from race_watch.clock import MONOTONIC_NS
from race_watch.events import ResourcesSampled
from race_watch.hooks.descriptors import fd_limit, open_fds
from race_watch.hooks.ffi_handles import FfiHandles
from race_watch.hooks.recorder import Recorder
from race_watch.hooks.rooms import Rooms

# Lifecycle edges come in bursts, of which one sample tells as much as all.
_INTERVAL_NS = 100_000_000
_UNKNOWN = -1


class Resources:
    """States the counts: 10 us a sample, and the same with ten of a thing or thousands. Only rooms are gone through.

    Attributes:
        fd_limit: As last read by the counting thread.
        listed_fds: The open descriptors, as last listed by the counting thread, for kernels that do not count them.
    """

    def __init__(self, recorder: Recorder, rooms: Rooms) -> None:
        self._recorder = recorder
        self._rooms = rooms
        self._next_ns = 0
        self.handles = FfiHandles(recorder)
        self.fd_limit = fd_limit()
        self.listed_fds = _UNKNOWN

    def sample(self, *, now: bool = False) -> None:
        """At a lifecycle edge: states the counts unless they were stated just before; `now` does so in any case."""
        t_ns = MONOTONIC_NS()
        if t_ns < self._next_ns and not now:
            return
        self._next_ns = t_ns + _INTERVAL_NS
        self.state(1, _UNKNOWN, "", _UNKNOWN, _UNKNOWN)

    def state(self, edge: int, tasks: int, threads: str, abandoned: int, collections: int) -> None:
        """States what can be told at once, and what the counting thread has looked at."""
        rooms = self._rooms.live()
        participants = sum([len(room._remote_participants) for room in rooms])
        handles, tally = self.handles, self._rooms.tally
        # As `ResourcesSampled.body` would; it takes 2 us more.
        self._recorder.emit(
            ResourcesSampled.code,
            f"{edge}\x1f{open_fds(self._listed)}\x1f{self.fd_limit}\x1f{len(handles.live) if handles.known else _UNKNOWN}"
            f"\x1f{len(rooms)}\x1f{participants}\x1f{tally.rooms_ended}\x1f{tally.participants_departed}\x1f{tally.connects}"
            f"\x1f{tally.connects_cancelled}\x1f{tally.server_leaves}\x1f{handles.by_kind()}\x1f{subscriptions()}\x1f{tasks}"
            f"\x1f{threads}\x1f{abandoned}\x1f{collections}",
        )

    def _listed(self) -> int:
        return self.listed_fds


def subscriptions() -> int:
    """Subscribers of the native event queue; -1 where it cannot be told. Never makes the client, which has the queue."""
    client = getattr(sys.modules.get("livekit.rtc._ffi_client"), "FfiClient", None)
    instance = getattr(client, "_instance", None)
    if instance is None:
        return 0 if client is not None else _UNKNOWN
    try:
        return len(instance._queue._subscribers)
    except AttributeError:
        return _UNKNOWN
