"""What leaks in published LiveKit versions, counted in the worker and found through `race-watch run`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from commands import RACE_WATCH, incidents_in

from race_watch.events import DescriptorsClassified, Event, ResourcesSampled
from race_watch.journal.layout import SUFFIX
from race_watch.journal.reader import JournalReader
from race_watch.lab.background import background_sfu
from race_watch.lab.runner import Completed, run_scenario

pytestmark = [pytest.mark.wheels, pytest.mark.one_python, pytest.mark.timeout(400)]

TIMEOUT_S = 180.0


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    with background_sfu() as running:
        yield running


@dataclass(frozen=True)
class Ran:
    done: Completed
    incidents: list[dict[str, Any]]
    events: list[Event]

    @property
    def samples(self) -> list[ResourcesSampled]:
        return [event for event in self.events if isinstance(event, ResourcesSampled)]

    @property
    def settled(self) -> list[ResourcesSampled]:
        """The samples of the counting thread, but for the last ones: the process is about to end then."""
        return [sample for sample in self.samples if not sample.edge][:-2]

    @property
    def kinds(self) -> list[dict[str, int]]:
        """The descriptors by kind, each time they were looked at."""
        return [counts(event.kinds) for event in self.events if isinstance(event, DescriptorsClassified)]

    def only(self) -> dict[str, Any]:
        assert len(self.incidents) == 1, self.incidents
        return self.incidents[0]


def counts(pairs: tuple[str, ...]) -> dict[str, int]:
    return {kind: int(count) for kind, _, count in (pair.partition("=") for pair in pairs)}


@dataclass(frozen=True)
class Watched:
    url: str
    home: Path

    def run(self, name: str, *args: str, livekit: str) -> Ran:
        """A scenario, counted every second."""
        path, run_dir = self.home / "incidents.jsonl", self.home / "run"
        options = ["--quiet", "--metrics-port", "0", "--incidents", str(path), "--run-dir", str(run_dir), "--keep"]
        done = run_scenario(
            name,
            args,
            livekit=livekit,
            sfu_url=self.url,
            under=[*RACE_WATCH, "run", *options, "--"],
            env={"RACE_WATCH_COUNT_EVERY_S": "1"},
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert "race-watch" not in done.stderr
        return Ran(done, incidents_in(path), _events(run_dir))


def _events(run_dir: Path) -> list[Event]:
    found: list[Event] = []
    for path in run_dir.glob(f"*{SUFFIX}"):
        reader = JournalReader(str(path))
        found += [record.event for record in reader.read(final=True)]
        assert not reader.lost_torn + reader.lost_malformed
        reader.close()
    return found


@pytest.fixture
def watched(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    for name in [name for name in os.environ if name.startswith("RACE_WATCH") and not name.startswith("RACE_WATCH_LAB")]:
        monkeypatch.delenv(name)
    return Watched(url, tmp_path)


def measured(incident: dict[str, Any]) -> tuple[str, str, float]:
    """Resource, unit and slope."""
    evidence = incident["evidence"]
    slope, _, unit = evidence["slope"].partition(" per ")
    assert unit.startswith(evidence["unit"])
    return evidence["resource"], evidence["unit"], float(slope)


# The same traffic, kept and let go of.

TRACKS = 2


@pytest.mark.parametrize("livekit", ["1.1.8", "1.2.0"])
def test_publications_that_the_application_keeps_are_found_within_twelve_departures(watched: Watched, livekit: str) -> None:
    ran = watched.run("growth_publications", "--keep", "--departures", "200", "--tracks", str(TRACKS), livekit=livekit)
    # After the last one has left, and before the process ends.
    last = max(ran.settled, key=lambda sample: sample.ffi_handles)
    assert last.participants_departed == 200
    assert counts(last.handles)["publication"] == TRACKS * 200
    assert counts(last.handles)["participant"] == 1
    incident = ran.only()
    resource, unit, slope = measured(incident)
    assert (incident["category"], resource, unit) == ("handle_leak", "handles", "participant")
    assert slope == pytest.approx(TRACKS, rel=0.1)
    assert int(incident["evidence"]["n"]) <= 12
    assert incident["evidence"]["kinds"].startswith("publication +")


@pytest.mark.parametrize("livekit", ["1.1.8", "1.2.0"])
def test_two_thousand_departures_of_a_clean_application_raise_no_alarm(watched: Watched, livekit: str) -> None:
    ran = watched.run("growth_publications", "--departures", "2000", "--batch", "10", "--pace", "0.1", livekit=livekit)
    assert ran.samples[-1].participants_departed == 2000
    assert ran.samples[-1].ffi_handles == 2
    assert ran.incidents == []


# Rooms


@pytest.mark.parametrize("livekit", ["1.1.14", "1.2.0"])
def test_rooms_that_are_dropped_are_found_by_their_sockets(watched: Watched, livekit: str) -> None:
    ran = watched.run("rooms_dropped", livekit=livekit)
    last = ran.settled[-1]
    assert (last.rooms, last.rooms_abandoned, last.subscriptions, last.tasks) == (4, 4, 4, 4)
    # Each a handful for each network interface.
    assert last.open_fds - ran.settled[0].open_fds > 4 * 5
    assert all(ran.kinds[-1][kind] > ran.kinds[0].get(kind, 0) for kind in ("udp", "tcp"))
    found = {incident["category"]: incident for incident in ran.incidents}
    assert found.keys() <= {"fd_leak", "thread_leak", "subscription_leak", "task_leak"}
    assert found["fd_leak"]["signature"] == "room-dropped-without-disconnect"
    resource, unit, slope = measured(found["fd_leak"])
    assert (resource, unit) == ("fds", "abandoned room")
    assert slope > 5
    assert all(f"{kind} +" in found["fd_leak"]["evidence"]["kinds"] for kind in ("udp", "tcp"))


def test_connects_that_are_cancelled_are_found_by_the_subscription_of_each(watched: Watched) -> None:
    options = ("--attempts", "8", "--pause", "0.5", "--stay", "4", "--handle-sigterm")
    ran = watched.run("connect_cancelled", *options, livekit="1.2.0")
    last = ran.settled[-1]
    assert (last.connects_cancelled, last.subscriptions, last.rooms_abandoned) == (8, 8, 0)
    (found,) = [incident for incident in ran.incidents if incident["category"] == "subscription_leak"]
    assert measured(found) == ("subscriptions", "cancelled connect", 1.0)


def test_server_leave_in_1_1_21_is_found_by_what_it_strands(watched: Watched) -> None:
    ran = watched.run("server_leave_published", livekit="1.1.21")
    first, last = ran.settled[0], ran.settled[-1]
    assert (last.server_leaves, last.rooms, last.ffi_handles) == (6, 0, 0)
    assert counts(last.threads)["audio_source"] == 6
    assert last.open_fds - first.open_fds >= 3 * 5
    assert ran.kinds[-1]["pipe"] - ran.kinds[0]["pipe"] == 2 * (ran.kinds[-1]["epoll"] - ran.kinds[0]["epoll"]) > 0
    found = {incident["category"]: incident for incident in ran.incidents}
    # Threads come and go by themselves too: whether so few rooms tell depends on when those do.
    assert found.keys() <= {"fd_leak", "thread_leak"}
    assert measured(found["fd_leak"]) == ("fds", "server leave", 3.0)
    assert found["fd_leak"]["signature"] == "server-leave-strands-local-track"


def test_server_leave_in_1_2_0_leaves_nothing_behind(watched: Watched) -> None:
    ran = watched.run("server_leave_published", livekit="1.2.0")
    first, last = ran.settled[0], ran.settled[-1]
    assert (last.server_leaves, last.rooms, last.ffi_handles, last.subscriptions) == (6, 0, 0, 0)
    assert "audio_source" not in counts(last.threads)
    assert last.open_fds <= first.open_fds
    assert ran.incidents == []


def test_tracks_that_are_made_before_the_room_take_a_runtime_each(watched: Watched) -> None:
    ran = watched.run("tracks_before_connect", "--tracks", "10", livekit="1.2.0")
    last = ran.settled[-1]
    assert counts(last.handles)["track"] == counts(last.threads)["audio_source"] == 10
    assert ran.kinds[0]["pipe"] >= 20
    assert {(found["category"], found["verdict"], found["signature"]) for found in ran.incidents} <= {
        ("fd_leak", "app", "track-created-before-connect")
    }
