"""A room callback starts a task and keeps nothing of it.

--kind exception: the task fails and nobody asks; once it is collected, logger `asyncio` shows ERROR `Task exception was
never retrieved`. --kind destroyed: the task still waits when the garbage collector takes it; logger `asyncio` shows
ERROR `Task was destroyed but it is pending!`. All versions; the application's fault.
"""

from __future__ import annotations

import asyncio
import gc

from _lab import Lab, parser, run, say, settle
from livekit import rtc


async def look_up(participant: rtc.RemoteParticipant) -> None:
    await asyncio.sleep(0)
    raise LookupError(f"no profile for {participant.identity}")


async def wait_for_reply(participant: rtc.RemoteParticipant) -> None:
    reply = asyncio.get_running_loop().create_future()
    say(f"{participant.identity} says {await reply}")


JOBS = {"exception": look_up, "destroyed": wait_for_reply}


async def scenario(lab: Lab) -> None:
    async with lab.joined() as room:

        def greet(participant: rtc.RemoteParticipant) -> None:
            # Nothing refers to the task from here on: that is the fault.
            asyncio.create_task(JOBS[lab.args.kind](participant))  # noqa: RUF006

        room.on("participant_connected", greet)
        await lab.server("add", identities=["caller"])
        await settle()
        gc.collect()
        await settle()


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--kind", choices=JOBS, required=True)
    run(scenario, options)
