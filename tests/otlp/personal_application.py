"""An application whose identities, tokens and exception texts must not leave it; run in a lab environment.

Its room session has all that a session can: a participant who calls from a telephone, a track, a callback that fails.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "race_watch" / "lab" / "scenarios"))

from _lab import Lab, microphone, parser, run, settle
from livekit import rtc

CALLER = "sip_+15550142368"
AGENT = "agent-mary.major@example.com"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtYXJ5In0.c2lnbmF0dXJl"


def fails(participant: Any) -> None:
    raise LookupError(f"no profile for {participant.identity} (Bearer {TOKEN}, password=hunter2-planted, call +1 555 014 2368)")


async def scenario(lab: Lab) -> None:
    async with lab.joined(AGENT) as room:
        room.on("participant_connected", fails)
        publication = await room.local_participant.publish_track(microphone(), rtc.TrackPublishOptions())
        await lab.server("add", identities=[CALLER])
        await settle()
        await room.local_participant.unpublish_track(publication.sid)


if __name__ == "__main__":
    run(scenario, parser(__doc__))
