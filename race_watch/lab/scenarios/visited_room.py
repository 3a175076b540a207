"""A room that others visit: an agent subscribes to whoever comes, until --visitors of them have left.

With --keep it keeps what they have published, and with that a native handle for each. It needs no scripted server: the visitors
are clients of their own (`race_watch/lab/visitors.py`).
"""

from __future__ import annotations

import asyncio

from _lab import Lab, parser, run, say
from livekit import rtc


async def scenario(lab: Lab) -> None:
    kept: list[rtc.RemoteTrackPublication] = []
    subscribed = left = 0
    everybody_left = asyncio.Event()

    def on_track(track: rtc.Track, publication: rtc.RemoteTrackPublication, _: rtc.RemoteParticipant) -> None:
        nonlocal subscribed
        subscribed += 1
        if lab.args.keep:
            kept.append(publication)

    def on_left(_: rtc.RemoteParticipant) -> None:
        nonlocal left
        left += 1
        if left == lab.args.visitors:
            everybody_left.set()

    async with lab.joined() as room:
        room.on("track_subscribed", on_track)
        room.on("participant_disconnected", on_left)
        say("joined")
        await everybody_left.wait()
        say(f"{left} left; subscribed to {subscribed} tracks, kept {len(kept)} publications")
        await asyncio.sleep(lab.args.stay)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--visitors", type=int, default=100)
    options.add_argument("--stay", type=float, default=5.0, help="seconds after the last one has left")
    options.add_argument("--keep", action="store_true", help="keep the publications of those who have left")
    run(scenario, options)
