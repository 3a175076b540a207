"""Counts of this process at lifecycle edges: descriptors, native handles, rooms, participants.

Source: `FfiHandle` of `livekit.rtc._ffi_client` (0.18 to 1.2.0): a handle is live from `__init__` until `dispose`, or
`mark_consumed` where the native side took it (1.1.21 on); handle 0 is not one.
"""

from __future__ import annotations

import os
from typing import Any

from race_watch.clock import MONOTONIC_NS
from race_watch.events import ResourcesSampled
from race_watch.guard import Guard
from race_watch.hooks.patching import Patches
from race_watch.hooks.recorder import Recorder
from race_watch.hooks.rooms import Rooms

NAME = "resources"
TARGET = "livekit.rtc"
SUPPORTED = "livekit 0.18 to 1.2"

_FD_DIRECTORY = "/proc/self/fd"
# Lifecycle edges come in bursts: one sample tells as much as ten.
_INTERVAL_NS = 250_000_000


class Resources:
    """Samples the counts. Called in the loop's thread; 5 us a sample, at most four a second."""

    def __init__(self, recorder: Recorder, rooms: Rooms) -> None:
        self._recorder = recorder
        self._rooms = rooms
        self._next_ns = 0
        self.handles = -1

    def sample(self, *, now: bool = False) -> None:
        """States the counts unless they were stated just before; `now` does so in any case."""
        t_ns = MONOTONIC_NS()
        if t_ns < self._next_ns and not now:
            return
        self._next_ns = t_ns + _INTERVAL_NS
        rooms = self._rooms.live()
        participants = sum(len(room._remote_participants) for room in rooms)
        self._recorder.state(ResourcesSampled, open_fds(), self.handles, len(rooms), participants)


def open_fds() -> int:
    """How many descriptors this process has open; -1 where it cannot be told.

    Since Linux 6.2 the directory's size is the count, in constant time and without a free descriptor (so at EMFILE too).
    """
    try:
        count = os.stat(_FD_DIRECTORY).st_size
        return count if count else len(os.listdir(_FD_DIRECTORY)) - 1
    except OSError:
        return -1


def install(context: Any, module: Any, patches: Patches, guard: Guard) -> None:
    """Counts native handles as they are made and dropped."""
    from livekit.rtc import _ffi_client

    resources: Resources = context.resources
    resources.handles = len(getattr(_ffi_client, "_live_handles", ()))

    def wrap_init(original: Any) -> Any:
        def __init__(self: Any, handle: int) -> None:  # noqa: N807
            original(self, handle)
            if handle:
                resources.handles += 1

        return __init__

    def wrap_end(original: Any) -> Any:
        def end(self: Any) -> None:
            # Not there when __init__ never ran: `__del__` comes here all the same.
            if getattr(self, "_disposed", True) is False and self.handle:
                resources.handles -= 1
            original(self)

        return end

    patches.replace(_ffi_client.FfiHandle, "__init__", wrap_init)
    patches.replace(_ffi_client.FfiHandle, "dispose", wrap_end)
    if hasattr(_ffi_client.FfiHandle, "mark_consumed"):
        patches.replace(_ffi_client.FfiHandle, "mark_consumed", wrap_end)
