"""AudioStream's constructor fails after it has started its task (races row 3, python-sdks#729).

The track's native handle is stale, so the FFI request fails and the caller gets an AssertionError; with --bad-argument
the constructor fails earlier, by TypeError, with no FFI request at all. livekit 1.1.13 and older: the task that was
already started stays for ever. Nothing in Python logs it; with --surface an audio event of some other stream reaches
it, and logger `livekit` shows ERROR `task exception: ...` with AttributeError on `_ffi_handle`. In 1.0.25 and older
any event at all does that. From 1.1.14 on there is no such task. The stale handle is always an ERROR of the FFI.
"""

from __future__ import annotations

import asyncio

from _lab import Lab, caught, microphone, parser, put, run, say, settle
from livekit import rtc
from livekit.rtc._proto.ffi_pb2 import FfiEvent

OTHER_STREAM = 999_999


def orphans() -> int:
    """How many stream tasks are alive."""
    return sum("AudioStream._run" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def scenario(lab: Lab) -> None:
    async with lab.joined():
        track = microphone()
        if lab.args.bad_argument:
            with caught(TypeError):
                rtc.AudioStream(track, sample_rate="48k")
        else:
            track._ffi_handle.dispose()
            with caught(AssertionError):
                rtc.AudioStream(track)
        await settle()
        if lab.args.surface:
            put(FfiEvent(audio_stream_event={"stream_handle": OTHER_STREAM}))
            await settle()
        say(f"orphan tasks: {orphans()}")


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--surface", action="store_true", help="let an event of another stream reach the orphan")
    options.add_argument("--bad-argument", action="store_true", help="fail before the FFI request")
    run(scenario, options)
