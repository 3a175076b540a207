"""The server's end of one WebRTC peer connection, without media.

The data channel connects; audio and video sections are negotiated `inactive`, so no packet is ever decoded.
"""

from __future__ import annotations

import json

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp

# What a LiveKit server opens towards clients; they look for these labels.
CHANNELS = ("_reliable", "_lossy")


class Peer:
    """One peer connection; candidates may come before the description they belong to."""

    def __init__(self) -> None:
        # No ICE servers: the default of aiortc would ask a public STUN server.
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._described = False
        self._early: list[str] = []

    async def answer(self, offer_sdp: str) -> str:
        """Take the client's offer, the first one or a later one; returns the SDP of the answer."""
        await self._describe(offer_sdp, "offer")
        for transceiver in self._connection.getTransceivers():
            transceiver.direction = "inactive"
        await self._connection.setLocalDescription(await self._connection.createAnswer())
        return str(self._connection.localDescription.sdp)

    async def offer(self) -> str:
        """Offer the server's data channels; returns the SDP."""
        for label in CHANNELS:
            self._connection.createDataChannel(label)
        await self._connection.setLocalDescription(await self._connection.createOffer())
        return str(self._connection.localDescription.sdp)

    async def take_answer(self, sdp: str) -> None:
        await self._describe(sdp, "answer")

    async def add_candidate(self, candidate_init: str) -> None:
        """Add a candidate as the signalling carries it: the JSON of an `RTCIceCandidateInit`."""
        line = json.loads(candidate_init).get("candidate", "").removeprefix("candidate:")
        if not line:
            return
        if self._described:
            await self._add(line)
        else:
            self._early.append(line)

    async def close(self) -> None:
        await self._connection.close()

    async def _describe(self, sdp: str, kind: str) -> None:
        await self._connection.setRemoteDescription(RTCSessionDescription(sdp=sdp, type=kind))
        self._described = True
        for line in self._early:
            await self._add(line)
        self._early.clear()

    async def _add(self, line: str) -> None:
        candidate = candidate_from_sdp(line)
        # Every section is bundled on the first transport.
        candidate.sdpMLineIndex = 0
        await self._connection.addIceCandidate(candidate)
