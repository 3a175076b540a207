"""What leaks in published LiveKit versions, counted in the worker and found through `race-watch run`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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

pytestmark = [
    pytest.mark.wheels,
    pytest.mark.one_python,
    pytest.mark.timeout(400),
    # All in one process, which runs several of the scenarios at once.
    pytest.mark.xdist_group("growth-scenarios"),
]

TIMEOUT_S = 180.0
# They mostly wait for native code to let go, and leave the processor to others.
AT_ONCE = 4


@dataclass(frozen=True)
class Scenario:
    """A scenario script, its options and the livekit it runs with."""

    livekit: str
    name: str
    args: tuple[str, ...] = ()


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
    def connected(self) -> list[ResourcesSampled]:
        """The samples of the counting thread while there was a room."""
        return [sample for sample in self.samples if not sample.edge and sample.rooms]

    @property
    def kinds(self) -> list[dict[str, int]]:
        """The descriptors by kind, each time they were looked at."""
        return [counts(event.kinds) for event in self.events if isinstance(event, DescriptorsClassified)]

    def only(self) -> dict[str, Any]:
        assert len(self.incidents) == 1, self.incidents
        return self.incidents[0]


Started = dict[Scenario, Future[Ran]]


def counts(pairs: tuple[str, ...]) -> dict[str, int]:
    return {kind: int(count) for kind, _, count in (pair.partition("=") for pair in pairs)}


def run(scenario: Scenario, url: str, home: Path) -> Ran:
    """Counted every second."""
    path, run_dir = home / "incidents.jsonl", home / "run"
    options = ["--quiet", "--metrics-port", "0", "--incidents", str(path), "--run-dir", str(run_dir), "--keep"]
    done = run_scenario(
        scenario.name,
        scenario.args,
        livekit=scenario.livekit,
        sfu_url=url,
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


def under(name: str, *args: str, livekit: str | tuple[str, ...]) -> pytest.MarkDecorator:
    """The test is of this scenario, once with each livekit."""
    versions = (livekit,) if isinstance(livekit, str) else livekit
    return pytest.mark.parametrize("ran", [Scenario(version, name, args) for version in versions], indirect=True, ids=versions)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with background_sfu() as running:
        yield running


@pytest.fixture(scope="module")
def started(request: pytest.FixtureRequest, url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """The scenarios of all selected tests of this file, begun in their order."""
    wanted = dict.fromkeys(item.callspec.params["ran"] for item in request.session.items if item.path == request.path)
    with pytest.MonkeyPatch.context() as patched, ThreadPoolExecutor(AT_ONCE) as pool:
        for name in [name for name in os.environ if name.startswith("RACE_WATCH") and not name.startswith("RACE_WATCH_LAB")]:
            patched.delenv(name)
        yield {scenario: pool.submit(run, scenario, url, tmp_path_factory.mktemp("growth")) for scenario in wanted}


@pytest.fixture
def ran(request: pytest.FixtureRequest, started: Started, url: str, tmp_path: Path) -> Ran:
    """How the test's scenario went; a test that is run once more runs it once more."""
    begun = started.pop(request.param, None)
    return begun.result() if begun is not None else run(request.param, url, tmp_path)


def measured(incident: dict[str, Any]) -> tuple[str, str, float]:
    """Resource, unit and slope."""
    evidence = incident["evidence"]
    slope, _, unit = evidence["slope"].partition(" per ")
    assert unit.startswith(evidence["unit"])
    return evidence["resource"], evidence["unit"], float(slope)


# Rooms, those first that take longest


@under("server_leave_published", livekit="1.1.21")
def test_server_leave_in_1_1_21_is_found_by_what_it_strands(ran: Ran) -> None:
    first, last = ran.settled[0], ran.settled[-1]
    assert (last.server_leaves, last.rooms, last.ffi_handles) == (6, 0, 0)
    assert counts(last.threads)["audio_source"] == 6
    assert last.open_fds - first.open_fds >= 3 * 5
    # At least: what was there when they were first looked at may have been counted before its threads had begun.
    assert ran.kinds[-1]["epoll"] - ran.kinds[0]["epoll"] >= 5
    assert ran.kinds[-1]["pipe"] - ran.kinds[0]["pipe"] >= 2 * 5
    found = {incident["category"]: incident for incident in ran.incidents}
    # Threads come and go by themselves too: whether so few rooms tell depends on when those do.
    assert found.keys() <= {"fd_leak", "thread_leak"}
    assert measured(found["fd_leak"]) == ("fds", "server leave", 3.0)
    assert found["fd_leak"]["signature"] == "server-leave-strands-local-track"


@under("server_leave_published", livekit="1.2.0")
def test_server_leave_in_1_2_0_leaves_nothing_behind(ran: Ran) -> None:
    first, last = ran.settled[0], ran.settled[-1]
    assert (last.server_leaves, last.rooms, last.ffi_handles, last.subscriptions) == (6, 0, 0, 0)
    assert "audio_source" not in counts(last.threads)
    assert last.open_fds <= first.open_fds
    assert ran.incidents == []


@under("rooms_dropped", livekit=("1.1.14", "1.2.0"))
def test_rooms_that_are_dropped_are_found_by_their_sockets(ran: Ran) -> None:
    last = ran.settled[-1]
    assert (last.rooms, last.rooms_abandoned, last.subscriptions, last.tasks) == (4, 4, 4, 4)
    # Each the signalling's, and some for each network interface.
    assert last.open_fds - ran.settled[0].open_fds >= 4 * 3
    assert all(ran.kinds[-1][kind] > ran.kinds[0].get(kind, 0) for kind in ("udp", "tcp"))
    found = {incident["category"]: incident for incident in ran.incidents}
    assert found.keys() <= {"fd_leak", "thread_leak", "subscription_leak", "task_leak"}
    assert found["fd_leak"]["signature"] == "room-dropped-without-disconnect"
    resource, unit, slope = measured(found["fd_leak"])
    assert (resource, unit) == ("fds", "abandoned room")
    assert slope >= 3
    assert all(f"{kind} +" in found["fd_leak"]["evidence"]["kinds"] for kind in ("udp", "tcp"))


@under("connect_cancelled", "--attempts", "8", "--pause", "0.5", "--stay", "4", "--handle-sigterm", livekit="1.2.0")
def test_connects_that_are_cancelled_are_found_by_the_subscription_of_each(ran: Ran) -> None:
    last = ran.settled[-1]
    assert (last.connects_cancelled, last.subscriptions, last.rooms_abandoned) == (8, 8, 0)
    (found,) = [incident for incident in ran.incidents if incident["category"] == "subscription_leak"]
    assert measured(found) == ("subscriptions", "cancelled connect", 1.0)
    assert found["signature"] == "connect-cancel-sigterm"


@under("tracks_before_connect", "--tracks", "10", livekit="1.2.0")
def test_tracks_that_are_made_before_the_room_take_a_runtime_each(ran: Ran) -> None:
    last = ran.settled[-1]
    assert counts(last.handles)["track"] == counts(last.threads)["audio_source"] == 10
    assert ran.kinds[0]["pipe"] >= 20
    assert [(found["category"], found["verdict"], found["signature"]) for found in ran.incidents] == [
        ("fd_leak", "app", "track-created-before-connect")
    ]


# The same traffic, kept and let go of


@under("growth_publications", "--keep", "--departures", "200", "--tracks", "2", livekit=("1.1.8", "1.2.0"))
def test_publications_that_the_application_keeps_are_found_within_twelve_departures(ran: Ran) -> None:
    last = ran.connected[-1]
    assert last.participants_departed == 200
    assert counts(last.handles)["publication"] == 2 * 200
    assert counts(last.handles)["participant"] == 1
    incident = ran.only()
    resource, unit, slope = measured(incident)
    assert (incident["category"], resource, unit) == ("handle_leak", "handles", "participant")
    assert (incident["verdict"], incident["signature"]) == ("app", "departed-kept-by-application")
    assert slope == pytest.approx(2, rel=0.1)
    assert int(incident["evidence"]["n"]) <= 12
    assert incident["evidence"]["kinds"].startswith("publication +")


@under("growth_publications", "--departures", "2000", "--batch", "10", "--pace", "0.1", livekit=("1.1.8", "1.2.0"))
def test_two_thousand_departures_of_a_clean_application_raise_no_alarm(ran: Ran) -> None:
    assert ran.samples[-1].participants_departed == 2000
    # The room's and our participant's.
    assert ran.connected[-1].ffi_handles == 2
    assert ran.incidents == []
