"""The counting thread: what takes too long for a loop's thread is looked at here, in steps of at most 1 ms.

It starts when a room connects, so no process that only forks others ever has it, and a fork's child starts its own.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from race_watch.events import LIST_SEP, DescriptorsClassified
from race_watch.guard import Guard
from race_watch.hooks import threads
from race_watch.hooks.abandoned_rooms import AbandonedRooms
from race_watch.hooks.descriptors import fd_limit, listed_fds, open_fds
from race_watch.hooks.patching import Patches
from race_watch.hooks.recorder import Recorder
from race_watch.hooks.resources import Resources
from race_watch.hooks.rooms import Rooms
from race_watch.hooks.tasks import Tasks

NAME = "counting"
TARGET = "livekit.rtc"
SUPPORTED = "livekit 0.18 to 1.2"

THREAD_NAME = "race_watch-counts"
# Between two steps everybody else has the interpreter.
_PAUSE_S = 0.005
_STOP_S = 1.0
# A step opens one file at a time, and is not to be the one that takes the last descriptor.
_SPARE_FDS = 32
# What the count must have grown by to be classified again: this many, or this part of it.
_GROWN_BY, _GROWN_PART = 4, 16

Classify = Callable[[], Iterator[tuple[dict[str, int], bool] | None]]


class Counting:
    """The thread and what it remembers from one look to the next."""

    def __init__(self, recorder: Recorder, rooms: Rooms, tasks: Tasks, resources: Resources, every_s: float) -> None:
        self._recorder = recorder
        self._rooms = rooms
        self._tasks = tasks
        self._resources = resources
        self._every_s = every_s
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._look: Callable[[threading.Event], None] | None = None
        self._classify: Classify | None = None
        self._abandoned = AbandonedRooms()
        self._classified_at = 0
        self._who_holds: Callable[[], None] | None = None

    def enable(self, guard: Guard, classify: Classify, who_holds: Callable[[], None] | None = None) -> None:
        """From now on `start` starts it. `who_holds` looks at native handles, if somebody wants to know."""
        self._classify = classify
        self._who_holds = who_holds
        self._look = guard.wrap(self._steps_with_pauses)

    def start(self) -> None:
        """Starts the thread unless it runs. Called in a loop's thread, when a room has connected."""
        # A thread that is started while the interpreter ends never runs, and its start waits for that.
        if self._look is None or (self._thread is not None and self._thread.is_alive()) or sys.is_finalizing():
            return
        try:
            thread = threading.Thread(target=_run, args=(self._stop, self._every_s, self._look), name=THREAD_NAME, daemon=True)
            thread.start()
        except RuntimeError:
            # A subinterpreter, no more threads to be had, or the interpreter ends: the counts at the edges remain.
            return
        self._thread = thread

    def stop(self) -> None:
        """Ends the thread and waits for it, which takes no longer than a step."""
        self._look = None
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_S)

    def forked(self) -> None:
        """In a fork's child, where there is no thread; the parent's event may be locked for ever."""
        self._thread = None
        self._stop = threading.Event()
        self._abandoned = AbandonedRooms()
        self._classified_at = 0

    def _steps_with_pauses(self, stop: threading.Event) -> None:
        for _ in self._steps():
            if stop.wait(_PAUSE_S):
                return

    def _steps(self) -> Iterator[None]:
        """One look at everything."""
        count = open_fds(listed_fds)
        self._resources.listed_fds = count
        limit = self._resources.fd_limit = fd_limit()
        yield
        tasks = 0
        for pending in self._tasks.pending_of_sdk():
            tasks += pending
            yield
        named: dict[str, int] | None = {}
        if 0 <= count < limit - _SPARE_FDS or limit < 0:
            for found in threads.classified(but=threading.get_native_id()):
                named = found
                yield
        abandoned = self._abandoned.look(self._rooms.connected_now())
        yield
        counted = f"all={threads.thread_count()}{_field(named or {})}"
        self._resources.state(0, tasks, counted, abandoned, gc.get_stats()[-1]["collections"])
        yield
        if self._has_grown(count) and self._classify is not None:
            for walked in self._classify():
                if walked is not None:
                    kinds, complete = walked
                    self._recorder.state(DescriptorsClassified, _field(kinds)[1:], int(complete))
                yield
        if self._who_holds is not None:
            self._who_holds()

    def _has_grown(self, count: int) -> bool:
        """Whether the count has grown since the descriptors were last classified, or has fallen since and grown from there."""
        if count < self._classified_at:
            self._classified_at = count
        if count < self._classified_at + max(_GROWN_BY, self._classified_at // _GROWN_PART):
            return False
        self._classified_at = count
        return True


def _field(counts: dict[str, int]) -> str:
    """`kind=count` for each, each behind a separator."""
    return "".join([f"{LIST_SEP}{kind}={counts[kind]}" for kind in sorted(counts)])


def _run(stop: threading.Event, every_s: float, look: Callable[[threading.Event], None]) -> None:
    while not stop.wait(every_s):
        look(stop)


def install(context: Any, module: Any, patches: Patches, guard: Guard) -> None:
    """Lets the thread start when a room connects."""
    # Here, since it needs ctypes and socket: LiveKit has imported both.
    from race_watch.hooks.descriptor_kinds import classified

    who_holds = None
    if context.resources.handles.objects is not None:
        from race_watch.hooks.referrers import Referrers

        who_holds = Referrers(context.recorder, context.resources.handles).look
    context.counting.enable(guard, classified, who_holds)
    patches.on_undo(context.counting.stop)
