"""Lifecycle traffic: rooms in which participants come with a track and go, and the agent publishes and rejoins.

For benches and kill tests. Exit 0 and nothing logged; the last line counts what was done.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from _lab import Lab, microphone, parser, run, say, settle


async def one_room(lab: Lab, name: str, deadline_s: float, done: Counter[str]) -> None:
    names = [f"guest-{number}" for number in range(lab.args.participants)]
    while time.monotonic() < deadline_s:
        async with lab.joined(name=name) as room:
            done["joins"] += 1
            publication = await room.local_participant.publish_track(microphone())
            await lab.server("add", room=name, identities=names, tracks=1)
            for guest in names:
                await lab.server("mute", room=name, identity=guest)
            await settle()
            await lab.server("remove", room=name, identities=names)
            await settle()
            await room.local_participant.unpublish_track(publication.sid)
            await settle()
            done["participants"] += len(names)
            done["publications"] += len(names) + 1


async def scenario(lab: Lab) -> None:
    done: Counter[str] = Counter()
    deadline_s = time.monotonic() + lab.args.seconds
    rooms = [f"{lab.room_name}-{number}" for number in range(lab.args.rooms)]
    await asyncio.gather(*(one_room(lab, name, deadline_s, done) for name in rooms))
    say(" ".join(f"{what}={count}" for what, count in sorted(done.items())))


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--rooms", type=int, default=2)
    options.add_argument("--participants", type=int, default=5, help="per room and round")
    options.add_argument("--seconds", type=float, default=10.0)
    run(scenario, options)
