"""The scripted server: as a client hears it, as its control API is used, and under real SDKs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner
from livekit.protocol import models, rtc

from race_watch.lab.__main__ import main
from race_watch.lab.background import background_sfu
from race_watch.lab.client import Control, ControlError
from race_watch.lab.errors import LabError
from race_watch.lab.runner import run_scenario, scenarios
from race_watch.lab.sfu import LabSfu
from race_watch.lab.tokens import claims_of, token

RECEIVE_S = 5.0
READY_S = 20.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with background_sfu() as running:
        yield running


async def joined(http: aiohttp.ClientSession, url: str, room: str, identity: str) -> aiohttp.ClientWebSocketResponse:
    return await http.ws_connect(f"{url}/rtc", headers={"Authorization": f"Bearer {token(room, identity)}"})


async def heard(socket: aiohttp.ClientWebSocketResponse) -> rtc.SignalResponse:
    return rtc.SignalResponse.FromString(await socket.receive_bytes(timeout=RECEIVE_S))


def test_token_carries_room_and_identity() -> None:
    assert claims_of(token("r", "me")) == ("r", "me")


@pytest.mark.parametrize("text", ["", "a.b.c", "e30.e30.e30"])
def test_what_is_no_token_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not an access token with a room and an identity: .*$"):
        claims_of(text)


def test_newer_path_is_404_and_a_bad_token_401() -> None:
    async def body() -> None:
        async with LabSfu() as sfu, aiohttp.ClientSession() as http:
            base = sfu.url.replace("ws", "http")
            assert (await http.get(f"{base}/rtc/v1")).status == 404
            assert (await http.get(f"{base}/rtc?access_token=x")).status == 401

    asyncio.run(body())


def test_join_names_those_who_are_there_and_updates_name_those_who_come_and_go() -> None:
    async def body() -> None:
        async with LabSfu() as sfu, aiohttp.ClientSession() as http:
            await sfu.add("r", identities=["early"], tracks=2)
            socket = await joined(http, sfu.url, "r", "me")
            join = (await heard(socket)).join
            assert join.room.sid.startswith("RM_")
            assert [(other.identity, len(other.tracks)) for other in join.other_participants] == [("early", 2)]
            await sfu.add("r", identities=["late"])
            await sfu.remove("r", identities=["early"])
            states = {}
            while len(states) < 2:
                for info in (await heard(socket)).update.participants:
                    states[info.identity] = info.state
            assert states == {"late": models.ParticipantInfo.ACTIVE, "early": models.ParticipantInfo.DISCONNECTED}

    asyncio.run(body())


def test_rejoin_tells_of_the_new_sid_before_the_old_one_disconnects() -> None:
    async def body() -> None:
        async with LabSfu() as sfu, aiohttp.ClientSession() as http:
            [old] = await sfu.add("r", identities=["caller"])
            socket = await joined(http, sfu.url, "r", "me")
            await heard(socket)
            new = await sfu.rejoin("r", "caller")
            told = [(await heard(socket)).update.participants[0] for _ in range(2)]
            assert [info.sid for info in told] == [new["sid"], old["sid"]]
            assert told[1].state == models.ParticipantInfo.DISCONNECTED

    asyncio.run(body())


def test_room_that_does_not_answer_sends_no_join() -> None:
    async def body() -> None:
        async with LabSfu() as sfu, aiohttp.ClientSession() as http:
            await sfu.answer("r", answers=False)
            socket = await joined(http, sfu.url, "r", "me")
            with pytest.raises(asyncio.TimeoutError):
                await socket.receive_bytes(timeout=0.3)
            await socket.close()

    asyncio.run(body())


def test_leave_gives_its_reason_and_ends_the_connection() -> None:
    async def body() -> None:
        async with LabSfu() as sfu, aiohttp.ClientSession() as http:
            socket = await joined(http, sfu.url, "r", "me")
            await heard(socket)
            await sfu.leave("r", "me", reason="ROOM_DELETED")
            assert (await heard(socket)).leave.reason == models.ROOM_DELETED
            assert (await socket.receive(timeout=RECEIVE_S)).type is aiohttp.WSMsgType.CLOSE

    asyncio.run(body())


def test_second_client_of_one_identity_sends_the_first_away() -> None:
    async def body() -> None:
        async with LabSfu() as sfu, aiohttp.ClientSession() as http:
            first = await joined(http, sfu.url, "r", "me")
            await heard(first)
            second = await joined(http, sfu.url, "r", "me")
            assert (await heard(first)).leave.reason == models.DUPLICATE_IDENTITY
            assert not (await heard(second)).join.other_participants

    asyncio.run(body())


def test_port_in_use_is_one_line(url: str) -> None:
    port = int(url.rsplit(":", 1)[1])
    with pytest.raises(LabError, match=rf"^cannot listen on 127\.0\.0\.1:{port}: .+$"), background_sfu(port=port):
        pass


def test_control_api_does_and_shows(url: str) -> None:
    control = Control(url)
    [caller] = control.call("add", room="shown", identities=["caller"], tracks=1)
    [track] = caller["tracks"]
    assert control.call("mute", room="shown", identity="caller") == [track["sid"]]
    [room] = [room for room in control.rooms() if room["name"] == "shown"]
    assert room["participants"] == [{**caller, "tracks": [{"sid": track["sid"], "muted": True}]}]
    assert control.call("remove", room="shown") == ["caller"]
    assert "shown" not in [room["name"] for room in control.rooms()]


@pytest.mark.parametrize(
    ("command", "arguments", "line"),
    [
        ("dance", {}, "unknown command dance; one of add, answer, drop, .*"),
        ("add", {}, "add: missing a required argument: 'room'"),
        ("add", {"room": "r", "colour": "red"}, "add: got an unexpected keyword argument 'colour'"),
        ("add", {"room": "r", "count": "two"}, "add: count is 'two', expected int"),
        ("add", {"room": "r", "count": True}, "add: count is True, expected int"),
        ("add", {"room": "r", "identities": "caller"}, "add: identities is 'caller', expected .*"),
        ("add", {"room": "r", "tracks": 1, "kind": "smell"}, "kind is 'smell', expected audio or video"),
        ("remove", {"room": "nowhere"}, "no room nowhere; known: .*"),
        ("mute", {"room": "there", "identity": "ghost"}, "no participant ghost in room there"),
        ("unpublish", {"room": "there", "identity": "one", "track": "TR_x"}, "one publishes no track TR_x"),
        ("leave", {"room": "there", "identity": "one"}, "one in room there is scripted, not a connected client"),
        ("remove", {"room": "there", "reason": "BORED"}, "unknown reason BORED; one of .*"),
    ],
)
def test_control_api_says_what_is_wrong_in_one_line(url: str, command: str, arguments: dict[str, object], line: str) -> None:
    control = Control(url)
    if not any(room["name"] == "there" for room in control.rooms()):
        control.call("add", room="there", identities=["one"])
    with pytest.raises(ControlError, match=f"^{line}$"):
        control.call(command, **arguments)


def test_refused_command_changes_nothing(url: str) -> None:
    control = Control(url)
    control.call("add", room="kept", identities=["one"])
    with pytest.raises(ControlError, match="unknown reason"):
        control.call("remove", room="kept", reason="BORED")
    with pytest.raises(ControlError, match=r"^one would be twice in room kept; "):
        control.call("add", room="kept", identities=["two", "one"])
    [room] = [room for room in control.rooms() if room["name"] == "kept"]
    assert [member["identity"] for member in room["participants"]] == ["one"]


def test_body_that_is_no_object_is_a_400() -> None:
    async def body() -> None:
        async with LabSfu() as sfu, aiohttp.ClientSession() as http:
            answer = await http.post(sfu.url.replace("ws", "http") + "/lab/add", data="[1]")
            assert (answer.status, await answer.json()) == (400, {"error": "add: the body is not a JSON object"})

    asyncio.run(body())


def test_standalone_server_prints_its_url_and_ends_on_sigterm(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "race_watch.lab.sfu", "--port", "0", "--ready-file", str(ready)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            deadline_s = time.monotonic() + READY_S
            while not ready.exists() and time.monotonic() < deadline_s:
                time.sleep(0.05)
            url = ready.read_text().strip()
            assert Control(url).rooms() == []
        finally:
            process.terminate()
        out, _ = process.communicate(timeout=READY_S)
    assert (out, process.returncode) == (f"{url}\n", 0)


def test_every_scenario_says_what_it_provokes() -> None:
    listed = scenarios()
    assert {"clean_session", "local_unpublish_keyerror", "storm"} <= set(listed)
    assert all(title.endswith(".") for title in listed.values()), json.dumps(listed, indent=1)


def test_unknown_scenario_is_one_line() -> None:
    with pytest.raises(LabError, match=r"^no scenario nonsense; one of audiostream_task_before_handle, .*$"):
        run_scenario("nonsense")


def test_command_line_lists_and_refuses_in_one_line() -> None:
    listed = CliRunner().invoke(main, ["--list"])
    assert [line.split()[0] for line in listed.output.splitlines()] == list(scenarios())
    refused = CliRunner().invoke(main, ["nonsense"])
    assert (refused.exit_code, refused.output.count("\n")) == (1, 1)


@pytest.mark.wheels
@pytest.mark.parametrize("livekit", ["1.0.25", "1.1.8", "1.2.0"])
def test_clean_session_of_a_real_sdk_logs_nothing(url: str, livekit: str) -> None:
    done = run_scenario("clean_session", livekit=livekit, sfu_url=url)
    assert (done.returncode, done.stdout) == (0, "left\nleft\n"), done.stderr
    # Newer SDKs warn that they fall back from the path which the lab answers with 404.
    assert [line for line in done.stderr.splitlines() if "v1 path" not in line] == []


@pytest.mark.wheels
def test_race_of_a_real_sdk_shows_as_its_script_says() -> None:
    done = run_scenario("local_unpublish_keyerror", livekit="1.1.8")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("ERROR root error running user callback for local_track_unpublished") == 1
    assert "KeyError: 'TR_" in done.stderr


@pytest.mark.wheels
@pytest.mark.parametrize(("livekit", "returncode"), [("1.0.25", -15), ("1.1.7", -6), ("1.1.8", 0)])
def test_signal_that_ends_a_scenario_is_its_return_code(url: str, livekit: str, returncode: int) -> None:
    done = run_scenario("disconnect_stale_handle", livekit=livekit, sfu_url=url)
    assert done.returncode == returncode, done.stderr


@pytest.mark.wheels
def test_scenario_runs_under_a_command_and_with_variables(url: str) -> None:
    shell = ["sh", "-c", 'echo "$GREETING"; exec "$@"', "sh"]
    done = run_scenario("use_before_connect", sfu_url=url, under=shell, env={"GREETING": "hello"})
    assert done.stdout.splitlines() == [
        "hello",
        "caught Exception: cannot access local participant before connecting",
        "I am agent",
    ]


@pytest.mark.wheels
def test_scenario_that_does_not_end_is_ended(url: str) -> None:
    with pytest.raises(LabError, match=r"^storm did not end in 1 s; last: .*$"):
        run_scenario("storm", ["--seconds", "60"], livekit="1.1.8", sfu_url=url, timeout=1)
