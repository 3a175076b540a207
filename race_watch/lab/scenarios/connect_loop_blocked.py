"""The event loop is blocked for longer than the 15 s in which the native library waits for the SDK to take a connected room.

From livekit 1.1.9 on: `FFI Panic:` on stderr, and SIGTERM from the SDK to its own process. Up to 1.1.8 nothing happens.
"""

from __future__ import annotations

import asyncio
import time

from _lab import Lab, parser, run, say, settle
from livekit import rtc

# The native library begins to wait when it has connected, half a second after the call here.
GETS_CONNECTED_S = 1.0


async def scenario(lab: Lab) -> None:
    room = rtc.Room()
    connecting = asyncio.create_task(lab.connect(room))
    await asyncio.sleep(0.01)
    time.sleep(GETS_CONNECTED_S + lab.args.block)  # the fault
    await connecting
    say("connected")
    await settle()
    await room.disconnect()


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--block", type=float, default=16.0, help="seconds for which the loop stands still")
    run(scenario, options)
