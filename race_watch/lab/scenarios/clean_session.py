"""A session in which nothing goes wrong: join, publish, others come and go, unpublish, leave, rejoin, leave.

Exit 0 and nothing logged, on every version. With --no-control the others are a second client in this process, so that
it runs against a real livekit-server as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from _lab import Lab, microphone, parser, run, say, settle
from livekit import rtc

DEADLINE_S = 10.0
GUESTS = 3


async def until(condition: Callable[[], bool], what: str, every_s: float = 0.05) -> None:
    for _ in range(int(DEADLINE_S / every_s)):
        if condition():
            return
        await asyncio.sleep(every_s)
    raise TimeoutError(f"not within {DEADLINE_S:g} s: {what}")


async def scripted_guests(lab: Lab, room: rtc.Room) -> None:
    joined = await lab.server("add", count=GUESTS, tracks=2)
    await until(lambda: len(room.remote_participants) == GUESTS, "the guests are here")
    name = joined[0]["identity"]
    await lab.server("mute", identity=name)
    await lab.server("publish", identity=name)
    await lab.server("unpublish", identity=name)
    await until(lambda: not room.remote_participants[name].track_publications, "the guest's tracks are gone")
    await lab.server("remove")


async def real_guest(lab: Lab, room: rtc.Room) -> None:
    async with lab.joined(identity="guest") as guest:
        publication = await guest.local_participant.publish_track(microphone())
        await until(lambda: any(guest.track_publications for guest in room.remote_participants.values()), "a guest publishes")
        await guest.local_participant.unpublish_track(publication.sid)


async def visit(lab: Lab) -> None:
    async with lab.joined() as room:
        publication = await room.local_participant.publish_track(microphone())
        await settle()
        await (real_guest if lab.args.no_control else scripted_guests)(lab, room)
        await until(lambda: not room.remote_participants, "the guests are gone")
        await room.local_participant.unpublish_track(publication.sid)
        await settle()
    say("left")


async def scenario(lab: Lab) -> None:
    await visit(lab)
    await visit(lab)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--no-control", action="store_true", help="no scripted server: a second client is the guest")
    run(scenario, options)
