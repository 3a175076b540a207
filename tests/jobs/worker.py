"""A livekit-agents worker whose jobs do as their dispatch says, and write down how far they have come.

Standalone: livekit-agents and nothing of race_watch. `python worker.py start`, LIVEKIT_URL, keys and JOBS_LEDGER being set;
the metadata of a dispatch is `<number> <kind>`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import multiprocessing.util
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import livekit.rtc as rtc
from kinds import EXIT_STATUS, STORM
from livekit.agents import AgentServer, JobContext, JobProcess, cli

sys.path.insert(0, str(Path(__file__).parents[2] / "race_watch" / "lab"))

import agents_worker as lab
from tokens import token

AGENT_NAME = "jobs"
_LEDGER = os.environ["JOBS_LEDGER"]
_IDLE_PROCESSES = 2
_PATIENCE_S = 60.0
_HELD_S = 300.0
_LAST = -100


def write(said: str, job: int = 0) -> None:
    """One line of the ledger, at once: what was written before a kill stands."""
    line = json.dumps({"pid": os.getpid(), "ppid": os.getppid(), "said": said, "job": job}) + "\n"
    handle = os.open(_LEDGER, os.O_WRONLY | os.O_APPEND)
    os.write(handle, line.encode())
    os.close(handle)


def born(process: JobProcess) -> None:
    write("born")


async def publish(ctx: JobContext) -> rtc.LocalTrackPublication:
    track = rtc.LocalAudioTrack.create_audio_track("agent", rtc.AudioSource(lab.SAMPLE_RATE, 1))
    return await ctx.room.local_participant.publish_track(track)


async def clean(ctx: JobContext) -> None:
    await lab.clean(ctx, await publish(ctx))


async def second_room(ctx: JobContext) -> None:
    """Joins another room beside the job's own, and leaves it."""
    keys = os.environ["LIVEKIT_API_KEY"], os.environ["LIVEKIT_API_SECRET"]
    room = rtc.Room()
    await room.connect(os.environ["LIVEKIT_URL"], token(f"{ctx.room.name}-second", "agent", *keys))
    write("connected", _number(ctx))
    await room.disconnect()


async def ghost_mute(ctx: JobContext) -> None:
    await lab.ghost_mute(ctx, None)


async def storm(ctx: JobContext) -> None:
    """One race that repeats in its room."""
    for _ in range(STORM):
        await lab.ghost_mute(ctx, None)


async def dead_track(ctx: JobContext) -> None:
    await lab.dead_track(ctx, await publish(ctx))


async def lost_task(ctx: JobContext) -> None:
    await lab.lost_task(ctx, await publish(ctx))


async def bad_callback(ctx: JobContext) -> None:
    """A callback of the application's fails."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    ctx.room.on("local_track_published", fail)
    await publish(ctx)
    await asyncio.sleep(0.2)


async def raises(ctx: JobContext) -> None:
    """The entrypoint fails by itself: livekit-agents logs it, and ends the job in order."""
    raise LookupError("nothing of the SDK's")


async def exits(ctx: JobContext) -> None:
    _stop_logging()
    sys.exit(EXIT_STATUS)


async def stopped(ctx: JobContext) -> None:
    """Somebody stops the loop: what runs it raises RuntimeError, which ends the process."""
    _stop_logging()
    asyncio.get_running_loop().stop()
    await asyncio.sleep(_HELD_S)


async def lingers(ctx: JobContext) -> None:
    """An exit that does not come about: after a minute livekit-agents gives the process up and kills it."""
    sys.exit(EXIT_STATUS)


async def killed(ctx: JobContext) -> None:
    """Waits for SIGKILL from outside."""
    await asyncio.sleep(_HELD_S)


async def panics(ctx: JobContext) -> None:
    await lab.abort(ctx, None)


async def aborts(ctx: JobContext) -> None:
    os.abort()


def _stop_logging() -> None:
    """Ends the thread that forwards a job's records. It would keep the process: livekit-agents ends it on its own way only."""
    logging.shutdown()


def _number(ctx: JobContext) -> int:
    return int(ctx.job.metadata.partition(" ")[0])


KINDS: dict[str, Callable[[JobContext], Awaitable[None]]] = {
    kind.__name__: kind
    for kind in (
        clean,
        second_room,
        ghost_mute,
        storm,
        dead_track,
        lost_task,
        bad_callback,
        raises,
        exits,
        stopped,
        lingers,
        killed,
        panics,
        aborts,
    )
}


async def entrypoint(ctx: JobContext) -> None:
    number, kind = _number(ctx), ctx.job.metadata.partition(" ")[2]
    write("started", number)
    # As late as can be; nothing of a process that is killed, or aborts.
    multiprocessing.util.Finalize(None, write, ("left", number), exitpriority=_LAST)
    try:
        if kind == "preconnect":
            write("does", number)
            await lab.preconnect(ctx)
        else:
            await ctx.connect()
            write("connected", number)
            write("does", number)
            await KINDS[kind](ctx)
        write("done", number)
    finally:
        ctx.shutdown(reason=f"{kind} done")


def main() -> None:
    server = AgentServer(
        host="127.0.0.1",
        port=0,
        num_idle_processes=_IDLE_PROCESSES,
        initialize_process_timeout=_PATIENCE_S,
        # A job that is refused is not done: neither the worker nor the server may find this one too busy.
        load_threshold=math.inf,
        load_fnc=lab.unloaded,
        setup_fnc=born,
    )
    server.rtc_session(entrypoint, agent_name=AGENT_NAME)
    cli.run_app(server)


if __name__ == "__main__":
    main()
