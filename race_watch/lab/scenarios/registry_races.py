"""A room event speaks of something the SDK's registry does not hold (races rows 6-11 and 13-18).

The event given by --event is put on the queue of a really connected room; `all` puts one of each. What is unguarded in
the version that runs is an ERROR of the root logger, `error running user callback for ...`, and the event is lost; what
is guarded is dropped at DEBUG. The room works on in either case. EVENTS tells row and version of each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from _lab import Lab, inject, microphone, parser, run, say, settle
from livekit import rtc

Message = dict[str, Any]

GHOST = {"participant_identity": "ghost"}
TRACK_INFO = {"sid": "TR_ghost", "kind": rtc.TrackKind.KIND_AUDIO}
OWNED_TRACK = {"handle": {"id": 0}, "info": TRACK_INFO}
OWNED_PUBLICATION = {"handle": {"id": 0}, "info": TRACK_INFO}


def known(room: rtc.Room) -> Message:
    """The participant that is really there."""
    return {"participant_identity": next(iter(room.remote_participants))}


def duplicate(room: rtc.Room) -> Message:
    identity = next(iter(room.remote_participants))
    return {"info": {"handle": {"id": 0}, "info": {"sid": "PA_duplicate", "identity": identity}}}


def own_track(room: rtc.Room) -> Message:
    return {"track_sid": next(iter(room.local_participant.track_publications))}


# Option -> (room event, its message). Open up to 1.2.0 unless a first fixed version is named.
EVENTS: dict[str, tuple[str, Callable[[rtc.Room], Message]]] = {
    "track_unpublished": ("track_unpublished", lambda _: {**GHOST, "publication_sid": "TR_ghost"}),  # 6, 1.1.14
    "track_unpublished_sid": ("track_unpublished", lambda r: {**known(r), "publication_sid": "TR_ghost"}),  # 6, 1.1.14
    "track_subscribed": ("track_subscribed", lambda _: {**GHOST, "track": OWNED_TRACK}),  # 7, 1.1.14
    "track_unsubscribed": ("track_unsubscribed", lambda _: {**GHOST, "track_sid": "TR_ghost"}),  # 8, 1.1.14
    "track_published": ("track_published", lambda _: {**GHOST, "publication": OWNED_PUBLICATION}),  # 9, 1.1.14
    "track_subscription_failed": (  # 10, 1.1.14
        "track_subscription_failed",
        lambda _: {**GHOST, "track_sid": "TR_ghost", "error": "none"},
    ),
    "local_track_subscribed_twice": ("local_track_subscribed", own_track),  # 11, 1.1.14
    "participant_disconnected": ("participant_disconnected", lambda _: GHOST),  # 13
    "participant_connected": ("participant_connected", duplicate),  # 14
    "track_muted": ("track_muted", lambda _: {**GHOST, "track_sid": "TR_ghost"}),  # 15
    "track_muted_sid": ("track_muted", lambda r: {**known(r), "track_sid": "TR_ghost"}),  # 15
    "track_unmuted": ("track_unmuted", lambda _: {**GHOST, "track_sid": "TR_ghost"}),  # 15
    "active_speakers_changed": ("active_speakers_changed", lambda _: {"participant_identities": ["ghost"]}),  # 16
    "participant_metadata_changed": ("participant_metadata_changed", lambda _: {**GHOST, "metadata": "m"}),  # 16
    "participant_name_changed": ("participant_name_changed", lambda _: {**GHOST, "name": "n"}),  # 16
    "participant_attributes_changed": ("participant_attributes_changed", lambda _: GHOST),  # 16
    # 16; 1.1.8 and older compare with a name the protocol does not have, and never handle the event.
    "participant_permission_changed": ("participant_permission_changed", lambda _: GHOST),
    "local_track_published": ("local_track_published", lambda _: {"track_sid": "TR_ghost"}),  # 17
    "local_track_subscribed": ("local_track_subscribed", lambda _: {"track_sid": "TR_ghost"}),  # 18
}
TWICE = ("local_track_subscribed_twice",)


async def scenario(lab: Lab) -> None:
    async with lab.joined() as room:
        await room.local_participant.publish_track(microphone())
        await lab.server("add", identities=["caller"], tracks=1)
        await settle()
        for name in EVENTS if lab.args.event == "all" else [lab.args.event]:
            event, message = EVENTS[name]
            for _ in range(2 if name in TWICE else 1):
                inject(room, **{event: message(room)})
            await settle()
            say(f"put {name}")
        say(f"in the room: {', '.join(room.remote_participants)}")


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--event", choices=[*EVENTS, "all"], default="all")
    run(scenario, options)
