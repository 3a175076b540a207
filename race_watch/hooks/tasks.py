"""The tasks worth watching: those of the SDK and those that a room callback started, with the line that started them."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import threading
from collections import deque
from types import CoroutineType
from typing import Any
from weakref import ref

from race_watch.events import clean
from race_watch.hooks.exceptions import OURS, short_path
from race_watch.hooks.recorder import Recorder
from race_watch.hooks.rooms import NO_TASK, Rooms
from race_watch.journal import layout

_SDK_PART = f"{os.sep}livekit{os.sep}"
_NOT_A_SITE = (os.path.dirname(asyncio.__file__) + os.sep, *OURS)
_SITE_DEPTH = 12
_NAME_KEPT = 80
_DEAD_KEPT = 256


class SdkFiles(dict[str, bool]):
    """File name -> whether its coroutines are the SDK's. As large as the program has source files with coroutines."""

    def __missing__(self, path: str) -> bool:
        known = self[path] = _SDK_PART in path
        return known


class Constructing(threading.local):
    """Tasks born in the constructors of the SDK that this thread is in, innermost last."""

    def __init__(self) -> None:
        self.stack: list[list[ref[Any]]] = []


class _Birth(ref):  # type: ignore[type-arg]
    """A weak reference to a task that carries what is known of it: (key, name, coroutine, created at) and the room."""

    __slots__ = ("facts", "id", "room")

    facts: tuple[str, str, str, str]
    id: int
    room: int


class Tasks:
    """Births of watched tasks, held weakly. Written by the loop's thread, read wherever a failure is seen."""

    def __init__(self, recorder: Recorder, rooms: Rooms) -> None:
        self.sdk_files = SdkFiles()
        self.constructing = Constructing()
        self._recorder = recorder
        self._rooms = rooms
        self._next = itertools.count(1).__next__
        self._births: dict[int, _Birth] = {}
        # The collector clears weak references before it runs `Task.__del__`, which is where a destroyed task is reported.
        self._dead: deque[_Birth] = deque(maxlen=_DEAD_KEPT)

    def born(self, task: Any, coro: CoroutineType[Any, Any, Any]) -> None:
        """Remembers a watched task. Called right after its creation, before it can have run."""
        if self._birth(task) is not None:
            return
        self._recorder.count(layout.COUNTER_INDEX["tasks_watched"])
        birth = _Birth(task, self._died)
        birth.id = id(task)
        birth.room = self._rooms.dispatch.room or self._rooms.joined()
        name = clean(task.get_name())[:_NAME_KEPT]
        birth.facts = (f"t{self._next()}", name, coroutine_name(coro), _site())
        self._births[birth.id] = birth
        if self.constructing.stack:
            self.constructing.stack[-1].append(birth)

    def _died(self, birth: _Birth) -> None:
        """A weak reference's callback: runs in the collector, where an exception would be printed. Single steps only."""
        if self._births.get(birth.id) is birth:
            self._births.pop(birth.id, None)
            self._dead.append(birth)

    def _birth(self, task: Any) -> _Birth | None:
        found = self._births.get(id(task))
        return found if found is not None and found() is task else None

    def _any_birth(self, task: Any) -> _Birth | None:
        """Also that of a task being destroyed: the newest death at its address, nobody having been born there since."""
        found = self._birth(task)
        if found is None and id(task) not in self._births:
            return next((birth for birth in reversed(self._dead) if birth.id == id(task)), None)
        return found

    def describe(self, task: Any, *, destroyed: bool = False) -> tuple[str, str, str, str]:
        """(key, name, coroutine, created at) of a task; key, coroutine and site are empty if it is not watched."""
        birth = self._any_birth(task) if destroyed else self._birth(task)
        if birth is not None:
            return birth.facts
        return ("", clean(task.get_name())[:_NAME_KEPT], "", "") if isinstance(task, asyncio.Task) else NO_TASK

    def room_of(self, task: Any, *, destroyed: bool = False) -> int:
        """The room that the code which started the task belonged to; 0 if none or unknown."""
        birth = self._any_birth(task) if destroyed else self._birth(task)
        return birth.room if birth is not None else 0

    def current(self) -> Any:
        """The running task of this thread, or None."""
        try:
            return asyncio.current_task()
        except RuntimeError:
            return None


def coroutine_name(coro: Any) -> str:
    """`path:qualified name` of a coroutine, running or closed; empty for what is not a native coroutine."""
    code = getattr(coro, "cr_code", None)
    return f"{short_path(code.co_filename)}:{clean(coro.__qualname__)}" if code is not None else ""


def _site() -> str:
    """`path:function:line` of the nearest frame that is neither asyncio's nor ours."""
    frame = sys._getframe(2)
    for _ in range(_SITE_DEPTH):
        if not frame.f_code.co_filename.startswith(_NOT_A_SITE):
            return f"{short_path(frame.f_code.co_filename)}:{frame.f_code.co_name}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return ""
