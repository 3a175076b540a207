"""Connected rooms that the application has let go of without disconnecting them: only the SDK still refers to them.

A connected `Room` is pinned by its own listen task: the suspended frame of `Room._listen_task` holds it, and nothing else of
the SDK does (tracks know their room weakly). So a count of one reference, while that task runs, means that nobody can
disconnect it any more. A room that one of its own callbacks refers to is taken to be held.
Source: `livekit/rtc/room.py:Room.connect, _listen_task` and `track.py:Track._set_room` of livekit 1.0.25 to 1.2.0.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any
from weakref import ref

# Looks in a row; whoever handles a room right now holds it for a moment only.
_LOOKS = 3

# Only functions of C between a weak reference and a number: the interpreter switches threads between its own instructions, and
# a room whose last other reference went away then would be finalized in this thread, not in its own.
_object: Callable[[Any], Any] = ref.__call__
_listen_task = attrgetter("_task")
_done = asyncio.Task.done


class _Held:
    pass


class AbandonedRooms:
    """Looks at the connected rooms again and again. For one thread.

    Attributes:
        told: False where reference counts tell nothing: without the GIL, some are deferred.
    """

    def __init__(self) -> None:
        held = _Held()
        (self._one_reference,) = _references([ref(held)])
        self._looks: dict[int, int] = {}
        self.told: bool = getattr(sys, "_is_gil_enabled", lambda: True)()

    def look(self, rooms: Iterable[tuple[Any, int]]) -> int:
        """How many of the rooms, given as weak references and numbers, are abandoned; -1 where it cannot be told."""
        if not self.told:
            return -1
        before = self._looks
        self._looks = {number: before.get(number, 0) + 1 for reference, number in rooms if self._alone(reference)}
        return sum(looks >= _LOOKS for looks in self._looks.values())

    def _alone(self, reference: Any) -> bool:
        try:
            return not any(map(_done, map(_listen_task, map(_object, (reference,))))) and (
                _references([reference]) == [self._one_reference]
            )
        except (AttributeError, TypeError):
            # Collected meanwhile, or a Room that has no such task.
            return False


def _references(weak: list[Any]) -> list[int]:
    return list(map(sys.getrefcount, map(_object, weak)))
