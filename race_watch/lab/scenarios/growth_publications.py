"""Participants come into a room with their publications and leave again; with --keep the application keeps those for ever.

Kept, each departure leaves its publications' native handles behind, which the Python SDK frees otherwise. No error is logged
either way. It stays --stay seconds after the last one has left: the counts are then what they will be.
"""

from __future__ import annotations

import asyncio
import time

from _lab import Lab, parser, run, say
from clean_session import until
from livekit import rtc


def published(room: rtc.Room) -> int:
    return sum(len(participant.track_publications) for participant in room.remote_participants.values())


async def scenario(lab: Lab) -> None:
    args = lab.args
    kept: list[rtc.RemoteTrackPublication] = []
    async with lab.joined() as room:
        if args.keep:
            room.on("track_published", lambda publication, _: kept.append(publication))
        left = 0
        while left < args.departures:
            began_s = time.monotonic()
            batch = min(args.batch, args.departures - left)
            await lab.server("add", count=batch, tracks=args.tracks)
            await until(lambda batch=batch: published(room) == batch * args.tracks, "they are here", every_s=0.01)
            await asyncio.sleep((args.pace - (time.monotonic() - began_s)) / 2)
            await lab.server("remove")
            await until(lambda: not room.remote_participants, "they are gone", every_s=0.01)
            left += batch
            await asyncio.sleep(args.pace - (time.monotonic() - began_s))
        say(f"{left} left; kept {len(kept)} publications")
        await asyncio.sleep(args.stay)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--departures", type=int, default=200)
    options.add_argument("--batch", type=int, default=1, help="how many come and leave together")
    options.add_argument("--tracks", type=int, default=2, help="publications of each")
    options.add_argument("--pace", type=float, default=0.25, help="seconds from one coming to the next, at least")
    options.add_argument("--stay", type=float, default=3.0, help="seconds after the last one has left")
    options.add_argument("--keep", action="store_true", help="keep the publications of those who have left")
    run(scenario, options)
