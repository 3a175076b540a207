"""A room event came for something the SDK no longer holds, and was dropped: the application is never told."""

from __future__ import annotations

from typing import TypeVar

from race_watch.events import CallStarted, ExceptionSeen, RoomEventUnmatched
from race_watch.findings import Finding, sids
from race_watch.records import Record

Value = TypeVar("Value")

NAME = "lost_event"
SUMMARY = "The SDK dropped a room event because its registry no longer held the participant or publication"
CATEGORIES = {"lost_event": ("sdk", "benign")}

_KEPT = 512
# Longer than that of an exception: an event that belongs to a failure comes after it.
_WINDOW_S = 0.75
# Ends of things that the application has ended or seen end already: nothing it could still act on is lost.
_ENDS = ("local_track_unpublished", "track_unpublished", "track_unsubscribed")


class LostEvent:
    """One finding an event: what the SDK has decided, told from what an earlier failure has brought about."""

    def __init__(self) -> None:
        self._found: list[Finding] = []
        # (process, sid) of local tracks -> whether they were asked to be unpublished, the fact that kept them unregistered.
        self._unpublished: dict[tuple[str, str], bool] = {}
        self._unregistered: dict[tuple[str, str], str] = {}

    def observe(self, record: Record) -> None:
        event, process = record.event, record.process.nonce
        if isinstance(event, CallStarted) and event.method == "unpublish_track":
            _remember(self._unpublished, (process, event.track_sid), True)
        elif isinstance(event, ExceptionSeen) and event.event == "local_track_published":
            _remember(self._unregistered, (process, event.track_sid), event.fact)
        if not isinstance(event, RoomEventUnmatched):
            return
        participant, track = sids(event.sid)
        self._found.append(
            Finding(
                # A track whose publishing failed was never registered: its end belongs to that failure.
                key=self._unregistered.get((process, event.sid), f"{process}#{record.number}"),
                request="unpublish_track" if (process, event.sid) in self._unpublished else "",
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
        due = [finding for finding in self._found if now_s - finding.t_s >= _WINDOW_S]
        self._found = [finding for finding in self._found if now_s - finding.t_s < _WINDOW_S]
        return due


def _remember(table: dict[tuple[str, str], Value], key: tuple[str, str], value: Value) -> None:
    if len(table) >= _KEPT:
        del table[next(iter(table))]
    table[key] = value
