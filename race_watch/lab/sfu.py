"""A scripted LiveKit server: real signalling, no media, every server action on command.

It answers `/rtc/v1` with 404 (so that clients fall back to the older path) and speaks the `/rtc` websocket. It listens
where it is told to; the data channel's ICE needs one network interface that is not the loopback.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from types import TracebackType

import click
from aiohttp import web
from livekit.protocol import models, rtc

from .control import add_control_routes
from .errors import LabError
from .rooms import LabRoom, Member
from .script import Script
from .signalling import PUBLISHER_PRIMARY_SINCE, ClientSession
from .tokens import claims_of

WEBSOCKET_CLOSE_S = 1.0


class LabSfu(Script):
    """`async with LabSfu() as sfu: await Room().connect(sfu.url, token("room", "me"))`.

    Its commands are those of `Script`; the control API offers the same ones under the same names and with the same
    arguments: `POST /lab/<name>` with a JSON object.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__()
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"ws://{self._host}:{self._port}"

    async def __aenter__(self) -> LabSfu:
        app = web.Application()
        app.router.add_get("/rtc", self._serve_client)
        add_control_routes(app, self)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=WEBSOCKET_CLOSE_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise LabError(f"cannot listen on {self._host}:{self._port}: {error.strerror}") from error
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._runner is not None
        for room in self._rooms.values():
            for member in list(room.members.values()):
                if member.session is not None:
                    await member.session.close()
        await self._runner.cleanup()

    async def _serve_client(self, request: web.Request) -> web.StreamResponse:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            name, identity = claims_of(bearer or request.query.get("access_token", ""))
        except ValueError as error:
            return web.Response(status=401, text=str(error))
        if request.query.get("reconnect") == "1":
            # aiortc cannot restart ICE, so a resume could only hang; refused, the client starts a full reconnect.
            return web.Response(status=404, text="the lab does not resume sessions")
        room = self._room(name)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        if not room.answers:
            await socket.receive()
            return socket
        await self._replace(room, identity)
        member = Member(identity)
        protocol = int(request.query.get("protocol", PUBLISHER_PRIMARY_SINCE))
        session = member.session = ClientSession(socket, room, member, protocol)
        room.members[identity] = member
        try:
            await room.tell([member.info()], but=member)
            await session.serve()
        finally:
            if room.members.get(identity) is member:
                del room.members[identity]
                await room.tell_gone([member], models.CLIENT_INITIATED)
                self._forget_if_empty(room)
        return socket

    async def _replace(self, room: LabRoom, identity: str) -> None:
        """One identity is in a room once: whoever had it is sent away, as the real server does."""
        old = room.members.pop(identity, None)
        if old is None:
            return
        if old.session is not None:
            request = rtc.LeaveRequest(reason=models.DUPLICATE_IDENTITY, action=rtc.LeaveRequest.DISCONNECT)
            await old.session.send(rtc.SignalResponse(leave=request))
            await old.session.close()
        await room.tell_gone([old], models.DUPLICATE_IDENTITY)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=7880, show_default=True, help="0 takes a free one.")
@click.option("--ready-file", type=click.Path(path_type=Path), help="Written with the URL once it listens.")
def main(host: str, port: int, ready_file: Path | None) -> None:
    """Run the scripted LiveKit server until SIGINT or SIGTERM; prints its URL."""
    try:
        asyncio.run(_serve(host, port, ready_file))
    except LabError as error:
        raise click.ClickException(str(error)) from None


async def _serve(host: str, port: int, ready_file: Path | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with LabSfu(host, port) as sfu:
        print(sfu.url, flush=True)
        if ready_file is not None:
            # Renamed into place: whoever waits for the file never reads half of it.
            partial = ready_file.with_name(ready_file.name + ".partial")
            partial.write_text(sfu.url + "\n")
            partial.replace(ready_file)
        await stop.wait()


if __name__ == "__main__":
    main()
