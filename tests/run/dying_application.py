"""A worker on the real SDK that joins a room with one other participant, gets into a phase, and ends as it is told.

Run by the interpreter of a lab environment. It prints `ready PID` when it is there.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "race_watch" / "lab" / "scenarios"))

from _lab import Lab, microphone, parser, run, say, settle
from livekit import rtc
from livekit.rtc import _ffi_client
from livekit.rtc._proto.ffi_pb2 import FfiEvent

PATIENCE_S = 60
SURVIVES_S = 6.5


def panic(message: str) -> None:
    """What native code does when it reports one: it calls the SDK's callback."""
    event = FfiEvent()
    event.panic.message = message
    data = event.SerializeToString()
    buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
    _ffi_client.ffi_event_callback(ctypes.cast(buffer, ctypes.POINTER(ctypes.c_uint8)), len(data))


def hoard() -> None:
    kept = []
    while True:
        kept.append(bytearray(b"x") * (8 << 20))


ENDS = {
    "return": lambda: None,
    "raise": lambda: int("no number"),
    "exit": lambda: sys.exit(3),
    "_exit": lambda: os._exit(3),
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0),
    "panic": lambda: (panic("boom"), time.sleep(PATIENCE_S)),
    "survive a panic": lambda: (signal.signal(signal.SIGTERM, signal.SIG_IGN), panic("boom"), time.sleep(SURVIVES_S)),
    "hoard": hoard,
    # Somebody else ends it.
    "wait": lambda: None,
}


async def under_way(call: object) -> None:
    """Starts it and does not wait for its end."""
    _under_way.add(asyncio.ensure_future(call))
    await asyncio.sleep(0)


_under_way: set[object] = set()


async def scenario(lab: Lab) -> None:
    phase = lab.args.phase
    if phase == "connect":
        await lab.server("answer", answers=False)
        await under_way(lab.connect(rtc.Room()))
        await asyncio.sleep(0.05)
    else:
        await lab.server("add", identities=["caller"])
        room = await lab.connect(rtc.Room())
        local = room.local_participant
        publication = await local.publish_track(microphone()) if phase == "unpublish" else None
        await settle()
        if phase == "publish":
            await under_way(local.publish_track(microphone()))
        elif publication is not None:
            await under_way(local.unpublish_track(publication.sid))
        elif phase == "disconnect":
            await under_way(room.disconnect())
        elif phase == "after_disconnect":
            await room.disconnect()
    say(f"ready {os.getpid()}")
    ENDS[lab.args.end]()
    if lab.args.end == "wait":
        await asyncio.sleep(PATIENCE_S)
    if phase == "idle":
        await room.disconnect()


def work() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    run(scenario, options())


def options() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--phase", default="idle")
    made.add_argument("--end", choices=ENDS, default="return")
    made.add_argument("--child", choices=("left alone", "killed", "terminated"), help="do it in a child of multiprocessing")
    return made


def supervise(fate: str) -> None:
    """Waits for the child, or ends it when it is ready; its exit status is shown, and ours is 0."""
    asyncio.new_event_loop().close()
    theirs, ours = os.pipe()
    child = multiprocessing.get_context("fork").Process(target=talk, args=(ours,))
    child.start()
    os.close(ours)
    with open(theirs) as said:
        for line in said:
            say(line.rstrip())
            if line.startswith("ready"):
                {"left alone": int, "killed": child.kill, "terminated": child.terminate}[fate]()
    child.join()
    say(f"child ended with {child.exitcode}")
    if fate == "left alone":
        sys.stdin.read()


def talk(out: int) -> None:
    os.dup2(out, 1)
    os.close(out)
    work()


if __name__ == "__main__":
    arguments = options().parse_args()
    if arguments.child:
        supervise(arguments.child)
    else:
        work()
