"""A room event came for something the SDK no longer holds, and was dropped: the application is never told."""

from __future__ import annotations

from race_watch.events import RoomEventUnmatched
from race_watch.findings import Finding, sids
from race_watch.records import Record

NAME = "lost_event"
SUMMARY = "The SDK dropped a room event because its registry no longer held the participant or publication"
CATEGORIES = {"lost_event": ("sdk", "benign")}

# Ends of things that the application has ended or seen end already: nothing it could still act on is lost.
_ENDS = ("local_track_unpublished", "track_unpublished", "track_unsubscribed")


class LostEvent:
    """One finding an event; the SDK has decided already."""

    def __init__(self) -> None:
        self._found: list[Finding] = []

    def observe(self, record: Record) -> None:
        event = record.event
        if not isinstance(event, RoomEventUnmatched):
            return
        participant, track = sids(event.sid)
        self._found.append(
            Finding(
                key=f"{record.process.nonce}#{record.number}",
                category="lost_event",
                verdict="benign" if event.event in _ENDS else "sdk",
                component="livekit/rtc/room.py:_on_room_event",
                process=record.process,
                t_s=record.t_s,
                room=event.room,
                event=event.event,
                identity=event.identity,
                participant_sid=participant,
                track_sid=track,
                missing=event.missing,
                channels=("registry",),
                evidence={"event": event.event, "missing": event.missing},
            )
        )

    def confirm(self, now_s: float) -> list[Finding]:
        found, self._found = self._found, []
        return found
