"""Room events into the SDK's dispatch. Argument: `muted`, `participant` or `quality`."""

from __future__ import annotations

import asyncio
import sys

import rooms
from turns import each_in_loop

OPERATIONS = 1000


def main(kind: str) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    room = rooms.unconnected_room()
    pair = {
        "muted": (rooms.muted(), rooms.unmuted()),
        "participant": (rooms.connected(), rooms.disconnected()),
        "quality": (rooms.quality(), rooms.quality()),
    }[kind]
    if kind != "participant":
        for event in (rooms.connected(), rooms.published()):
            room._on_room_event(event)

    async def dispatch(operations: int) -> None:
        for _ in range(operations // 2):
            for event in pair:
                room._on_room_event(event)

    each_in_loop(dispatch, OPERATIONS, loop)


main(*sys.argv[1:])
