"""The websocket drops and the SDK reconnects in full while a track is published (races row 17, nothing injected).

livekit 1.1.7 and older: the republished track comes under a new sid that the SDK's registry does not hold. The root
logger shows two ERRORs `error running user callback for ...` with KeyError('TR_...'): `local_track_published` at once,
`local_track_unpublished` at the end. From 1.1.8 on the publication is rekeyed. The FFI logs its attempts at WARNING
and ERROR on every version.
"""

from __future__ import annotations

import asyncio

from _lab import Lab, microphone, parser, run, say, settle

RECONNECT_S = 20.0


async def scenario(lab: Lab) -> None:
    async with lab.joined() as room:
        await room.local_participant.publish_track(microphone())
        await settle()
        reconnected = asyncio.Event()
        room.on("reconnected", reconnected.set)
        await lab.server("drop", identity="agent")
        await asyncio.wait_for(reconnected.wait(), RECONNECT_S)
        await settle()
        say("reconnected")


if __name__ == "__main__":
    run(scenario, parser(__doc__))
