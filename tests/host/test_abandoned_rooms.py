"""Connected rooms that nobody but the SDK refers to: told by their reference counts, after several looks, holding none."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Awaitable, Callable

import pytest
from arming import in_thread

from race_watch.hooks import abandoned_rooms
from race_watch.hooks.abandoned_rooms import AbandonedRooms

LOOKS = abandoned_rooms._LOOKS
# The native event queue, which pins the tasks that wait for it. Without it the collector may take a room with its task.
WAITING: set[asyncio.Task[None]] = set()


class Room:
    """Pinned by its own task, as the SDK's is."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.left = asyncio.Event()
        self.callbacks: list[object] = []
        self._task = asyncio.ensure_future(self._listen_task())
        WAITING.add(self._task)
        self._task.add_done_callback(WAITING.discard)

    async def _listen_task(self) -> None:
        await self.left.wait()
        print(self.name, end="")


def looks(abandoned: AbandonedRooms, *rooms: weakref.ref[Room]) -> list[int]:
    """What each of as many looks as it takes comes to, seen from another thread as in production."""
    told: list[int] = []
    pairs = list(zip(rooms, range(1, 1 + len(rooms)), strict=True))
    for _ in range(LOOKS):
        in_thread(lambda: told.append(abandoned.look(pairs)))
    return told


async def begun(room: Room) -> weakref.ref[Room]:
    await asyncio.sleep(0)
    return weakref.ref(room)


def case(body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await body()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run(main())


def test_room_that_nobody_refers_to_is_abandoned_after_several_looks() -> None:
    async def body() -> None:
        room = await begun(Room())
        assert looks(AbandonedRooms(), room) == [0] * (LOOKS - 1) + [1]

    case(body)


@pytest.mark.parametrize("way", ["a local variable", "a list", "an attribute", "a closure", "a pending task"])
def test_room_that_the_application_refers_to_is_not(way: str) -> None:
    async def holds(room: Room) -> None:
        await asyncio.sleep(60)
        print(room)

    async def body() -> None:
        room = Room()
        kept: object = None
        if way == "a list":
            kept = [room]
        elif way == "an attribute":
            kept = type("Bot", (), {})()
            kept.room = room  # type: ignore[attr-defined]
        elif way == "a closure":
            kept = lambda room=room: room  # noqa: E731
        elif way == "a pending task":
            kept = asyncio.ensure_future(holds(room))
        reference = await begun(room)
        if way != "a local variable":
            del room
        assert looks(AbandonedRooms(), reference) == [0] * LOOKS
        assert way == "a local variable" or kept

    case(body)


def test_room_whose_callback_refers_to_it_is_taken_to_be_held() -> None:
    async def body() -> None:
        room = Room()
        room.callbacks.append(lambda room=room: room)
        reference = await begun(room)
        del room
        assert looks(AbandonedRooms(), reference) == [0] * LOOKS

    case(body)


def test_room_whose_task_has_ended_is_held_by_whoever_holds_it() -> None:
    async def body() -> None:
        room = Room()
        room.left.set()
        await room._task
        assert looks(AbandonedRooms(), weakref.ref(room)) == [0] * LOOKS

    case(body)


def test_room_that_is_handled_again_begins_anew() -> None:
    async def body() -> None:
        abandoned, reference = AbandonedRooms(), await begun(Room())
        assert looks(abandoned, reference)[-1] == 1
        held = reference()
        assert abandoned.look([(reference, 1)]) == 0
        del held
        assert looks(abandoned, reference) == [0] * (LOOKS - 1) + [1]

    case(body)


def test_rooms_are_told_apart_and_those_that_ended_are_forgotten() -> None:
    async def body() -> None:
        abandoned, kept = AbandonedRooms(), Room("kept")
        rooms = [await begun(Room("one")), await begun(kept), await begun(Room("two"))]
        assert looks(abandoned, *rooms)[-1] == 2
        assert abandoned.look([(rooms[0], 1)]) == 1
        assert list(abandoned._looks) == [1]

    case(body)


def test_room_that_is_gone_or_has_no_task_is_no_error() -> None:
    class Other:
        pass

    other = Other()
    gone = weakref.ref(Other())
    assert AbandonedRooms().look([(gone, 1), (weakref.ref(other), 2)]) == 0


def test_look_leaves_no_reference_behind() -> None:
    async def body() -> None:
        room = Room()
        reference = await begun(room)
        before = sys.getrefcount(room)
        looks(AbandonedRooms(), reference)
        assert sys.getrefcount(room) == before
        room.left.set()
        await room._task
        gc.disable()
        try:
            del room
            await asyncio.sleep(0)
            assert reference() is None
        finally:
            gc.enable()

    case(body)


def test_without_the_gil_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert AbandonedRooms().look([]) == -1
