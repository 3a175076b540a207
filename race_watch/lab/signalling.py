"""One client's signalling connection: what a LiveKit server says on `/rtc`, as far as the SDKs need it."""

from __future__ import annotations

import logging
import time

from aiohttp import WSMsgType, web
from aiortc.sdp import SessionDescription
from livekit.protocol import models, rtc

from .peer import Peer
from .rooms import LabRoom, Member

PING_INTERVAL_S = 5
PING_TIMEOUT_S = 15
# Clients of older protocols wait for the server's peer connection, whatever the join says (livekit 1.1.2 and older).
PUBLISHER_PRIMARY_SINCE = 17

_log = logging.getLogger(__name__)


class ClientSession:
    """Serves one websocket until it closes; `member.session` is this object meanwhile."""

    def __init__(self, socket: web.WebSocketResponse, room: LabRoom, member: Member, protocol: int) -> None:
        self._socket = socket
        self._room = room
        self._member = member
        self._joined = False
        self._subscriber = Peer() if protocol < PUBLISHER_PRIMARY_SINCE else None
        self._publisher: Peer | None = None
        # Client track id -> sid, and the sids which an offer has carried: those unpublish by vanishing from one.
        self._sid_of: dict[str, str] = {}
        self._offered: set[str] = set()

    async def send(self, response: rtc.SignalResponse) -> None:
        # What happens before the join is in the join. A client that is just leaving is no error of the script which
        # tells the room something.
        if self._joined and not self._socket.closed:
            try:
                await self._socket.send_bytes(response.SerializeToString())
            except ConnectionError:
                _log.debug("%s closed while being told something", self._member.identity)

    async def close(self) -> None:
        await self._socket.close()

    async def serve(self) -> None:
        """Send the join, then answer requests until the websocket ends or the client says it leaves."""
        try:
            await self._join()
            async for message in self._socket:
                if message.type is not WSMsgType.BINARY:
                    continue
                request = rtc.SignalRequest.FromString(message.data)
                if request.WhichOneof("message") == "leave":
                    break
                await self._answer(request)
        finally:
            for peer in (self._subscriber, self._publisher):
                if peer is not None:
                    await peer.close()

    async def _join(self) -> None:
        others = [other.info() for other in self._room.members.values() if other is not self._member]
        join = rtc.JoinResponse(
            room=self._room.info(),
            participant=self._member.info(),
            other_participants=others,
            server_version="1.9.0",
            subscriber_primary=self._subscriber is not None,
            ping_interval=PING_INTERVAL_S,
            ping_timeout=PING_TIMEOUT_S,
            server_info=models.ServerInfo(version="1.9.0", protocol=15),
        )
        self._joined = True
        await self.send(rtc.SignalResponse(join=join))
        if self._subscriber is not None:
            offer = rtc.SessionDescription(type="offer", sdp=await self._subscriber.offer())
            await self.send(rtc.SignalResponse(offer=offer))

    async def _answer(self, request: rtc.SignalRequest) -> None:
        kind = request.WhichOneof("message")
        if kind == "offer":
            await self._answer_offer(request.offer)
        elif kind == "answer" and self._subscriber is not None:
            await self._subscriber.take_answer(request.answer.sdp)
        elif kind == "trickle":
            await self._add_candidate(request.trickle)
        elif kind == "add_track":
            await self._add_track(request.add_track)
        elif kind == "mute" and request.mute.sid in self._member.tracks:
            self._member.tracks[request.mute.sid].muted = request.mute.muted
            await self._room.tell([self._member.info()], but=self._member)
        elif kind == "ping":
            await self.send(rtc.SignalResponse(pong=request.ping))
        elif kind == "ping_req":
            pong = rtc.Pong(last_ping_timestamp=request.ping_req.timestamp, timestamp=int(time.time() * 1000))
            await self.send(rtc.SignalResponse(pong_resp=pong))

    async def _answer_offer(self, offer: rtc.SessionDescription) -> None:
        sdp = await self._publisher_peer().answer(offer.sdp)
        await self.send(rtc.SignalResponse(answer=rtc.SessionDescription(type="answer", sdp=sdp, id=offer.id)))
        await self._drop_vanished(offer.sdp)

    async def _add_candidate(self, trickle: rtc.TrickleRequest) -> None:
        peer = self._subscriber if trickle.target == rtc.SUBSCRIBER else self._publisher_peer()
        if peer is not None:
            await peer.add_candidate(trickle.candidateInit)

    def _publisher_peer(self) -> Peer:
        if self._publisher is None:
            self._publisher = Peer()
        return self._publisher

    async def _add_track(self, request: rtc.AddTrackRequest) -> None:
        info = self._member.publish(request.type, request.name)
        info.muted = request.muted
        info.source = request.source
        self._sid_of[request.cid] = info.sid
        published = rtc.TrackPublishedResponse(cid=request.cid, track=info)
        await self.send(rtc.SignalResponse(track_published=published))
        await self._room.tell([self._member.info()], but=self._member)

    async def _drop_vanished(self, sdp: str) -> None:
        """Unpublish the tracks which an earlier offer carried and this one does not: the client removed them."""
        sending = {
            media.msid.split()[-1]
            for media in SessionDescription.parse(sdp).media
            if media.msid and media.direction in ("sendrecv", "sendonly")
        }
        carried = {sid for cid, sid in self._sid_of.items() if cid in sending}
        gone = (self._offered - carried) & set(self._member.tracks)
        self._offered = carried
        for sid in gone:
            del self._member.tracks[sid]
        if gone:
            await self._room.tell([self._member.info()], but=self._member)
