"""The seeds' races in published LiveKit versions, through `race-watch run` to the incident file."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from commands import PATIENCE_S, RACE_WATCH, incidents_in

from race_watch.lab.background import background_sfu
from race_watch.lab.runner import Completed, run_scenario
from race_watch.watcher import Watcher

pytestmark = [pytest.mark.wheels, pytest.mark.timeout(600)]

one_python = pytest.mark.one_python


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    with background_sfu() as running:
        yield running


@dataclass(frozen=True)
class Ran:
    done: Completed
    path: Path
    run_dir: Path

    @property
    def incidents(self) -> list[dict[str, Any]]:
        return incidents_in(self.path)

    def only(self) -> dict[str, Any]:
        assert len(self.incidents) == 1, self.incidents
        assert self.incidents[0]["count"] == 1
        return self.incidents[0]

    def replayed(self) -> Watcher:
        """The kept journals, read again."""
        watcher = Watcher(str(self.run_dir), lambda incident, again: None, pytest.fail, keep=True)
        watcher.finish()
        return watcher


@dataclass(frozen=True)
class Watched:
    """Scenarios under `race-watch run`, their files in the test's own place."""

    url: str
    home: Path

    def run(self, name: str, *args: str, livekit: str = "1.1.8", agents: str | None = None, **variables: str) -> Ran:
        path, run_dir = self.home / "incidents.jsonl", self.home / "run"
        options = ["--quiet", "--metrics-port", "0", "--incidents", str(path), "--run-dir", str(run_dir), "--keep"]
        done = run_scenario(
            name,
            args,
            livekit=livekit,
            agents=agents,
            sfu_url=self.url,
            under=[*RACE_WATCH, "run", *options, "--"],
            env=variables,
            timeout=2 * PATIENCE_S,
        )
        assert "race-watch" not in done.stderr
        return Ran(done, path, run_dir)


@pytest.fixture
def watched(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    for name in [name for name in os.environ if name.startswith("RACE_WATCH") and not name.startswith("RACE_WATCH_LAB")]:
        monkeypatch.delenv(name)
    return Watched(url, tmp_path)


def shown(incident: dict[str, Any]) -> dict[str, Any]:
    """What names an incident."""
    return {name: incident[name] for name in ("category", "verdict", "signature", "fixed_in", "upstream", "confidence")}


def named(category: str, verdict: str, signature: str, fixed_in: str | None = None, upstream: str = "") -> dict[str, Any]:
    return {
        "category": category,
        "verdict": verdict,
        "signature": signature,
        "fixed_in": fixed_in,
        "upstream": upstream,
        "confidence": 1.0,
    }


# Seed 1


def test_unpublish_that_is_answered_first_is_a_registry_race(watched: Watched) -> None:
    ran = watched.run("local_unpublish_keyerror", livekit="1.1.8")
    incident = ran.only()
    assert ran.done.returncode == 0
    assert shown(incident) == named("registry_race", "sdk", "local-unpublish-keyerror", "1.1.11", "livekit/python-sdks#681")
    assert incident["sdk"] == {"livekit": "1.1.8"}
    assert incident["room"]["name"].startswith("local_unpublish_keyerror-")
    assert incident["room"]["sid"].startswith("RM_")
    assert f"unpublished {incident['track_sid']}" in ran.done.stdout
    assert incident["task"]["coro"] == "livekit/rtc/room.py:Room._listen_task"
    assert (incident["exception"]["type"], incident["exception"]["message"]) == ("KeyError", incident["track_sid"])
    assert incident["channels"] == ["room_event", "log_room"]


@one_python
def test_unpublish_that_is_answered_first_is_swallowed_by_the_fix(watched: Watched) -> None:
    ran = watched.run("local_unpublish_keyerror", livekit="1.1.11")
    incident = ran.only()
    assert shown(incident) == named("lost_event", "benign", "local-unpublish-keyerror", None, "livekit/python-sdks#681")
    assert f"unpublished {incident['track_sid']}" in ran.done.stdout
    assert (incident["evidence"]["missing"], incident["exception"]) == ("publication", None)


# Seed 3


@one_python
@pytest.mark.parametrize(
    ("option", "channels"),
    [
        pytest.param([], {"ffi_request", "constructor", "ffi_log"}, id="never logged"),
        pytest.param(["--surface"], {"ffi_request", "constructor", "ffi_log", "log_task"}, id="surfacing"),
        pytest.param(["--bad-argument"], {"constructor"}, id="no native request"),
    ],
)
def test_audio_stream_that_failed_leaves_one_orphan(watched: Watched, option: list[str], channels: set[str]) -> None:
    ran = watched.run("audiostream_task_before_handle", *option, livekit="1.1.11")
    incident = ran.only()
    assert shown(incident) == named("orphan_task", "sdk", "audiostream-task-before-handle", "1.1.14", "livekit/python-sdks#729")
    assert incident["room"]["name"].startswith("audiostream_task_before_handle-")
    assert incident["task"]["coro"] == "livekit/rtc/audio_stream.py:AudioStream._run"
    assert incident["task"]["created_at"].startswith("livekit/rtc/audio_stream.py:__init__:")
    assert incident["evidence"]["orphans"] == "1"
    assert ("orphan_ended_with" in incident["evidence"]) == ("--surface" in option)
    assert set(incident["channels"]) == channels


@one_python
def test_audio_stream_of_the_fix_leaves_the_use_of_a_dead_track(watched: Watched) -> None:
    ran = watched.run("audiostream_task_before_handle", livekit="1.1.14")
    assert "orphan tasks: 0" in ran.done.stdout
    incident = ran.only()
    assert shown(incident) == named("use_after_dispose", "app", "stream-on-dead-track", None, "livekit/python-sdks#729")
    assert incident["evidence"]["request"] == "NewAudioStream"
    assert incident["task"]["name"]


@one_python
def test_audio_stream_of_the_fix_with_a_bad_argument_is_nothing(watched: Watched) -> None:
    ran = watched.run("audiostream_task_before_handle", "--bad-argument", livekit="1.1.14")
    assert "caught TypeError" in ran.done.stdout
    assert ran.incidents == []


# Seed 4


HANDLE_GONE = 'called `Result::unwrap()` on an `Err` value: InvalidRequest("handle not found")'


@one_python
@pytest.mark.parametrize(
    ("livekit", "ended_by", "reason", "channels"),
    [
        ("1.0.25", signal.SIGTERM, "ffi_panic", ["exit_status", "ffi_panic", "stderr"]),
        ("1.1.2", signal.SIGABRT, "native_abort", ["exit_status", "stderr"]),
        ("1.1.7", signal.SIGABRT, "native_abort", ["exit_status", "stderr"]),
    ],
)
def test_disconnect_on_a_stale_handle_ends_the_process_and_is_told(
    watched: Watched, livekit: str, ended_by: signal.Signals, reason: str, channels: list[str]
) -> None:
    bare = run_scenario("disconnect_stale_handle", livekit=livekit, sfu_url=watched.url)
    ran = watched.run("disconnect_stale_handle", livekit=livekit)
    assert ran.done.returncode == bare.returncode == -ended_by
    incident = ran.only()
    assert shown(incident) == named(
        "native_abort", "native", "disconnect-stale-handle-panic", "1.1.8", "livekit/rust-sdks#1066"
    )
    evidence = incident["evidence"]
    assert (evidence["reason"], evidence["signal"], evidence["phase"]) == (reason, ended_by.name, "disconnect")
    assert evidence["panic"] == HANDLE_GONE
    assert evidence["panic_place"].startswith(incident["component"])
    assert incident["component"] == "livekit-ffi/src/server/requests.rs"
    assert evidence["in_flight"].startswith("disconnect for ")
    assert "request Disconnect" in evidence["before"]
    assert incident["room"]["name"].startswith("disconnect_stale_handle-")
    assert incident["room"]["sid"].startswith("RM_")
    assert incident["sdk"] == {"livekit": livekit}
    assert incident["channels"] == channels
    replayed = ran.replayed()
    assert replayed.totals.ended == {reason: 1}
    assert replayed.totals.lost.total() == 0


@one_python
def test_death_is_named_also_where_its_stderr_is_left_alone(watched: Watched) -> None:
    incident = watched.run("disconnect_stale_handle", livekit="1.1.7", RACE_WATCH_STDERR="off").only()
    assert shown(incident) == named(
        "native_abort", "native", "disconnect-stale-handle-panic", "1.1.8", "livekit/rust-sdks#1066"
    )
    assert "panic" not in incident["evidence"]
    assert incident["channels"] == ["exit_status"]


@one_python
def test_disconnect_on_a_stale_handle_is_refused_by_the_fix(watched: Watched) -> None:
    incident = watched.run("disconnect_stale_handle", livekit="1.1.8").only()
    assert shown(incident) == named("use_after_dispose", "app", "disconnect-stale-handle-panic", None, "livekit/rust-sdks#1066")
    assert incident["room"]["name"].startswith("disconnect_stale_handle-")
    assert set(incident["channels"]) == {"ffi_request", "ffi_log"}
    assert "SIGABRT" in incident["evidence"]["note"]


# The panic that the native library reports 15 s after a connect

NEVER_READY = "timed out waiting for ReadyForRoomEventRequest after ConnectCallback"


@one_python
def test_connect_that_was_cancelled_ends_the_process_later_and_is_told(watched: Watched) -> None:
    ran = watched.run("connect_cancelled", livekit="1.2.0")
    assert ran.done.returncode == -signal.SIGTERM
    incident = ran.only()
    assert shown(incident) == named("native_abort", "native", "connect-cancel-sigterm", None, "livekit/rust-sdks#1340")
    evidence = incident["evidence"]
    assert (evidence["reason"], evidence["cancelled_connects"], evidence["rooms_live"]) == ("ffi_panic", "1", "0")
    assert NEVER_READY in evidence["panic"]
    # It was never connected: its name is in the token.
    assert re.fullmatch(r"connect_cancelled-\d+-0", incident["room"]["name"])
    assert ran.replayed().totals.ended == {"ffi_panic": 1}


@one_python
def test_loop_that_was_blocked_during_connect_ends_the_process_and_is_told(watched: Watched) -> None:
    ran = watched.run("connect_loop_blocked", livekit="1.2.0")
    assert ran.done.returncode == -signal.SIGTERM
    incident = ran.only()
    assert shown(incident) == named("native_abort", "app", "connect-loop-blocked-15s")
    evidence = incident["evidence"]
    assert (evidence["reason"], evidence["phase"]) == ("ffi_panic", "connect")
    assert re.match(r"connect for 1[5-9]\.", evidence["in_flight"])
    assert NEVER_READY in evidence["panic"]
    assert incident["room"]["name"].startswith("connect_loop_blocked-")
    assert ran.replayed().totals.ended == {"ffi_panic": 1}


# Seed 5 and its successor


@one_python
def test_use_before_connect_of_the_application_is_its_own_and_gets_the_rooms_name(watched: Watched) -> None:
    incident = watched.run("use_before_connect").only()
    assert shown(incident) == named("use_before_connect", "app", "unclassified")
    assert incident["room"]["name"].startswith("use_before_connect-")
    assert incident["task"]["name"]
    assert incident["advice"]


@one_python
def test_session_of_agents_before_connect_is_named(watched: Watched) -> None:
    incident = watched.run("roomio_preconnect", agents="1.8.9").only()
    assert shown(incident) == named("use_before_connect", "sdk", "roomio-preconnect-text-output")
    assert incident["sdk"] == {"livekit": "1.1.21", "livekit-agents": "1.8.9"}
    assert incident["task"]["name"]


# The application's own


@one_python
@pytest.mark.parametrize("kind", ["type_error", "signature", "value_error"])
def test_callback_that_fails_is_the_applications(watched: Watched, kind: str) -> None:
    ran = watched.run("callback_errors", "--kind", kind)
    incident = ran.only()
    assert shown(incident) == named("callback_error", "app", "unclassified")
    assert incident["evidence"]["event"] == "participant_connected"
    assert incident["participant"]["identity"].startswith("id:")
    assert incident["participant"]["sid"].startswith("PA_")
    assert incident["room"]["name"].startswith("callback_errors-")
    assert "caller" not in ran.path.read_text()


@one_python
def test_identities_are_plain_if_that_is_asked_for(watched: Watched) -> None:
    incident = watched.run("callback_errors", "--kind", "value_error", RACE_WATCH_IDENTITY="plain").only()
    assert incident["participant"]["identity"] == "caller"
    assert incident["exception"]["message"].endswith("'caller'")


@pytest.mark.parametrize(("kind", "category"), [("exception", "task_exception_lost"), ("destroyed", "task_leak")])
def test_task_that_nobody_keeps_is_the_applications(watched: Watched, kind: str, category: str) -> None:
    ran = watched.run("lost_task", "--kind", kind)
    incident = ran.only()
    assert shown(incident) == named(category, "app", "unclassified")
    assert incident["room"]["name"].startswith("lost_task-")
    assert incident["task"]["created_at"].split(":")[1] == "greet"
    assert "caller" not in ran.path.read_text()


# The rest of the registry

GUARDED = {
    "track_unpublished": ("track-unpublished-keyerror", "livekit/python-sdks#747", "benign"),
    "track_subscribed": ("track-subscribed-keyerror", "livekit/python-sdks#757", "sdk"),
    "track_unsubscribed": ("track-unsubscribed-keyerror", "livekit/python-sdks#757", "benign"),
    "track_published": ("track-published-keyerror", "livekit/python-sdks#757", "sdk"),
    "track_subscription_failed": ("track-subscription-failed-keyerror", "livekit/python-sdks#757", "sdk"),
}
OPEN = {
    "participant_disconnected": ("participant-disconnected-keyerror", ""),
    "participant_connected": ("participant-already-exists", ""),
    "track_muted": ("track-muted-untracked", ""),
    "track_unmuted": ("track-muted-untracked", ""),
    "active_speakers_changed": ("participant-update-untracked", ""),
    "participant_metadata_changed": ("participant-update-untracked", ""),
    "participant_name_changed": ("participant-update-untracked", ""),
    "participant_attributes_changed": ("participant-update-untracked", ""),
    "participant_permission_changed": ("participant-update-untracked", ""),
    "local_track_published": ("local-published-keyerror", "livekit/agents#4203"),
    "local_track_subscribed": ("local-subscribed-keyerror", ""),
}


def registry(livekit: str) -> dict[tuple[str, str], dict[str, Any]]:
    """(event, category) -> how it must be named in this version."""
    fixed = livekit == "1.2.0"
    expected = {}
    for event, (signature, upstream, verdict) in GUARDED.items():
        if fixed:
            expected[event, "lost_event"] = named("lost_event", verdict, signature, None, upstream)
        else:
            expected[event, "registry_race"] = named("registry_race", "sdk", signature, "1.1.14", upstream)
    for event, (signature, upstream) in OPEN.items():
        expected[event, "registry_race"] = named("registry_race", "sdk", signature, None, upstream)
    if livekit == "1.1.8":
        # It compares with a name that the protocol does not have, and never handles the event.
        del expected["participant_permission_changed", "registry_race"]
    if not fixed:
        expected["local_track_subscribed", "double_resolve"] = named(
            "double_resolve", "sdk", "local-subscribed-double-resolve", "1.1.14", "livekit/python-sdks#770"
        )
    return expected


@one_python
@pytest.mark.parametrize("livekit", ["1.1.8", "1.1.11", "1.2.0"])
def test_every_event_that_the_registry_does_not_expect_is_named(watched: Watched, livekit: str) -> None:
    found = watched.run("registry_races", "--event", "all", livekit=livekit).incidents
    assert {(incident["evidence"]["event"], incident["category"]): shown(incident) for incident in found} == registry(livekit)
    assert len(found) == len(registry(livekit))
    assert {incident["room"]["name"] for incident in found} == {found[0]["room"]["name"]}
    # The scenario puts these two twice, for a participant and for a publication that are not there.
    counts = {incident["evidence"]["event"]: incident["count"] for incident in found if incident["count"] != 1}
    assert counts == {"track_unpublished": 2, "track_muted": 2}


@one_python
def test_full_reconnect_of_an_old_version_names_both_events_that_it_loses(watched: Watched) -> None:
    found = watched.run("full_reconnect", livekit="1.1.7").incidents
    assert [incident["signature"] for incident in found] == ["local-published-keyerror", "local-unpublish-keyerror"]
    assert {incident["track_sid"] for incident in found} == {found[0]["track_sid"]}


# Nothing


@one_python
@pytest.mark.parametrize("livekit", ["1.1.8", "1.1.11", "1.1.14", "1.1.21", "1.2.0"])
def test_clean_session_has_no_incident(watched: Watched, livekit: str) -> None:
    ran = watched.run("clean_session", livekit=livekit)
    assert ran.done.returncode == 0
    assert "ERROR" not in ran.done.stderr
    assert ran.incidents == []
    replayed = ran.replayed()
    assert replayed.totals.attached == 1
    assert replayed.totals.snapshot["race_watch_room_events"][()] > 0
    assert replayed.totals.snapshot["race_watch_hook_errors"][()] == 0
    (facts,) = replayed.fleet.processes.values()
    assert facts.hooks_off == {}
    assert len(facts.rooms) == 2


@one_python
def test_storm_of_lifecycles_has_no_incident_and_is_counted(watched: Watched) -> None:
    ran = watched.run("storm", "--rooms", "2", "--participants", "3", "--seconds", "1", livekit="1.2.0")
    assert ran.done.returncode == 0
    assert ran.incidents == []
    assert ran.replayed().totals.snapshot["race_watch_room_events"][()] > 50
