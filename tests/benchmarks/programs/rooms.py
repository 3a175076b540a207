"""A `livekit.rtc.Room` without a server, and protobuf events for it.

Handle 0 is never dropped natively, so nothing here reaches the native library.
"""

from __future__ import annotations

from livekit import rtc
from livekit.rtc._ffi_client import FfiHandle
from livekit.rtc._proto import participant_pb2, room_pb2
from livekit.rtc.participant import LocalParticipant

PEER, TRACK = "caller-17", "TR_AMw1x2y3z4"


def unconnected_room() -> rtc.Room:
    """A room that believes it is connected; call it in the thread of the current loop."""
    room = rtc.Room()
    room._ffi_handle = FfiHandle(0)
    room._ffi_queue = None
    room._connection_state = rtc.ConnectionState.CONN_CONNECTED
    room._local_participant = LocalParticipant(room._room_queue, owned("agent"))
    return room


def owned(identity: str) -> participant_pb2.OwnedParticipant:
    return participant_pb2.OwnedParticipant(
        handle={"id": 0},
        info={"sid": "PA_q1w2e3r4t5", "identity": identity, "name": "", "metadata": "", "state": 0, "kind": 0},
    )


def connected() -> room_pb2.RoomEvent:
    return room_pb2.RoomEvent(room_handle=0, participant_connected={"info": owned(PEER)})


def disconnected() -> room_pb2.RoomEvent:
    return room_pb2.RoomEvent(
        room_handle=0, participant_disconnected={"participant_identity": PEER, "disconnect_reason": "CLIENT_INITIATED"}
    )


def published() -> room_pb2.RoomEvent:
    info = {"sid": TRACK, "name": "", "kind": "KIND_AUDIO", "source": "SOURCE_MICROPHONE", "mime_type": "audio/opus"}
    return room_pb2.RoomEvent(room_handle=0, track_published={"participant_identity": PEER, "publication": {"info": info}})


def muted() -> room_pb2.RoomEvent:
    return room_pb2.RoomEvent(room_handle=0, track_muted={"participant_identity": PEER, "track_sid": TRACK})


def unmuted() -> room_pb2.RoomEvent:
    return room_pb2.RoomEvent(room_handle=0, track_unmuted={"participant_identity": PEER, "track_sid": TRACK})


def quality() -> room_pb2.RoomEvent:
    return room_pb2.RoomEvent(
        room_handle=0, connection_quality_changed={"participant_identity": PEER, "quality": "QUALITY_GOOD"}
    )
