"""A task of the application touches `room.local_participant` before the room is connected (races row 5's family).

All versions: `Exception('cannot access local participant before connecting')` propagates through the task to whoever
awaits it. It is caught here, so a bare run logs nothing; the room then connects and leaves as if nothing had been.
"""

from __future__ import annotations

import asyncio

from _lab import Lab, caught, parser, run, say
from livekit import rtc


async def announce(room: rtc.Room) -> None:
    say(f"I am {room.local_participant.identity}")


async def scenario(lab: Lab) -> None:
    room = rtc.Room()
    with caught(Exception):
        await asyncio.create_task(announce(room))
    await lab.connect(room)
    await announce(room)
    await room.disconnect()


if __name__ == "__main__":
    run(scenario, parser(__doc__))
