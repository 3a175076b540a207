"""A room participant in a process of its own: `python participant.py --url URL --token TOKEN [--audio] [--seconds N]`.

Standalone: runs in an environment that has the livekit wheel and not race_watch. It writes one JSON object a line to
stdout, `{"event": ..., ...}`, and leaves when its stdin ends, when its seconds are over, or when the room ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import struct
import sys
from typing import Any

import livekit.rtc as rtc

SAMPLE_RATE = 48_000
FRAME_SAMPLES = SAMPLE_RATE // 100
TONE_HZ = 440


def say(event: str, **facts: Any) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


def tone(first_sample: int) -> rtc.AudioFrame:
    samples = (int(8_000 * math.sin(2 * math.pi * TONE_HZ * (first_sample + i) / SAMPLE_RATE)) for i in range(FRAME_SAMPLES))
    return rtc.AudioFrame(struct.pack(f"<{FRAME_SAMPLES}h", *samples), SAMPLE_RATE, 1, FRAME_SAMPLES)


async def play_tone(source: rtc.AudioSource) -> None:
    sample = 0
    while True:
        await source.capture_frame(tone(sample))
        sample += FRAME_SAMPLES


async def hear(track: rtc.Track, publisher: str) -> None:
    stream = rtc.AudioStream(track)
    try:
        async for _ in stream:
            say("audio_heard", identity=publisher)
            break
    finally:
        await stream.aclose()


async def stdin_end() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


def report(room: rtc.Room, gone: asyncio.Event, work: set[asyncio.Task[None]]) -> None:
    def on_track(track: rtc.Track, publication: rtc.RemoteTrackPublication, who: rtc.RemoteParticipant) -> None:
        say("track_subscribed", identity=who.identity, sid=publication.sid)
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            task = asyncio.create_task(hear(track, who.identity))
            work.add(task)
            task.add_done_callback(work.discard)

    def on_disconnected(reason: rtc.DisconnectReason.ValueType) -> None:
        say("disconnected", reason=rtc.DisconnectReason.Name(reason))
        gone.set()

    room.on("participant_connected", lambda who: say("participant_connected", identity=who.identity))
    room.on("participant_disconnected", lambda who: say("participant_disconnected", identity=who.identity))
    room.on("track_published", lambda publication, who: say("track_published", identity=who.identity))
    room.on("track_unpublished", lambda publication, who: say("track_unpublished", identity=who.identity))
    room.on("track_subscribed", on_track)
    room.on("disconnected", on_disconnected)


async def attend(url: str, token: str, audio: bool, seconds: float | None) -> None:
    room = rtc.Room()
    gone = asyncio.Event()
    work: set[asyncio.Task[None]] = set()
    report(room, gone, work)
    await room.connect(url, token)
    say("connected", room=room.name, sid=await room.sid, others=sorted(room.remote_participants))
    if audio:
        source = rtc.AudioSource(SAMPLE_RATE, 1)
        track = rtc.LocalAudioTrack.create_audio_track("tone", source)
        publication = await room.local_participant.publish_track(track)
        say("published", sid=publication.sid)
        work.add(asyncio.create_task(play_tone(source)))
    endings = [asyncio.create_task(stdin_end()), asyncio.create_task(gone.wait())]
    await asyncio.wait(endings, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in (*endings, *work):
        task.cancel()
    await asyncio.gather(*endings, *work, return_exceptions=True)
    await room.disconnect()
    say("left")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--audio", action="store_true", help="publish a tone")
    parser.add_argument("--seconds", type=float, help="leave after this long")
    args = parser.parse_args()
    asyncio.run(attend(args.url, args.token, args.audio, args.seconds))


if __name__ == "__main__":
    main()
