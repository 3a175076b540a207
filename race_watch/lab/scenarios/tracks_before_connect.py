"""Local tracks are created before any room is connected, and kept.

Each of them gets a native media runtime of its own, three descriptors and three threads, where tracks that are created in a
room share one.
"""

from __future__ import annotations

import asyncio

from _lab import Lab, microphone, parser, run, say


async def scenario(lab: Lab) -> None:
    kept = [microphone(f"mic-{number}") for number in range(lab.args.tracks)]
    async with lab.joined():
        say(f"{len(kept)} tracks")
        await asyncio.sleep(lab.args.stay)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--tracks", type=int, default=10)
    options.add_argument("--stay", type=float, default=7.0, help="seconds in the room")
    run(scenario, options)
