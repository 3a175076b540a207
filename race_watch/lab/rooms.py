"""Who is in which lab room, and how everyone in it is told.

A member is a real client (it has a signalling session) or a scripted one (it has none and exists only in what the
clients are told).
"""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from livekit.protocol import models, rtc

from .errors import LabError

_SID_ALPHABET = string.ascii_letters + string.digits


def new_sid(prefix: str) -> str:
    """A sid in the server's form: `PA_` and twelve letters or digits."""
    return prefix + "".join(secrets.choice(_SID_ALPHABET) for _ in range(12))


class Session(Protocol):
    """What a room needs of a client's signalling connection."""

    async def send(self, response: rtc.SignalResponse) -> None: ...

    async def close(self) -> None: ...


@dataclass
class Member:
    """One participant: its tracks by sid, in the order they were published."""

    identity: str
    session: Session | None = None
    sid: str = field(default_factory=lambda: new_sid("PA_"))
    tracks: dict[str, models.TrackInfo] = field(default_factory=dict)
    joined_at: int = field(default_factory=lambda: int(time.time()))
    version: int = 0

    def info(
        self,
        state: models.ParticipantInfo.State = models.ParticipantInfo.ACTIVE,
        reason: models.DisconnectReason | str = models.UNKNOWN_REASON,
    ) -> models.ParticipantInfo:
        # Clients drop updates whose version is not newer than the last one of the same sid.
        self.version += 1
        return models.ParticipantInfo(
            sid=self.sid,
            identity=self.identity,
            name=self.identity,
            state=state,
            tracks=self.tracks.values(),
            joined_at=self.joined_at,
            version=self.version,
            is_publisher=bool(self.tracks),
            permission=models.ParticipantPermission(can_subscribe=True, can_publish=True, can_publish_data=True),
            disconnect_reason=reason,
        )

    def publish(self, kind: models.TrackType, name: str = "") -> models.TrackInfo:
        sid = new_sid("TR_")
        audio = kind == models.AUDIO
        self.tracks[sid] = models.TrackInfo(
            sid=sid,
            name=name or sid,
            type=kind,
            source=models.MICROPHONE if audio else models.CAMERA,
            mime_type="audio/opus" if audio else "video/VP8",
        )
        return self.tracks[sid]

    def select(self, track: str | None) -> list[str]:
        """The sids a command means: one, or all of them.

        Raises:
            LabError: there is no such track.
        """
        if track is None:
            return list(self.tracks)
        if track not in self.tracks:
            raise LabError(f"{self.identity} publishes no track {track}")
        return [track]


@dataclass
class LabRoom:
    """One room; `answers=False` accepts websockets and never sends the join."""

    name: str
    sid: str = field(default_factory=lambda: new_sid("RM_"))
    members: dict[str, Member] = field(default_factory=dict)
    answers: bool = True

    def info(self) -> models.Room:
        return models.Room(sid=self.sid, name=self.name, num_participants=len(self.members))

    def member(self, identity: str) -> Member:
        """The member of that name.

        Raises:
            LabError: nobody of that name is in the room.
        """
        if identity not in self.members:
            raise LabError(f"no participant {identity} in room {self.name}")
        return self.members[identity]

    def client(self, identity: str) -> tuple[Member, Session]:
        """A member that is a real client, and its session.

        Raises:
            LabError: nobody of that name is there, or it is a scripted participant.
        """
        member = self.member(identity)
        if member.session is None:
            raise LabError(f"{identity} in room {self.name} is scripted, not a connected client")
        return member, member.session

    async def tell(self, infos: Iterable[models.ParticipantInfo], but: Member | None = None) -> None:
        """Send one participant update to every client in the room, `but` one: who caused it knows already."""
        update = rtc.SignalResponse(update=rtc.ParticipantUpdate(participants=infos))
        for member in list(self.members.values()):
            if member.session is not None and member is not but:
                await member.session.send(update)

    async def tell_gone(self, members: Iterable[Member], reason: models.DisconnectReason | str) -> None:
        await self.tell([member.info(models.ParticipantInfo.DISCONNECTED, reason) for member in members])
