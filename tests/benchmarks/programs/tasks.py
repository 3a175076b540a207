"""Tasks, BATCH at a time: alone each would wait for two turns of the loop, whose system calls would hide what it costs.

Arguments: `other` or `sdk`, `asyncio` or `uvloop`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from turns import each_in_loop

OPERATIONS = 2000
BATCH = 50


async def nothing() -> None:
    return


def sdk_coroutine() -> Any:
    """A coroutine function whose file is the SDK's, as far as anybody can tell from its code."""
    namespace: dict[str, Any] = {}
    exec(compile("async def nothing(): return", "/app/site-packages/livekit/rtc/nothing.py", "exec"), namespace)
    return namespace["nothing"]


def main(whose: str, kind: str) -> None:
    coroutine = sdk_coroutine() if whose == "sdk" else nothing

    async def run(operations: int) -> None:
        for _ in range(operations // BATCH):
            for task in [asyncio.create_task(coroutine()) for _ in range(BATCH)]:
                await task

    loop = asyncio.new_event_loop()
    if kind == "uvloop":
        loop.close()  # made only because the bootstrap arms with the first loop of asyncio's own, or with livekit
        import uvloop

        loop = uvloop.new_event_loop()
    each_in_loop(run, OPERATIONS, loop)


main(*sys.argv[1:])
