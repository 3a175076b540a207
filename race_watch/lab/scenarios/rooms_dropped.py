"""Rooms are connected and let go of without a disconnect (races row 35).

The SDK's own task pins each of them: its sockets, its subscription and its handles stay until the process ends, whatever the
garbage collector does. One room before is left as it should be.
"""

from __future__ import annotations

import asyncio
import gc

from _lab import Lab, parser, run, say, settle
from livekit import rtc


async def drop(lab: Lab, name: str) -> None:
    await lab.connect(rtc.Room(), name=name)
    await settle()


async def scenario(lab: Lab) -> None:
    async with lab.joined(name=f"{lab.room_name}-left"):
        await settle()
    await asyncio.sleep(lab.args.quiet)
    for number in range(lab.args.rooms):
        await drop(lab, f"{lab.room_name}-{number}")
        gc.collect()
        await asyncio.sleep(lab.args.pause)
    say(f"dropped {lab.args.rooms} rooms")
    await asyncio.sleep(lab.args.stay)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--rooms", type=int, default=4)
    options.add_argument("--quiet", type=float, default=16.0, help="seconds before the first")
    options.add_argument("--pause", type=float, default=6.0, help="seconds after each")
    options.add_argument("--stay", type=float, default=22.0, help="seconds after the last")
    run(scenario, options)
