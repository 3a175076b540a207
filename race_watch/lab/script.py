"""What a lab server can be told to do to its rooms: the commands of Python scripts and of the control API alike."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from livekit.protocol import models, rtc

from .errors import LabError
from .rooms import LabRoom, Member, new_sid


class Script:
    """The rooms and the commands on them.

    Every public coroutine is a command; it returns once every client concerned has been told. A mistake of the caller
    is a `LabError`. Reasons are the names of LiveKit's `DisconnectReason`.
    """

    def __init__(self) -> None:
        self._rooms: dict[str, LabRoom] = {}

    def rooms(self) -> list[dict[str, Any]]:
        """Every room with its members and their tracks, as `GET /lab/rooms` shows it."""
        return [
            {"name": room.name, "sid": room.sid, "participants": [_shown(member) for member in room.members.values()]}
            for room in self._rooms.values()
        ]

    async def add(
        self, room: str, identities: Sequence[str] | None = None, count: int = 1, tracks: int = 0, kind: str = "audio"
    ) -> list[dict[str, Any]]:
        """Let scripted participants join, named or `count` of them with made-up names, in one update."""
        media = _track_type(kind)
        names = [f"guest-{new_sid('')}" for _ in range(count)] if identities is None else list(identities)
        target = self._room(room)
        for name in names:
            if name in target.members or names.count(name) > 1:
                raise LabError(f"{name} would be twice in room {room}; a rejoin is a command of its own")
        joined = [Member(name) for name in names]
        for member in joined:
            for _ in range(tracks):
                member.publish(media)
            target.members[member.identity] = member
        await target.tell([member.info() for member in joined])
        return [_shown(member) for member in joined]

    async def remove(self, room: str, identities: Sequence[str] | None = None, reason: str = "CLIENT_INITIATED") -> list[str]:
        """Let scripted participants leave: those named, or all of them."""
        target = self._known(room)
        why = _reason(reason)
        if identities is None:
            identities = [name for name, member in target.members.items() if member.session is None]
        gone = [target.member(name) for name in identities]
        for member in gone:
            if member.session is not None:
                raise LabError(f"{member.identity} in room {room} is a connected client; use leave")
        for member in gone:
            del target.members[member.identity]
        await target.tell_gone(gone, why)
        self._forget_if_empty(target)
        return [member.identity for member in gone]

    async def rejoin(self, room: str, identity: str, tracks: int = 0, late_s: float = 0.0) -> dict[str, Any]:
        """Let a scripted participant join again under a new sid; its old sid disconnects `late_s` after that."""
        target = self._known(room)
        old = target.member(identity)
        if old.session is not None:
            raise LabError(f"{identity} in room {room} is a connected client; only scripted participants rejoin")
        new = target.members[identity] = Member(identity)
        for _ in range(tracks):
            new.publish(models.AUDIO)
        await target.tell([new.info()])
        await asyncio.sleep(late_s)
        await target.tell_gone([old], models.DUPLICATE_IDENTITY)
        return _shown(new)

    async def publish(self, room: str, identity: str, count: int = 1, kind: str = "audio") -> list[str]:
        """Let a scripted participant publish tracks; returns their sids."""
        target = self._known(room)
        member = target.member(identity)
        media = _track_type(kind)
        if member.session is not None:
            raise LabError(f"{identity} in room {room} is a connected client; it publishes by itself")
        sids = [member.publish(media).sid for _ in range(count)]
        await target.tell([member.info()])
        return sids

    async def unpublish(self, room: str, identity: str, track: str | None = None) -> list[str]:
        """Unpublish one track or all tracks of a participant; from a connected client they are taken by force.

        The Python SDK (measured up to 1.2.0) ignores the signal: the application's publication stays as it was.
        """
        target = self._known(room)
        member = target.member(identity)
        sids = member.select(track)
        for sid in sids:
            del member.tracks[sid]
            if member.session is not None:
                forced = rtc.TrackUnpublishedResponse(track_sid=sid)
                await member.session.send(rtc.SignalResponse(track_unpublished=forced))
        await target.tell([member.info()])
        return sids

    async def mute(self, room: str, identity: str, muted: bool = True, track: str | None = None) -> list[str]:
        """Mute or unmute one track or all tracks of a participant; a connected client is told to do it."""
        target = self._known(room)
        member = target.member(identity)
        sids = member.select(track)
        for sid in sids:
            if member.session is not None:
                # The client does it and says so; that is what the room then hears of.
                await member.session.send(rtc.SignalResponse(mute=rtc.MuteTrackRequest(sid=sid, muted=muted)))
            else:
                member.tracks[sid].muted = muted
        if member.session is None:
            await target.tell([member.info()])
        return sids

    async def leave(self, room: str, identity: str, reason: str = "PARTICIPANT_REMOVED") -> None:
        """Send a connected client away for good."""
        _, session = self._known(room).client(identity)
        request = rtc.LeaveRequest(reason=_reason(reason), action=rtc.LeaveRequest.DISCONNECT)
        await session.send(rtc.SignalResponse(leave=request))
        await session.close()

    async def drop(self, room: str, identity: str) -> None:
        """Close a connected client's websocket without a word. Resumes are refused, so it reconnects in full."""
        _, session = self._known(room).client(identity)
        await session.close()

    async def answer(self, room: str, answers: bool) -> None:
        """Whether clients that connect to the room from now on get a join, or wait for ever."""
        self._room(room).answers = answers

    def _room(self, name: str) -> LabRoom:
        return self._rooms.setdefault(name, LabRoom(name))

    def _forget_if_empty(self, room: LabRoom) -> None:
        # A room that was told not to answer keeps that, however many clients try.
        if room.answers and not room.members and self._rooms.get(room.name) is room:
            del self._rooms[room.name]

    def _known(self, name: str) -> LabRoom:
        if name not in self._rooms:
            raise LabError(f"no room {name}; known: {', '.join(self._rooms) or 'none'}")
        return self._rooms[name]


def _shown(member: Member) -> dict[str, Any]:
    return {
        "identity": member.identity,
        "sid": member.sid,
        "scripted": member.session is None,
        "tracks": [{"sid": track.sid, "muted": track.muted} for track in member.tracks.values()],
    }


def _track_type(kind: str) -> models.TrackType:
    if kind not in ("audio", "video"):
        raise LabError(f"kind is {kind!r}, expected audio or video")
    return models.AUDIO if kind == "audio" else models.VIDEO


def _reason(name: str) -> str:
    if name not in dict(models.DisconnectReason.items()):
        raise LabError(f"unknown reason {name}; one of {', '.join(dict(models.DisconnectReason.items()))}")
    return name
