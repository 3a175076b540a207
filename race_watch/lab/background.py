"""The scripted server in a thread of its own, for callers that have no event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from .sfu import LabSfu

STOP_TIMEOUT_S = 10.0


@contextmanager
def background_sfu(host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Run a `LabSfu` in a daemon thread; yields its URL. Script it with `client.Control`.

    Raises:
        LabError: it cannot listen there.
    """
    started: SimpleQueue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event] | BaseException] = SimpleQueue()

    async def serve() -> None:
        async with LabSfu(host, port) as sfu:
            stop = asyncio.Event()
            started.put((sfu.url, asyncio.get_running_loop(), stop))
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for the start
            started.put(error)

    thread = threading.Thread(target=run, name="race-watch-lab-sfu", daemon=True)
    thread.start()
    outcome = started.get()
    if isinstance(outcome, BaseException):
        raise outcome
    url, loop, stop = outcome
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(STOP_TIMEOUT_S)
