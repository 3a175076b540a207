"""Real Node processes with `@livekit/rtc-node`, in which nothing of ours is: measured from outside."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import LOSES_A_TASK, PATIENCE_S, RACE_WATCH, ROOT, Place
from prometheus_client.parser import text_string_to_metric_families

from race_watch.detectors.growth_outside import GrowthOutside
from race_watch.events import Event, ProcessMeasured, decode
from race_watch.findings import Finding
from race_watch.growth.kinds import counted
from race_watch.lab.background import background_sfu
from race_watch.lab.tokens import token
from race_watch.lab.wheels import default_cache
from race_watch.outside import INTERVAL_S, Outside
from race_watch.records import Process, Record

pytestmark = [pytest.mark.wheels, pytest.mark.one_python, pytest.mark.timeout(400)]

RTC_NODE = "0.13.25"
SCRIPT = Path(__file__).with_name("rooms_dropped.mjs")
# Two looks of the supervisor, and a busy machine.
MEASURED_IN_S = 4 * INTERVAL_S + PATIENCE_S

Gauges = dict[str, dict[str, float]]


@pytest.fixture(scope="session")
def rtc_node() -> Path:
    """A directory with `@livekit/rtc-node`, made once."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no Node here")
    place = default_cache() / f"node-rtc-{RTC_NODE}"
    place.mkdir(parents=True, exist_ok=True)
    with (place.parent / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "finished").exists():
            command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", f"@livekit/rtc-node@{RTC_NODE}"]
            made = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=200, check=False)
            assert made.returncode == 0, made.stderr[-2000:]
            (place / "finished").touch()
    return place


@pytest.fixture
def place(tmp_path: Path, rtc_node: Path) -> Place:
    (tmp_path / "node_modules").symlink_to(rtc_node / "node_modules")
    return Place(tmp_path)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with background_sfu() as running:
        yield running


def tokens(rooms: int) -> list[str]:
    return [token(f"node-{number}", "worker") for number in range(rooms)]


def wait_for(word: str, node: subprocess.Popen[str]) -> None:
    """Reads until the script says it; the SDK logs to the same place."""
    assert node.stdout is not None
    assert any(line == f"{word}\n" for line in iter(node.stdout.readline, "")), "it ended"


def connect(node: subprocess.Popen[str]) -> None:
    """One more room that is let go of."""
    assert node.stdin is not None
    node.stdin.write("\n")
    node.stdin.flush()
    wait_for("connected", node)


def address_in(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"metrics at (http://\S+)", line):
            return found[1]
    raise AssertionError("no address was said")


def gauges_at(address: str) -> Gauges:
    """Metric -> its only label's value, or nothing -> value."""
    with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        family.name: {next(iter(sample.labels.values()), ""): sample.value for sample in family.samples if sample.value}
        for family in families
    }


def until(look: Callable[[], Gauges], seen: Callable[[Gauges], bool]) -> Gauges:
    deadline = time.monotonic() + MEASURED_IN_S
    while not seen(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


def test_node_worker_under_run_has_its_descriptors_by_kind_threads_and_memory_on_metrics(place: Place, url: str) -> None:
    rooms, run_dir = 2, place.home / "run"
    # The shell waits for it, as npm does.
    worker = ["sh", "-c", 'node "$@"; echo over', "sh", str(SCRIPT), url, *tokens(rooms)]
    with place.start(*RACE_WATCH, "run", "--metrics-port", "0", "--run-dir", str(run_dir), "--keep", "--", *worker) as process:
        try:
            address = address_in(process)
            wait_for("ready", process)
            for _ in range(rooms):
                connect(process)
            sockets = ("udp", "tcp")
            found = until(
                lambda: gauges_at(address), lambda found: all(found["race_watch_open_fds"].get(kind, 0) for kind in sockets)
            )
            assert found["race_watch_processes_measured"] == {"": 2}
            assert found["race_watch_processes"] == {}
            assert {"pipe", "epoll", "eventfd"} < found["race_watch_open_fds"].keys()
            assert found["race_watch_threads"]["unknown"] > 10
            assert found["race_watch_fd_limit"][""] >= sum(found["race_watch_open_fds"].values())
            assert 30_000_000 < found["race_watch_measured_resident_memory_bytes"][""] < 4_000_000_000
            said, told = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 0
    assert said.endswith("over\n")
    assert "2 processes measured from outside" in told
    assert "no incidents" in told
    replayed = place.race_watch("report", str(run_dir))
    assert (replayed.returncode, "2 processes measured from outside" in replayed.stdout) == (0, True)


def test_without_psutil_nothing_is_measured_and_that_is_told(tmp_path: Path) -> None:
    place, without = Place(tmp_path), tmp_path / "without"
    without.mkdir()
    (without / "psutil.py").write_text("raise ImportError('not here')")
    done = place.run(script=LOSES_A_TASK, PYTHONPATH=os.pathsep.join((str(without), str(ROOT))))
    assert (done.returncode, done.stdout) == (0, "worker done\n")
    assert "processes in other languages are not measured: psutil is not installed here" in done.stderr
    assert "1 process watched" in done.stderr


class HalfHours:
    """Looks as the supervisor does, each of them half an hour after the last one, and what the detector finds then."""

    def __init__(self, root: int) -> None:
        self.now_s = 0.0
        self.measured: list[ProcessMeasured] = []
        self.found: list[Finding] = []
        self._process = Process(1, 0, "", 0, "aa", 0, 0, {"role": "watcher"})
        self._detector = GrowthOutside()
        self._outside = Outside(root, self._state)
        self.look()

    def look(self) -> None:
        self.now_s += 1800.0
        self._outside.look((), self.now_s)

    def _state(self, event: type[Event], *values: object) -> None:
        read = decode(event.code, event.body(*values))
        assert isinstance(read, ProcessMeasured)
        self.measured.append(read)
        self._detector.observe(Record(self._process, len(self.measured), self.now_s, read))
        self.found += self._detector.confirm(self.now_s)


def test_rooms_that_a_node_worker_drops_are_found_by_the_sockets_that_stay(rtc_node: Path, url: str) -> None:
    rooms = 20
    command = ["node", str(SCRIPT), url, *tokens(rooms)]
    with subprocess.Popen(command, cwd=rtc_node, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        try:
            wait_for("ready", node)
            looks = HalfHours(node.pid)
            for _ in range(rooms):
                looks.look()
                connect(node)
            looks.look()
            node.communicate(timeout=PATIENCE_S)
        finally:
            node.kill()
    assert {one.program for one in looks.measured} == {"node"}
    assert len({(one.pid, one.born_s) for one in looks.measured}) == 1
    sockets = [counted(one.kinds).get("udp", 0) + counted(one.kinds).get("tcp", 0) for one in looks.measured]
    assert sockets == sorted(set(sockets))
    (finding,) = (one for one in looks.found if one.category == "fd_leak")
    assert finding.evidence["process"] == f"node (pid {node.pid})"
    assert {"udp", "tcp"} <= {kind.split()[0] for kind in finding.evidence["kinds"].split(", ")}
    held = (sockets[-1] - sockets[1]) / (rooms - 1)
    assert float(finding.evidence["slope"].split()[0]) == pytest.approx(2 * held, rel=0.5)
    assert "nobody counts participants" in finding.evidence["load"]
