"""A local track's unpublish response overtakes its `local_track_unpublished` event (races row 1, python-sdks#692).

Everything is real but the order: a native thread may slip its response in front of the event, here it always does.
livekit 1.1.10 and older: one ERROR on the root logger with KeyError('TR_...'). From 1.1.11 on: nothing above DEBUG, the
application never hears that its track is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from _lab import Lab, microphone, parser, run, say, settle
from livekit.rtc._ffi_client import FfiClient
from livekit.rtc._proto.ffi_pb2 import FfiEvent


@contextmanager
def response_first() -> Iterator[None]:
    """Hold back the event until the response to the request has been delivered."""
    queue = FfiClient.instance.queue
    deliver = queue.put
    held: list[FfiEvent] = []

    def put(event: FfiEvent) -> None:
        if event.room_event.WhichOneof("message") == "local_track_unpublished":
            held.append(event)
            return
        deliver(event)
        if event.WhichOneof("message") == "unpublish_track":
            while held:
                deliver(held.pop())

    queue.put = put
    try:
        yield
    finally:
        del queue.put


async def scenario(lab: Lab) -> None:
    async with lab.joined() as room:
        room.on("local_track_unpublished", lambda publication: say(f"event: unpublished {publication.sid}"))
        publication = await room.local_participant.publish_track(microphone())
        await settle()
        with response_first():
            await room.local_participant.unpublish_track(publication.sid)
            await settle()
        say(f"unpublished {publication.sid}")


if __name__ == "__main__":
    run(scenario, parser(__doc__))
