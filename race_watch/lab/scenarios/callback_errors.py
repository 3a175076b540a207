"""The application's own room callback is at fault, not the SDK.

--kind type_error: its body raises TypeError, which the SDK logs on the root logger as `error running user callback`.
--kind signature: it demands an argument the SDK does not pass; same record. --kind value_error: any other exception,
logged on logger `livekit` as `failed to emit event`. All versions; the room works on afterwards.
"""

from __future__ import annotations

from _lab import Lab, parser, run, say, settle
from livekit import rtc


def raises_type_error(participant: rtc.RemoteParticipant) -> None:
    say("welcome, " + participant)


def raises_value_error(participant: rtc.RemoteParticipant) -> None:
    int(participant.identity)


def wants_more(participant: rtc.RemoteParticipant, *, greeting: str) -> None:
    say(f"{greeting}, {participant.identity}")


CALLBACKS = {"type_error": raises_type_error, "value_error": raises_value_error, "signature": wants_more}


async def scenario(lab: Lab) -> None:
    async with lab.joined() as room:
        room.on("participant_connected", CALLBACKS[lab.args.kind])
        await lab.server("add", identities=["caller"])
        await settle()
        say(f"in the room: {', '.join(room.remote_participants)}")


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--kind", choices=CALLBACKS, required=True)
    run(scenario, options)
