"""What `race-watch demo` runs on livekit 1.1.8: one worker with six rooms, in four of which the SDK races.

Two rooms are clean, in one the application's own callback fails. With --hold the first room stays connected, with
participants coming and going, until the process is told to end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable

import audiostream_task_before_handle
import callback_errors
import disconnect_stale_handle
import local_unpublish_keyerror
import use_before_connect
from _lab import Lab, parser, run, say

Scenario = Callable[[Lab], Awaitable[None]]

# Room, what happens in it, further arguments of the scenario.
ROOMS: tuple[tuple[str, str, Scenario | None, dict[str, object]], ...] = (
    ("front-desk", "participants join and leave", None, {}),
    ("sales", "a track is unpublished, and the answer overtakes the event", local_unpublish_keyerror.scenario, {}),
    ("support", "a stream is made on a track that has just left", audiostream_task_before_handle.scenario,
     {"bad_argument": False, "surface": False}),
    ("billing", "disconnect() on a room whose handle is gone", disconnect_stale_handle.scenario, {}),
    ("intake", "the agent reads its own identity before connecting", use_before_connect.scenario, {}),
    ("callbacks", "the application's own callback raises", callback_errors.scenario, {"kind": "type_error"}),
)  # fmt: skip


async def visitors(lab: Lab, count: int) -> None:
    """Participants with a track each join and leave."""
    for number in range(count):
        await lab.server("add", identities=[f"visitor-{number}"], tracks=1)
        await asyncio.sleep(0.1)
        await lab.server("remove", identities=[f"visitor-{number}"])


async def front_desk(lab: Lab) -> None:
    async with lab.joined():
        await visitors(lab, 3)
        if lab.args.hold:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop.set)
            while not stop.is_set():
                await visitors(lab, 1)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(stop.wait(), 5)


async def worker(lab: Lab) -> None:
    held: list[Awaitable[None]] = []
    for name, what, scenario, arguments in ROOMS:
        say(f"room {name}: {what}")
        mine = Lab(argparse.Namespace(**{**vars(lab.args), **arguments, "room": name}))
        if scenario is None:
            held.append(asyncio.ensure_future(front_desk(mine)))
        else:
            await scenario(mine)
    await asyncio.gather(*held)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--hold", action="store_true", help="keep the first room until SIGINT or SIGTERM")
    run(worker, options)
