"""The tasks worth watching: those of the SDK and those that a room callback started, with the line that started them."""

from __future__ import annotations

import asyncio
import itertools
import operator
import os
import sys
import threading
from collections.abc import Iterator
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
# A default name with a number too short to be anybody's: not worth 4 us of scrubbing.
_PLAIN_NAME = 13
_DEAD_KEPT = 256
_FILES_KEPT = 4096
# 100 ns a task.
_COUNTED_AT_ONCE = 1000
_COUNTER = layout.COUNTER_INDEX["tasks_watched"]


class _Files(dict[str, bool]):
    """File name -> what is asked of it. Bounded: code made at run time may name a file each time."""

    def __missing__(self, path: str) -> bool:
        if len(self) >= _FILES_KEPT:
            self.clear()
        known = self[path] = self.tell(path)
        return known

    def tell(self, path: str) -> bool:
        raise NotImplementedError


class SdkFiles(_Files):
    """Whether the coroutines of a file are the SDK's."""

    def tell(self, path: str) -> bool:
        return _SDK_PART in path


class SiteFiles(_Files):
    """Whether a task can have been created in a file, that is, by code that is neither asyncio's nor ours."""

    def tell(self, path: str) -> bool:
        return not path.startswith(_NOT_A_SITE)


class Constructing(threading.local):
    """Tasks born in the constructors of the SDK that this thread is in, innermost last."""

    def __init__(self) -> None:
        self.stack: list[list[ref[Any]]] = []


class _Birth(ref):  # type: ignore[type-arg]
    """A weak reference to a task that carries what is known of it, as found: text is made of it when somebody asks.

    Attributes:
        number: Of the watched tasks of this process.
        name: At birth.
        coroutine: File and qualified name.
        site: File, function and line that created it.
        room: The room that this line belonged to; 0 if none or unknown.
    """

    __slots__ = ("coroutine", "name", "number", "room", "site")

    number: int
    name: str
    coroutine: tuple[str, str]
    site: tuple[str, str, int]
    room: int

    def coroutine_name(self) -> str:
        path, name = self.coroutine
        return f"{short_path(path)}:{clean(name)}"

    def created_at(self) -> str:
        path, function, line = self.site
        return f"{short_path(path)}:{clean(function)}:{line}" if path else ""


class Tasks:
    """Births of watched tasks, held weakly. Written by the loop's thread, read wherever a failure is seen."""

    def __init__(self, recorder: Recorder, rooms: Rooms) -> None:
        self.sdk_files = SdkFiles()
        self.constructing = Constructing()
        self._recorder = recorder
        self._rooms = rooms
        self._next = itertools.count(1).__next__
        # By address. The dead stay for a while: the collector clears weak references before it runs `Task.__del__`, which is
        # where a destroyed task is reported. Swept now and then, which costs a birth less than a callback for each death.
        self._births: dict[int, _Birth] = {}
        self._sweep_at = _DEAD_KEPT

    def born(self, task: Any, coro: CoroutineType[Any, Any, Any]) -> None:
        """Remembers a watched task. Called right after its creation, before it can have run."""
        births, address = self._births, id(task)
        known = births.get(address)
        if (known is not None and known() is task) or not isinstance(task, asyncio.Task):
            return
        self._recorder.count(_COUNTER)
        dispatch = self._rooms.dispatch
        birth = _Birth(task)
        birth.number = self._next()
        birth.name = task.get_name()
        birth.coroutine = coro.cr_code.co_filename, coro.__qualname__
        birth.room = (dispatch.now and dispatch.room) or self._rooms.joined()
        birth.site = _site()
        births[address] = birth
        stack = self.constructing.stack
        if stack:
            stack[-1].append(birth)
        if len(births) > self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        """Forgets the dead. Other threads and the collector may add births meanwhile."""
        births = self._births
        for address, birth in births.copy().items():
            if birth() is None and births.get(address) is birth:
                births.pop(address, None)
        self._sweep_at = 2 * len(births) + _DEAD_KEPT

    def pending_of_sdk(self) -> Iterator[int]:
        """How many tasks of the SDK are pending, piece by piece. For another thread than the loop's.

        Between a weak reference and its answer there are functions of C only: the interpreter switches threads between its own
        instructions, and a task whose last other reference went away then would be destroyed in the wrong thread.
        """
        born = [birth for birth in self._births.copy().values() if self.sdk_files[birth.coroutine[0]]]
        for start in range(0, len(born), _COUNTED_AT_ONCE):
            alive = filter(None, map(ref.__call__, born[start : start + _COUNTED_AT_ONCE]))
            yield sum(map(operator.not_, map(asyncio.Task.done, alive)))

    def _birth(self, task: Any) -> _Birth | None:
        found = self._births.get(id(task))
        return found if found is not None and found() is task else None

    def _any_birth(self, task: Any) -> _Birth | None:
        """Also that of a task being destroyed: its weak reference is dead already.

        An unwatched task may stand where a watched one has died: it has another coroutine or another default name.
        """
        found = self._births.get(id(task))
        if found is None or found() is task:
            return found
        name = task.get_name()
        same = found() is None and (name == found.name or not name.startswith("Task-"))
        return found if same and found.coroutine_name() == coroutine_name(task.get_coro()) else None

    def describe(self, task: Any, *, destroyed: bool = False) -> tuple[str, str, str, str]:
        """(key, name, coroutine, created at) of a task; key, coroutine and site are empty if it is not watched.

        The name is the one it has now: up to 3.12 `asyncio.create_task` sets it after the birth.
        """
        if not isinstance(task, asyncio.Task):
            return NO_TASK
        name = task.get_name()
        if not (name.startswith("Task-") and name[5:].isdecimal() and len(name) < _PLAIN_NAME):
            name = self._recorder.scrub(clean(name))[:_NAME_KEPT]
        birth = self._any_birth(task) if destroyed else self._birth(task)
        if birth is None:
            return "", name, "", ""
        return f"t{birth.number}", name, birth.coroutine_name(), birth.created_at()

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


_site_files = SiteFiles()


def _site() -> tuple[str, str, int]:
    """File, function and line of the nearest frame that is neither asyncio's nor ours; empty if there is none near."""
    # Above are this function, `born`, its guard and the wrap of `create_task`. Asked for by depth: each frame that is looked at
    # becomes an object, which costs 250 to 600 ns.
    for depth in range(4, 4 + _SITE_DEPTH):
        try:
            frame = sys._getframe(depth)
        except ValueError:
            break
        code = frame.f_code
        if _site_files[code.co_filename]:
            return code.co_filename, code.co_name, frame.f_lineno
    return "", "", 0
