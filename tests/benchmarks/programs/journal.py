"""Lifecycle events straight into the journal of this process; it must be armed."""

from __future__ import annotations

import asyncio

from turns import each_in_loop

OPERATIONS = 10_000
BODY = "1\x1ftrack_muted\x1fid:0123456789ab\x1fTR_AMw1x2y3z4"


def main() -> None:
    loop = asyncio.new_event_loop()
    from race_watch import agent, events

    code, recorder = events.RoomEventDispatched.code, agent.current().context.recorder  # type: ignore[union-attr]

    async def write(operations: int) -> None:
        for _ in range(operations):
            recorder.emit(code, BODY)

    each_in_loop(write, OPERATIONS, loop)


main()
