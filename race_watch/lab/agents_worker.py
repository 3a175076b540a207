"""A livekit-agents worker whose jobs race on demand: `python agents_worker.py start`, LIVEKIT_URL and keys being set.

Standalone: livekit-agents 1.8.9 and nothing of race_watch, so that what it shows bare is what any worker would show.
A room named `<behaviour>-<anything>` gets a job that joins, waits for a participant, plays 0.3 s of audio to it, does
that behaviour, and asks for its own shutdown. `preconnect` alone fails before it has joined.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
from collections.abc import Awaitable, Callable

import livekit.rtc as rtc
from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli
from livekit.agents.voice.room_io import RoomOptions
from livekit.rtc._ffi_client import FfiClient
from livekit.rtc._proto import ffi_pb2

SAMPLE_RATE = 48_000
GHOST_SID = "TR_ghost"
MEMORY_LIMIT_MB = 700


async def publish(ctx: JobContext) -> rtc.LocalTrackPublication:
    source = rtc.AudioSource(SAMPLE_RATE, 1)
    track = rtc.LocalAudioTrack.create_audio_track("agent", source)
    publication = await ctx.room.local_participant.publish_track(track)
    await publication.wait_for_subscription()
    for _ in range(30):
        await source.capture_frame(rtc.AudioFrame.create(SAMPLE_RATE, 1, SAMPLE_RATE // 100))
    await source.wait_for_playout()
    return publication


async def clean(ctx: JobContext, publication: rtc.LocalTrackPublication) -> None:
    await ctx.room.local_participant.unpublish_track(publication.sid)


async def ghost_mute(ctx: JobContext, publication: rtc.LocalTrackPublication) -> None:
    """A mute for a track that this room does not know: a late event of a departed track (races 15)."""
    event = ffi_pb2.FfiEvent()
    event.room_event.room_handle = ctx.room._ffi_handle.handle
    event.room_event.track_muted.participant_identity = ctx.room.local_participant.identity
    event.room_event.track_muted.track_sid = GHOST_SID
    FfiClient.instance.queue.put(event)
    await asyncio.sleep(0.2)


async def dead_track(ctx: JobContext, publication: rtc.LocalTrackPublication) -> None:
    """A stream opened on a track whose native half is gone (races 48)."""
    track = publication.track
    await ctx.room.local_participant.unpublish_track(publication.sid)
    track._ffi_handle.dispose()
    rtc.AudioStream(track)


async def lost_task(ctx: JobContext, publication: rtc.LocalTrackPublication) -> None:
    """Two owners unpublish one track; the second is a task that nobody awaits, so its error is lost."""

    async def unpublish_again() -> None:
        await asyncio.sleep(0.1)
        await ctx.room.local_participant.unpublish_track(publication.sid)

    await ctx.room.local_participant.unpublish_track(publication.sid)
    asyncio.create_task(unpublish_again())  # noqa: RUF006
    await asyncio.sleep(0.5)
    gc.collect()


async def abort(ctx: JobContext, publication: rtc.LocalTrackPublication) -> None:
    """A panic of the native library, which has been an abort since livekit 1.1.2: resampling to no channels divides by zero."""
    new = ffi_pb2.FfiRequest()
    new.new_audio_resampler.SetInParent()
    resampler = FfiClient.instance.request(new).new_audio_resampler.resampler.handle.id
    resample = ffi_pb2.FfiRequest()
    resample.remix_and_resample.resampler_handle = resampler
    resample.remix_and_resample.buffer.CopyFrom(rtc.AudioFrame.create(SAMPLE_RATE, 1, SAMPLE_RATE // 100)._proto_info())
    resample.remix_and_resample.num_channels = resample.remix_and_resample.sample_rate = 0
    FfiClient.instance.request(resample)


async def killed(ctx: JobContext, publication: rtc.LocalTrackPublication) -> None:
    """Somebody kills the job's process and says nothing."""
    os.kill(os.getpid(), signal.SIGKILL)


async def terminated(ctx: JobContext, publication: rtc.LocalTrackPublication) -> None:
    """SIGTERM for the whole process group: the worker's main process would drain, its job dies of it."""
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(5)


async def hoard(ctx: JobContext, publication: rtc.LocalTrackPublication) -> None:
    """More memory than the worker allows a job: its supervisor kills it."""
    hoarded = bytearray(os.urandom(1 << 20)) * (MEMORY_LIMIT_MB + 100)
    await asyncio.sleep(30)
    del hoarded


async def preconnect(ctx: JobContext) -> None:
    """A session told whom to serve before the room is connected (races 78)."""
    session = AgentSession()
    await session.start(Agent(instructions=""), room=ctx.room, room_options=RoomOptions(participant_identity="caller"))


BEHAVIOURS: dict[str, Callable[[JobContext, rtc.LocalTrackPublication], Awaitable[None]]] = {
    "clean": clean,
    "ghost_mute": ghost_mute,
    "dead_track": dead_track,
    "lost_task": lost_task,
    "abort": abort,
    "killed": killed,
    "terminated": terminated,
    "hoard": hoard,
}


async def entrypoint(ctx: JobContext) -> None:
    behaviour = ctx.job.room.name.partition("-")[0]
    try:
        if behaviour == "preconnect":
            await preconnect(ctx)
            return
        await ctx.connect()
        await ctx.wait_for_participant()
        await BEHAVIOURS[behaviour](ctx, await publish(ctx))
    finally:
        ctx.shutdown(reason=f"{behaviour} done")


def unloaded() -> float:
    return 0.0


def main() -> None:
    # A room whose job is refused stays without an agent. The worker refuses above its threshold, which with one idle
    # process a single job on its way reaches; the server passes over a worker on a busy machine. So neither is said.
    server = AgentServer(
        host="127.0.0.1",
        port=0,
        num_idle_processes=1,
        load_threshold=math.inf,
        load_fnc=unloaded,
        job_memory_limit_mb=MEMORY_LIMIT_MB,
    )
    server.rtc_session(entrypoint)
    cli.run_app(server)


if __name__ == "__main__":
    main()
