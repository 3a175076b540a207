"""The server ends rooms in which an audio track is published, one after the other (races row 68).

Nothing of a room is kept. 1.1.17 and older leave a thread behind for each, 1.1.19 to 1.1.21 five threads and three descriptors,
1.2.0 nothing.
"""

from __future__ import annotations

import asyncio

from _lab import Lab, microphone, parser, run, say, settle
from clean_session import until
from livekit import rtc


async def ended(lab: Lab, name: str) -> None:
    room = await lab.connect(rtc.Room(), name=name)
    await room.local_participant.publish_track(microphone())
    await settle()
    await lab.server("leave", room=name, identity="agent")
    await until(lambda: not room.isconnected(), "the room has ended")


async def scenario(lab: Lab) -> None:
    async with lab.joined(name=f"{lab.room_name}-left"):
        await settle()
    await asyncio.sleep(lab.args.quiet)
    for number in range(lab.args.rooms):
        await ended(lab, f"{lab.room_name}-{number}")
        await asyncio.sleep(lab.args.pause)
    say(f"{lab.args.rooms} rooms ended")
    await asyncio.sleep(lab.args.stay)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--rooms", type=int, default=6)
    options.add_argument("--quiet", type=float, default=16.0, help="seconds before the first")
    options.add_argument("--pause", type=float, default=14.0, help="seconds after each: native teardown takes so long")
    options.add_argument("--stay", type=float, default=22.0, help="seconds after the last")
    run(scenario, options)
