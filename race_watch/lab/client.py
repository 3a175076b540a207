"""The control API from the outside. Standard library only: scenario scripts load this file by path."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_S = 10.0


class ControlError(Exception):
    """The server refused a command; the message is its one line."""


class Control:
    """`Control("ws://127.0.0.1:7880").call("add", room="r", count=2, tracks=1)`. Blocks until the clients are told."""

    def __init__(self, url: str) -> None:
        self._base = url.replace("ws", "http", 1) + "/lab/"
        # The server is on this machine; a proxy named in the environment is not for it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(self, command: str, **arguments: object) -> Any:
        """Run one command of the script; returns its result.

        Raises:
            ControlError: the server says what is wrong with it.
        """
        return self._open(urllib.request.Request(self._base + command, json.dumps(arguments).encode()))["result"]

    def rooms(self) -> list[dict[str, Any]]:
        """Every room, its participants and their tracks."""
        rooms: list[dict[str, Any]] = self._open(urllib.request.Request(self._base + "rooms"))["rooms"]
        return rooms

    def _open(self, request: urllib.request.Request) -> dict[str, Any]:
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode()
            raise ControlError(_message(text)) from None
        return answer


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["error"])
    except (KeyError, TypeError, ValueError):
        return f"no lab server there: {text.strip()!r}"
