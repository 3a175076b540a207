"""Room participants in one process, each of whom comes, publishes an audio track and leaves again.

`python visitors.py --url URL [--at-once N] [--seconds S] TOKEN...`, one token each. Standalone: runs in an environment that has
the livekit wheel and not race_watch. It writes `{"event": "left"}` to stdout for each who has left, and `{"event": "done"}`.
"""

from __future__ import annotations

import argparse
import asyncio
import json

from livekit import rtc

SAMPLE_RATE = 48_000
PATIENCE_S = 30.0


def say(event: str) -> None:
    print(json.dumps({"event": event}), flush=True)


async def visit(url: str, token: str, seconds: float) -> None:
    room = rtc.Room()
    await room.connect(url, token, rtc.RoomOptions(auto_subscribe=False))
    # Without a frame: what is counted is the track, not what it sounds like.
    source = rtc.AudioSource(SAMPLE_RATE, 1)
    track = rtc.LocalAudioTrack.create_audio_track("microphone", source)
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    publication = await room.local_participant.publish_track(track, options)
    # Somebody has it before it goes, however busy the machine is.
    await asyncio.wait_for(publication.wait_for_subscription(), PATIENCE_S)
    await asyncio.sleep(seconds)
    await room.local_participant.unpublish_track(publication.sid)
    await room.disconnect()
    say("left")


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--url", required=True)
    options.add_argument("--at-once", type=int, default=4, help="how many are in the room at a time")
    options.add_argument("--seconds", type=float, default=0.5, help="how long each stays once its track is subscribed to")
    options.add_argument("tokens", nargs="+", metavar="TOKEN")
    args = options.parse_args()
    waiting = list(args.tokens)

    async def visitor() -> None:
        while waiting:
            await visit(args.url, waiting.pop(0), args.seconds)

    await asyncio.gather(*(visitor() for _ in range(args.at_once)))
    # The last ones' goodbye is under way on a native thread.
    await asyncio.sleep(1)
    say("done")


if __name__ == "__main__":
    asyncio.run(main())
