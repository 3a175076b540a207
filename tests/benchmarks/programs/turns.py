"""The measured side of the protocol: a line on standard input asks for a turn, a number on standard output answers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from time import process_time_ns


def each(turn: Callable[[], float]) -> None:
    """Answers every line with `turn()`, until the input ends."""
    for _ in sys.stdin:
        print(turn(), flush=True)


def each_in_loop(operate: Callable[[int], Awaitable[object]], operations: int, loop: asyncio.AbstractEventLoop) -> None:
    """Answers every line with the CPU time of one operation, in us: `operate(operations)` runs in the loop."""

    async def turn() -> float:
        began = process_time_ns()
        await operate(operations)
        return (process_time_ns() - began) / operations / 1e3

    each(lambda: loop.run_until_complete(turn()))
    loop.close()
