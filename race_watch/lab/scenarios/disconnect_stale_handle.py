"""`Room.disconnect()` with a native handle that is already gone (races row 4, rust-sdks#1066).

livekit 1.0.25 and older: Rust panic on stderr, `FFI Panic:`, SIGTERM. 1.1.2 to 1.1.7: Rust panic on stderr, SIGABRT,
and not one Python log record. From 1.1.8 on: an ERROR of the FFI and an AssertionError in the caller, caught here.
"""

from __future__ import annotations

import asyncio

from _lab import Lab, caught, parser, run, settle
from livekit import rtc

SIGNAL_ARRIVES_S = 5.0


async def scenario(lab: Lab) -> None:
    room = await lab.connect(rtc.Room())
    room._ffi_handle.dispose()
    with caught(AssertionError, asyncio.TimeoutError):
        # 1.0.25 answers nothing any more: its panic ends in a SIGTERM from a native thread.
        await asyncio.wait_for(room.disconnect(), SIGNAL_ARRIVES_S)
    # The record of the FFI comes from a native thread and is lost if the process ends first.
    await settle()


if __name__ == "__main__":
    run(scenario, parser(__doc__))
