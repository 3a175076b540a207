"""Rooms by number: held weakly, found by handle and by track, told apart where there are several."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import Any

import pytest
from arming import in_thread
from sdk_runs import SdkRuns, versions

from race_watch.events import RoomConnected, RoomEventDispatched
from race_watch.hooks.rooms import Rooms


class Handle:
    def __init__(self, handle: int) -> None:
        self.handle = handle


class Publication:
    def __init__(self, sid: str, handle: int = 0) -> None:
        self.sid = sid
        self._track = type("Track", (), {"_ffi_handle": Handle(handle)})() if handle else None


class Participant:
    def __init__(self, handle: int, *publications: Publication) -> None:
        self._ffi_handle = Handle(handle)
        self._track_publications = {publication.sid: publication for publication in publications}


class Room:
    """What of a room is looked at."""

    def __init__(self, handle: int = 0, local: Participant | None = None, **remote: Participant) -> None:
        self._ffi_handle = Handle(handle) if handle else None
        self._local_participant = local
        self._remote_participants = remote


def alone(body: Any) -> None:
    """In a context of its own: which room a task has joined is kept in one."""
    contextvars.Context().run(body)


def test_numbers_are_given_once_from_one() -> None:
    rooms, one, two = Rooms(), Room(), Room()
    assert [rooms.number(room) for room in (one, two, one)] == [1, 2, 1]


def test_rooms_are_not_kept() -> None:
    rooms, room = Rooms(), Room(1, Participant(2))

    contextvars.Context().run(rooms.connected, room)
    reference = weakref.ref(room)
    gc.disable()
    try:
        del room
        assert reference() is None
    finally:
        gc.enable()
    assert rooms.live() == []
    assert rooms.number(Room()) == 2


def test_handle_leads_to_its_room() -> None:
    rooms = Rooms()
    first = Room(1, Participant(2, Publication("TR_a", 3), Publication("TR_b")))
    second = Room(4, Participant(5), jane=Participant(6, Publication("TR_c", 7)))
    third = Room()
    for room in (first, second, third):
        rooms.number(room)
    assert [rooms.of_handle(handle) for handle in range(9)] == [0, 1, 1, 1, 2, 2, 0, 2, 0]


def test_track_leads_to_the_connected_room_that_has_it() -> None:
    rooms = Rooms()
    first, second = Room(1, Participant(2, Publication("TR_a"))), Room(3, None, jane=Participant(4, Publication("TR_b")))

    def body() -> None:
        rooms.number(first)
        rooms.connected(second)
        assert [rooms.of_track(sid) for sid in ("TR_a", "TR_b", "")] == [0, 2, 0]
        rooms.connected(first)
        assert rooms.of_track("TR_a") == 1
        rooms.disconnected(first)
        assert rooms.of_track("TR_a") == 0

    alone(body)


def test_only_room_is_meant_where_nothing_tells() -> None:
    rooms, one, two = Rooms(), Room(), Room()
    assert rooms.only() == 0
    assert rooms.number(one) == rooms.only() == 1

    def body() -> None:
        rooms.connected(two)
        assert rooms.only() == 2
        rooms.connected(one)
        assert rooms.only() == 0
        rooms.disconnected(two)
        assert rooms.only() == 1
        rooms.disconnected(one)
        assert rooms.only() == 0

    alone(body)


def tally(rooms: Rooms) -> tuple[int, int, int]:
    return rooms.tally.rooms_ended, rooms.tally.participants_departed, rooms.tally.server_leaves


def test_room_ends_once_and_those_in_it_depart_with_it() -> None:
    rooms, room = Rooms(), Room(jane=Participant(1), joe=Participant(2), ann=Participant(3))

    def body() -> None:
        rooms.departed(room)
        assert tally(rooms) == (0, 0, 0)
        rooms.connected(room)
        del room._remote_participants["joe"]
        rooms.departed(room)
        assert tally(rooms) == (0, 1, 0)
        rooms.leaves(room, leaving=True)
        rooms.disconnected(room)
        rooms.disconnected(room)
        rooms.departed(room)
        assert tally(rooms) == (1, 3, 0)

    alone(body)


def test_room_that_ends_without_the_application_is_a_server_leave() -> None:
    rooms, server, own, refused = Rooms(), Room(), Room(), Room()

    def body() -> None:
        for room in (server, own, refused):
            rooms.connected(room)
        rooms.leaves(own, leaving=True)
        rooms.leaves(refused, leaving=True)
        rooms.leaves(refused, leaving=False)
        for room in (server, own, refused):
            rooms.disconnected(room)
        assert tally(rooms) == (3, 0, 2)

    alone(body)


def test_child_of_a_fork_begins_its_totals_anew() -> None:
    rooms, ended, live = Rooms(), Room(), Room()

    def body() -> None:
        rooms.connected(ended)
        rooms.disconnected(ended)
        rooms.connected(live)
        rooms.forked()
        assert tally(rooms) == (0, 0, 0)
        assert rooms.live() == []
        assert rooms.number(Room()) == 3

    alone(body)


def test_dispatch_of_one_thread_is_not_that_of_another() -> None:
    rooms = Rooms()
    rooms.dispatch.room = 7
    seen: list[int] = []
    in_thread(lambda: seen.append(rooms.dispatch.room))
    assert seen == [0]
    assert rooms.around() == 7


def test_tasks_inherit_the_room_that_was_joined_before_they_started() -> None:
    rooms, one, two = Rooms(), Room(), Room()

    async def around() -> int:
        return rooms.around()

    async def joins(room: Room) -> int:
        rooms.connected(room)
        await asyncio.sleep(0.001)
        return await asyncio.create_task(around())

    async def main() -> None:
        assert await asyncio.gather(joins(one), joins(two)) == [1, 2]
        assert await asyncio.create_task(around()) == 0

    alone(lambda: asyncio.run(main()))


@pytest.mark.parametrize("version", versions())
def test_two_rooms_of_the_real_sdk_are_told_apart(sdk_runs: SdkRuns, version: str) -> None:
    run = sdk_runs.watched(version)
    names = {event.room: event.name for event in run.seen(RoomConnected)}
    assert sorted(names.values()) == ["lab-one", "lab-two"]
    sids = {names[event.room]: event.sid for event in run.seen(RoomEventDispatched) if event.event == "room_sid_changed"}
    assert sids.get("lab-one", run.story["rooms"][1]) == run.story["rooms"][1]
    assert len(set(sids.values())) == len(sids)
