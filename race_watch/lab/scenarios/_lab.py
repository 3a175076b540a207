"""What the scenarios share: joining, publishing, scripting the server, and putting events where the SDK reads them.

Runs with the interpreter of a lab environment, where race_watch is not installed.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import importlib.util
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from livekit import rtc
from livekit.rtc._ffi_client import FfiClient
from livekit.rtc._proto.ffi_pb2 import FfiEvent

# Long enough for the SDK's own loop callbacks and its 50 ms native polls.
SETTLE_S = 0.2

# Registered before livekit registers its own, so it runs after that one has disposed of the native library. The native
# threads still log then, and one that calls into an interpreter which is already finalizing ends in a Rust panic.
atexit.register(time.sleep, 0.2)


def _load(name: str) -> ModuleType:
    """A module of race_watch.lab that needs the standard library only, taken from its file."""
    spec = importlib.util.spec_from_file_location(f"_lab_{name}", Path(__file__).parents[1] / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_tokens = _load("tokens")
_client = _load("client")


class Lab:
    """One run of a scenario: its arguments and the server it talks to."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.url: str = args.url
        self.room_name: str = args.room
        self._control = _client.Control(args.url)

    async def connect(self, room: rtc.Room, identity: str = "agent", name: str | None = None) -> rtc.Room:
        await room.connect(self.url, _tokens.token(name or self.room_name, identity))
        return room

    @asynccontextmanager
    async def joined(self, identity: str = "agent", name: str | None = None) -> AsyncIterator[rtc.Room]:
        """A connected room, left again at the end."""
        room = await self.connect(rtc.Room(), identity, name)
        try:
            yield room
        finally:
            await room.disconnect()

    async def server(self, command: str, **arguments: object) -> Any:
        """Let the scripted server do something in this run's room; see `race_watch.lab.script`."""
        arguments.setdefault("room", self.room_name)
        return await asyncio.to_thread(self._control.call, command, **arguments)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options every scenario has."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--url", required=True, help="ws:// URL of the scripted server")
    made.add_argument("--room", default=f"{Path(sys.argv[0]).stem}-{os.getpid()}", help="room name")
    made.add_argument("--log", default="WARNING", help="level of the root logger")
    return made


def run(main: Callable[[Lab], Awaitable[None]], options: argparse.ArgumentParser) -> None:
    """Parse, log to stderr as `LEVEL logger message`, run to the end."""
    args = options.parse_args()
    logging.basicConfig(level=args.log, format="%(levelname)s %(name)s %(message)s")

    async def body() -> None:
        await main(Lab(args))

    asyncio.run(body())


def say(text: str) -> None:
    print(text, flush=True)


@contextmanager
def caught(*expected: type[Exception]) -> Iterator[None]:
    """Print an expected exception as one line, the way an application that handles it would."""
    try:
        yield
    except expected as error:
        say(f"caught {type(error).__name__}: {error}")
    else:
        say("nothing was raised")


async def settle() -> None:
    """Let everything that is under way be delivered."""
    await asyncio.sleep(SETTLE_S)


def microphone(name: str = "mic") -> rtc.LocalAudioTrack:
    return rtc.LocalAudioTrack.create_audio_track(name, rtc.AudioSource(48000, 1))


def put(event: FfiEvent) -> None:
    """Put an event where the native library's callback puts its own."""
    FfiClient.instance.queue.put(event)


def inject(room: rtc.Room, **message: dict[str, Any]) -> None:
    """Put one room event of that room: `inject(room, participant_disconnected={"participant_identity": "ghost"})`."""
    put(FfiEvent(room_event={"room_handle": room._ffi_handle.handle, **message}))
