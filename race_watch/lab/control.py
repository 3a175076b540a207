"""The lab server's HTTP control API: its script commands by name, for scripts that run in another process."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .errors import LabError

if TYPE_CHECKING:
    from .sfu import LabSfu

COMMANDS = ("add", "answer", "drop", "leave", "mute", "publish", "rejoin", "remove", "unpublish")


def add_control_routes(app: web.Application, sfu: LabSfu) -> None:
    """`GET /lab/rooms`, and `POST /lab/<command>` with a JSON object of arguments.

    A command answers `{"result": ...}`; a mistake in the request is a 400 whose `{"error": ...}` is one line.
    """

    async def rooms(_request: web.Request) -> web.Response:
        return web.json_response({"rooms": sfu.rooms()})

    async def command(request: web.Request) -> web.Response:
        try:
            result = await _run(sfu, request.match_info["command"], await request.text())
        except LabError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"result": result})

    app.router.add_get("/lab/rooms", rooms)
    app.router.add_post("/lab/{command}", command)


async def _run(sfu: LabSfu, name: str, body: str) -> object:
    if name not in COMMANDS:
        raise LabError(f"unknown command {name}; one of {', '.join(COMMANDS)}")
    method = getattr(sfu, name)
    return await method(**_arguments(name, method, body))


def _arguments(name: str, method: typing.Callable[..., Any], body: str) -> dict[str, Any]:
    """The arguments of a command, checked against the method's own signature."""
    try:
        arguments = json_object(body)
        inspect.signature(method).bind(**arguments)
    except (TypeError, ValueError) as error:
        raise LabError(f"{name}: {error}") from None
    hints = typing.get_type_hints(method)
    for key, value in arguments.items():
        if not _fits(value, hints[key]):
            raise LabError(f"{name}: {key} is {value!r}, expected {_shown(hints[key])}")
    return arguments


def json_object(body: str) -> dict[str, Any]:
    """Parse a request body.

    Raises:
        ValueError: it is not a JSON object.
    """
    value = json.loads(body or "{}")
    if not isinstance(value, dict):
        raise ValueError("the body is not a JSON object")
    return value


def _fits(value: object, hint: object) -> bool:
    alternatives = typing.get_args(hint)
    if typing.get_origin(hint) is Sequence:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if alternatives:
        return any(_fits(value, alternative) for alternative in alternatives)
    if hint is bool or isinstance(value, bool):
        return hint is bool and isinstance(value, bool)
    if hint is float:
        return isinstance(value, (int, float))
    return isinstance(hint, type) and isinstance(value, hint)


def _shown(hint: object) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)
