"""An agents session is started on a room that is not connected yet (races row 78; livekit-agents 1.8.9, open).

`AgentSession.start` with `RoomOptions(participant_identity=...)` resolves the participant's microphone at once and so
asks the room for its local participant: `Exception('cannot access local participant before connecting')` reaches the
caller. It is caught here; needs no model and no network.
"""

from __future__ import annotations

from _lab import Lab, caught, parser, run
from livekit import rtc
from livekit.agents import Agent, AgentSession
from livekit.agents.voice.room_io import RoomOptions


async def scenario(lab: Lab) -> None:
    session: AgentSession[None] = AgentSession()
    with caught(Exception):
        await session.start(
            Agent(instructions="none"),
            room=rtc.Room(),
            room_options=RoomOptions(participant_identity="caller"),
        )


if __name__ == "__main__":
    run(scenario, parser(__doc__))
