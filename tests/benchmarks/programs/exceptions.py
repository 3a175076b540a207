"""A room event for a participant who is gone: the SDK raises a KeyError and logs it, as `Room._listen_task` does."""

from __future__ import annotations

import asyncio
import logging
import sys

import rooms
from turns import each_in_loop


def main(operations: str) -> None:
    logging.getLogger().addHandler(logging.NullHandler())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    room = rooms.unconnected_room()
    event = rooms.disconnected()

    async def dispatch(count: int) -> None:
        for _ in range(count):
            try:
                room._on_room_event(event)
            except Exception:
                logging.exception("error running user callback for %s: %s", event.WhichOneof("message"), event)

    each_in_loop(dispatch, int(operations), loop)


main(*sys.argv[1:])
