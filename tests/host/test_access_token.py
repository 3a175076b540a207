"""The room in an access token, and nothing from anything else: the text is whatever the host passes to `connect`."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from arming import Armed
from hypothesis import given
from hypothesis import strategies as st

from race_watch.events import CallStarted, RoomNamed
from race_watch.hooks.access_token import token_room
from race_watch.hooks.room_calls import _argument, _Calls
from race_watch.lab.tokens import token


def made(claims: object) -> str:
    """A token with these claims."""
    return f"header.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.signature"


def test_room_of_a_token_that_a_server_takes() -> None:
    assert token_room(token("lobby", "agent")) == "lobby"


@pytest.mark.parametrize("name", ["x", "xy", "xyz", "ünï ☎ / ?&+-_", "a" * 5000])
def test_room_of_any_length_and_alphabet(name: str) -> None:
    assert token_room(made({"video": {"room": name, "roomJoin": True}, "sub": "caller"})) == name


NONE = {
    "empty": "",
    "two parts": "a.b",
    "four parts": made({"video": {"room": "x"}}) + ".d",
    "no base64": "a.\x00\u2603.c",
    "no JSON": f"a.{base64.urlsafe_b64encode(b'[').decode()}.c",
    "no UTF-8": f"a.{base64.urlsafe_b64encode(bytes([0xFF] * 9)).decode()}.c",
    "a number": made(7),
    "a text": made("video"),
    "a list": made(["video"]),
    "no grant": made({"sub": "caller"}),
    "grant is a text": made({"video": "room"}),
    "no room": made({"video": {"roomJoin": True}}),
    "room is a number": made({"video": {"room": 7}}),
    "room is null": made({"video": {"room": None}}),
    "nested too deep": f"a.{base64.urlsafe_b64encode(b'[' * 12_000).decode()}.c",
    "too long": made({"video": {"room": "x"}, "metadata": "m" * 20_000}),
}


@pytest.mark.parametrize("text", NONE.values(), ids=NONE)
def test_what_is_no_token_for_a_room_has_none(text: str) -> None:
    assert token_room(text) == ""


@given(st.text() | st.builds("{}.{}.{}".format, st.text(), st.text(), st.text()))
def test_any_text_gives_a_text(text: str) -> None:
    assert type(token_room(text)) is str


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_claims_give_a_text(claims: Any) -> None:
    assert type(token_room(made({"video": claims}))) is str


class Room:
    """As much of the SDK's as tells that it is one."""

    def __init__(self) -> None:
        self._remote_participants: dict[str, Any] = {}


# What `connect` is called with

WAYS = {
    "by place": (("ws://x", "T"), {}),
    "by name": ((), {"url": "ws://x", "token": "T"}),
    "by name, the other way round": ((), {"token": "T", "url": "ws://x"}),
    "by place and name": (("ws://x",), {"token": "T"}),
    "with options": (("ws://x", "T", object()), {}),
}


@pytest.mark.parametrize(("args", "kwargs"), WAYS.values(), ids=WAYS)
def test_token_is_found_however_it_is_passed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert _argument("connect", args, kwargs) == "T"


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), (("ws://x",), {}), (("ws://x", None), {}), (("ws://x", b"T"), {})])
def test_call_without_a_token_has_none(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert _argument("connect", args, kwargs) == ""


@pytest.mark.parametrize(("args", "kwargs"), WAYS.values(), ids=WAYS)
def test_room_that_connects_is_named_and_its_token_is_nowhere(
    armed: Armed, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    secret = token("lobby", "caller-jane")
    args = tuple(secret if value == "T" else value for value in args)
    kwargs = {name: secret if value == "T" else value for name, value in kwargs.items()}
    room = Room()
    _Calls(armed.context).started(1, room, "connect", args, kwargs)
    (started,) = armed.seen(CallStarted)
    assert (started.method, started.track_sid) == ("connect", "")
    assert armed.seen(RoomNamed) == [RoomNamed(started.room, "lobby")]
    for text in (*secret.split("."), "caller-jane"):
        assert text.encode() not in armed.raw()


def test_name_of_a_room_is_cleaned_and_bounded(armed: Armed) -> None:
    name = "a\x1f\n" * 100
    room = Room()
    _Calls(armed.context).started(1, room, "connect", ("ws://x", made({"video": {"room": name}})), {})
    (named,) = armed.seen(RoomNamed)
    assert named.name == ("a  " * 100)[:128]
