"""A connect is cancelled in the middle of its handshake, again and again (races rows 32 and 33).

Each attempt leaves a subscription of the native event queue behind. The library finishes the handshake by itself: 1.1.8 and
older keep a participant nobody knows of in the room; since 1.1.9 it gives up after 15 s and sends SIGTERM to its own process,
which --handle-sigterm survives.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

from _lab import Lab, parser, run, say, settle
from livekit import rtc


async def cancelled(lab: Lab, name: str) -> bool:
    """Whether the connect was still under way after that time."""
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(lab.connect(rtc.Room(), name=name), lab.args.after)
        return False
    return True


async def scenario(lab: Lab) -> None:
    if lab.args.handle_sigterm:
        # Not the loop's: the native library takes its time at the end of the process, too.
        signal.signal(signal.SIGTERM, lambda *_: say("SIGTERM"))
    async with lab.joined(name=f"{lab.room_name}-left"):
        await settle()
    await asyncio.sleep(lab.args.quiet)
    count = 0
    for number in range(lab.args.attempts):
        count += await cancelled(lab, f"{lab.room_name}-{number}")
        await asyncio.sleep(lab.args.pause)
    say(f"cancelled {count} connects")
    await asyncio.sleep(lab.args.stay)
    say("still here")


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--attempts", type=int, default=1)
    options.add_argument("--after", type=float, default=0.02, help="seconds until each is cancelled")
    options.add_argument("--quiet", type=float, default=0.0, help="seconds before the first")
    options.add_argument("--pause", type=float, default=0.0, help="seconds after each")
    options.add_argument("--stay", type=float, default=20.0, help="seconds after the last")
    options.add_argument("--handle-sigterm", action="store_true", help="take SIGTERM and go on")
    run(scenario, options)
