"""How a worker ends under `race-watch run`: with its own status, told as what it is, with the room that it cost, and once."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from commands import PATIENCE_S, RACE_WATCH, ROOT, incidents_in
from control_groups import entering, memory_group

from race_watch.journal.layout import SUFFIX
from race_watch.lab.background import background_sfu
from race_watch.lab.wheels import environment
from race_watch.launch import bootstrap_dir
from race_watch.watcher import Watcher

pytestmark = [pytest.mark.wheels, pytest.mark.one_python, pytest.mark.timeout(300)]

APPLICATION = Path(__file__).with_name("dying_application.py")
LIVEKIT = "1.2.0"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with background_sfu() as running:
        yield running


class Worker:
    """A command that was started; `pid` is that of the process which said that it is ready."""

    def __init__(self, command: Sequence[str], env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )
        self.said: list[str] = []
        self._pids: list[int] = []

    def ready(self) -> int:
        """Waits until it is; the pid of the process that says so."""
        self._pids.append(int(self.expect(r"ready (\d+)")))
        return self._pids[-1]

    def expect(self, pattern: str) -> str:
        """Reads on to a line that matches, and returns its first group."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            found = re.fullmatch(pattern, self.said[-1])
            if found:
                return found[1]
        raise AssertionError(f"no {pattern} in {self.said}: {self.process.communicate()[1][-2000:]}")

    def end(self, say: str | None = None) -> tuple[int, str]:
        """Its exit status, and its stderr."""
        _, stderr = self.process.communicate(say, timeout=2 * PATIENCE_S)
        return self.process.returncode, stderr

    def close(self) -> None:
        """Ends what is left of it."""
        for pid in self._pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate(timeout=PATIENCE_S)


@dataclass
class Place:
    """Where one test's workers run; each start has the same directories."""

    url: str
    home: Path
    workers: list[Worker] = field(default_factory=list)
    room: str = ""

    @property
    def run_dir(self) -> Path:
        return self.home / "run"

    @property
    def incidents(self) -> list[dict[str, Any]]:
        return incidents_in(self.home / "incidents.jsonl")

    def application(self, *arguments: str) -> list[str]:
        """A command line, each with a room of its own."""
        self.room = f"lobby-{secrets.token_hex(4)}"
        python = environment([f"livekit=={LIVEKIT}"])
        return [str(python), str(APPLICATION), "--url", self.url, "--room", self.room, *arguments]

    def run(self, *command: str, options: Sequence[str] = ("--keep",), quiet: bool = True) -> list[str]:
        """The command line that supervises it."""
        files = ("--incidents", str(self.home / "incidents.jsonl"), "--run-dir", str(self.run_dir))
        return [*RACE_WATCH, "run", *(["-q"] if quiet else []), "--metrics-port", "0", *files, *options, "--", *command]

    def start(self, command: Sequence[str], **variables: str) -> Worker:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RACE_WATCH", "PYTHON", "OTEL_"))}
        lab = {name: value for name, value in os.environ.items() if name.startswith("RACE_WATCH_LAB")}
        self.workers.append(Worker(command, {**kept, **lab, "PYTHONPATH": str(ROOT), **variables}))
        return self.workers[-1]

    def replay(self) -> tuple[dict[str, Any], dict[str, float]]:
        """The incidents that the kept journals hold by id, and the ends that are counted."""
        found: dict[str, Any] = {}
        watcher = Watcher(
            str(self.run_dir), lambda incident, again: found.update({incident.id: incident.as_dict()}), pytest.fail, keep=True
        )
        watcher.finish()
        return found, {reason: count for reason, count in watcher.totals.ended.items() if count}

    def pids(self) -> list[str]:
        """Whose journals there are."""
        return sorted(path.name.split("-")[2] for path in self.run_dir.glob(f"*{SUFFIX}"))


@pytest.fixture
def place(url: str, tmp_path: Path) -> Iterator[Place]:
    made = Place(url, tmp_path)
    yield made
    for worker in made.workers:
        worker.close()


def checked(place: Place, reasons: dict[str, int]) -> list[dict[str, Any]]:
    """The incidents, which a replay of what was kept has as well, of ends for these reasons."""
    replayed, ended = place.replay()
    assert ended == reasons
    assert replayed == {incident["id"]: incident for incident in place.incidents}
    return place.incidents


# What it does itself

OWN_ENDS = {
    # end: exit status, reason, signal of the incident if it is one
    "return": (0, "clean", None),
    "raise": (1, "exception", None),
    "exit": (3, "nonzero_exit", None),
    "_exit": (3, "nonzero_exit", None),
    "abort": (-signal.SIGABRT, "native_abort", "SIGABRT"),
    "segfault": (-signal.SIGSEGV, "native_abort", "SIGSEGV"),
    "panic": (-signal.SIGTERM, "ffi_panic", "SIGTERM"),
}


@pytest.mark.parametrize("end", OWN_ENDS)
def test_end_in_a_room_is_told_as_what_it_is(place: Place, end: str) -> None:
    status, reason, ended_by = OWN_ENDS[end]
    worker = place.start(place.run(*place.application("--end", end)))
    pid = worker.ready()
    code, stderr = worker.end()
    assert code == status
    assert "race-watch" not in stderr
    found = checked(place, {reason: 1})
    if ended_by is None:
        assert found == []
        return
    (incident,) = found
    evidence = incident["evidence"]
    assert incident["category"] == "native_abort"
    assert (evidence["reason"], evidence["signal"], evidence["phase"]) == (reason, ended_by, "idle")
    assert (evidence["rooms_live"], evidence["participants_live"], evidence["sessions_lost"]) == ("1", "1", "1")
    assert evidence["decided_by"].startswith(f"its supervisor says {ended_by}")
    assert incident["process"]["pid"] == pid
    assert incident["room"]["name"] == place.room
    assert incident["participant"]["identity"].startswith("id:")


def test_panic_that_a_worker_survives_is_told_while_it_lives(place: Place) -> None:
    worker = place.start(place.run(*place.application("--end", "survive a panic")))
    worker.ready()
    wait_for(lambda: bool(place.incidents), "the panic is told")
    assert worker.process.poll() is None
    assert "sessions_lost" not in place.incidents[0]["evidence"]
    assert worker.end()[0] == 0
    (incident,) = checked(place, {"ffi_panic": 1})
    assert incident["title"] == "a panic of the native library, which the process survives"
    assert (incident["evidence"]["rooms_live"], incident["evidence"]["sessions_lost"]) == ("1", "0")


PHASES = {
    # phase: (rooms live, the call in flight)
    "connect": ("0", "connect for"),
    "publish": ("1", "publish_track for"),
    "unpublish": ("1", "unpublish_track for"),
    "disconnect": ("1", "disconnect for"),
    "after_disconnect": ("0", None),
}


@pytest.mark.parametrize("phase", PHASES)
def test_phase_and_room_are_those_of_the_call_under_way(place: Place, phase: str) -> None:
    rooms, in_flight = PHASES[phase]
    worker = place.start(place.run(*place.application("--phase", phase, "--end", "segfault")))
    worker.ready()
    assert worker.end()[0] == -signal.SIGSEGV
    (incident,) = checked(place, {"native_abort": 1})
    evidence = incident["evidence"]
    assert (evidence["phase"], evidence["rooms_live"]) == (phase, rooms)
    assert evidence.get("in_flight", "").startswith(in_flight or "")
    assert ("in_flight" in evidence) == (in_flight is not None)
    # Also a room that is not connected yet: its name is in the token.
    assert incident["room"]["name"] == place.room


# What others do to it


def straight(number: int) -> Callable[[Worker, int], None]:
    return lambda worker, pid: os.kill(pid, number)


def passed_on(number: int) -> Callable[[Worker, int], None]:
    return lambda worker, pid: worker.process.send_signal(number)


OUTSIDERS = {
    # how: exit status, reason, whether it is an incident
    "SIGKILL": (straight(signal.SIGKILL), -signal.SIGKILL, "killed", True),
    "SIGTERM straight to it": (straight(signal.SIGTERM), -signal.SIGTERM, "terminated", False),
    "SIGTERM to its supervisor": (passed_on(signal.SIGTERM), -signal.SIGTERM, "terminated", False),
    "SIGINT to its supervisor": (passed_on(signal.SIGINT), -signal.SIGINT, "terminated", False),
    "SIGABRT to its supervisor": (passed_on(signal.SIGABRT), -signal.SIGABRT, "terminated", False),
    "SIGABRT straight to it": (straight(signal.SIGABRT), -signal.SIGABRT, "native_abort", True),
}


@pytest.mark.parametrize("how", OUTSIDERS)
def test_end_from_outside_is_told_as_what_it_is(place: Place, how: str) -> None:
    do, status, reason, is_fault = OUTSIDERS[how]
    worker = place.start(place.run(*place.application("--end", "wait")))
    do(worker, worker.ready())
    code, stderr = worker.end()
    assert code == status
    assert "race-watch" not in stderr
    found = checked(place, {reason: 1})
    assert [incident["evidence"]["reason"] for incident in found] == [reason] * is_fault
    assert [incident["room"]["name"] for incident in found] == [place.room] * is_fault


def test_kill_for_want_of_memory_is_told_by_its_control_group(place: Place) -> None:
    with memory_group(600 << 20) as group:
        worker = place.start(entering(group, *place.run(*place.application("--end", "hoard"))))
        pid = worker.ready()
        assert worker.end()[0] == -signal.SIGKILL
    (incident,) = checked(place, {"oom_kill": 1})
    assert (incident["category"], incident["process"]["pid"], incident["room"]["name"]) == ("process_killed", pid, place.room)
    assert incident["evidence"]["decided_by"].endswith("the control group counts a kill for want of memory")
    assert incident["title"] == "the kernel killed the process for want of memory (SIGKILL)"


_COUNTS = """
import subprocess, sys
from race_watch.memory_kills import MemoryKills
kills = MemoryKills()
hog = [sys.executable, "-S", "-c", "a = []\\nwhile True: a.append(bytearray(b'x') * (1 << 20))"]
print(kills.path, subprocess.call(hog), kills.new(), kills.new(), subprocess.call(["true"]), kills.new())
"""


def test_kernel_that_kills_is_counted() -> None:
    with memory_group(48 << 20) as group:
        command = entering(group, sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{_COUNTS}")
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
        assert said == [str(group / "memory.oom_control"), "-9", "1", "0", "0", "0"]


# By way of others


@pytest.mark.parametrize(
    ("end", "status", "reasons"),
    [("segfault", 139, {"native_abort": 1}), ("return", 0, {"clean": 1}), ("raise", 1, {"exception": 1})],
)
def test_worker_in_a_shell_ends_as_the_shell_says(place: Place, end: str, status: int, reasons: dict[str, int]) -> None:
    shell = ["sh", "-c", '"$@"; exit $?', "sh", *place.application("--end", end)]
    worker = place.start(place.run(*shell))
    worker.ready()
    assert worker.end()[0] == status
    found = checked(place, reasons)
    assert [(incident["category"], incident["confidence"], incident["room"]["name"]) for incident in found] == (
        [("native_abort", 0.8, place.room)] if end == "segfault" else []
    )


CHILDREN = {
    # fate, end: exit status, reason, whether it is an incident
    "killed by its parent": ("killed", "wait", -9, "supervisor_kill", True),
    "terminated by its parent": ("terminated", "wait", -15, "supervisor_kill", True),
    "segfault": ("left alone", "segfault", -11, "native_abort", True),
    "exit status": ("left alone", "exit", 3, "nonzero_exit", False),
}


@pytest.mark.parametrize("how", CHILDREN)
def test_child_of_multiprocessing_is_told_by_its_parent_while_that_lives_on(place: Place, how: str) -> None:
    fate, end, status, reason, is_fault = CHILDREN[how]
    worker = place.start(place.run(*place.application("--child", fate, "--end", end)))
    pid = worker.ready()
    assert worker.expect(r"child ended with (-?\d+)") == str(status)
    assert worker.end("")[0] == 0
    found = checked(place, {reason: 1, "clean": 1})
    assert [(i["process"]["pid"], i["process"]["role"], i["evidence"]["reason"]) for i in found] == (
        [(pid, "fork", reason)] if is_fault else []
    )
    for incident in found:
        assert incident["room"]["name"] == place.room
        assert incident["evidence"]["decided_by"].startswith("its parent says")


def test_child_whose_parent_is_killed_as_well_has_an_end_that_nobody_knows(place: Place) -> None:
    worker = place.start(place.run(*place.application("--child", "left alone", "--end", "wait")))
    pid = worker.ready()
    stat = Path(f"/proc/{pid}/stat")
    parent = int(stat.read_text().rpartition(")")[2].split()[1])
    # It must not learn of its child's end.
    os.kill(parent, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z", "it is gone")
    os.kill(parent, signal.SIGKILL)
    assert worker.end()[0] == -signal.SIGKILL
    (incident,) = checked(place, {"unknown": 1, "killed": 1})
    assert (incident["process"]["pid"], incident["room"]["name"]) == (pid, place.room)
    assert incident["evidence"]["decided_by"].startswith("nobody has the exit status")


# Processes that fork, and become others

_LOOP = "import asyncio, os, sys, time; asyncio.new_event_loop().close()\n"
# A child must not keep the pipes open that the test reads to their ends.
_LIVES = "print('ready', os.getpid(), flush=True); [os.close(n) for n in range(3)]; time.sleep(60)"
FORKS = {
    # what: the script, its exit status, the ends that are counted
    "child that lives on": (f"if not os.fork(): {_LIVES}\ntime.sleep(0.5); sys.exit(3)", 3, {"nonzero_exit": 1}),
    "daemon": (f"if os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\n{_LIVES}", 0, {"clean": 1}),
    "child that becomes another program": (
        "if not os.fork(): os.execv('/bin/true', ['true'])\nos.wait()",
        0,
        {"clean": 1},
    ),
    "it becomes another program": ("os.execv('/bin/sh', ['sh', '-c', 'exit 4'])", 4, {"nonzero_exit": 1}),
    "it becomes Python again": (
        f"os.execv(sys.executable, [sys.executable, '-c', {_LOOP + 'time.sleep(1); sys.exit(4)'!r}])",
        4,
        {"nonzero_exit": 1},
    ),
    "it undoes race_watch": ("from race_watch import agent; agent.disarm(); os.kill(os.getpid(), 11)", -11, {}),
    "it undoes and arms again": (
        "from race_watch import agent; agent.disarm(); import race_watch; race_watch.install(); sys.exit(2)",
        2,
        {"nonzero_exit": 1},
    ),
}


@pytest.mark.parametrize("what", FORKS)
def test_process_that_forks_or_changes_has_the_ends_that_it_has(place: Place, what: str) -> None:
    script, status, reasons = FORKS[what]
    worker = place.start(place.run(sys.executable, "-c", _LOOP + script))
    if _LIVES in script:
        worker.ready()
    assert worker.end()[0] == status
    assert checked(place, reasons) == []


def test_ends_are_counted_while_the_worker_lives(place: Place) -> None:
    worker = place.start(place.run(*place.application("--child", "left alone", "--end", "segfault"), quiet=False))
    assert worker.process.stderr is not None
    found = None
    while found is None:
        found = re.search(r"http://\S+/metrics", worker.process.stderr.readline())
    assert worker.expect(r"child ended with (-?\d+)") == "-11"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline_s = time.monotonic() + PATIENCE_S
    counted: list[str] = []
    while not counted:
        assert time.monotonic() < deadline_s, "the end is not counted"
        with direct.open(found[0], timeout=15) as answer:
            lines = answer.read().decode().splitlines()
        counted = [line for line in lines if line.startswith("race_watch_process_ended_total") and not line.endswith(" 0.0")]
        time.sleep(0.1)
    assert counted == ['race_watch_process_ended_total{reason="native_abort"} 1.0']
    assert 'race_watch_sessions_lost_total{reason="native_abort"} 1.0' in lines
    assert worker.end("")[0] == 0


# Who watches is killed as well


def test_death_of_supervisor_and_worker_is_told_by_the_next_start_alone(place: Place) -> None:
    first = place.start(place.run(*place.application("--end", "wait"), options=()))
    pid = first.ready()
    first.process.kill()
    os.kill(pid, signal.SIGKILL)
    first.end()
    assert place.incidents == []
    assert {str(pid), str(first.process.pid)} <= set(place.pids())

    second = place.start(place.run("true", options=()))
    assert second.end()[0] == 0
    (incident,) = place.incidents
    assert (incident["category"], incident["process"]["pid"], incident["room"]["name"]) == ("process_killed", pid, place.room)
    assert (incident["evidence"]["reason"], incident["evidence"]["sessions_lost"]) == ("unknown", "1")
    assert incident["channels"] == ["journal_end"]
    assert place.pids() == []

    told = (place.home / "incidents.jsonl").read_text()
    third = place.start(place.run("true", options=(), quiet=False))
    status, stderr = third.end()
    assert status == 0
    assert "process_killed" not in stderr
    assert (place.home / "incidents.jsonl").read_text() == told
    assert place.pids() == []


def test_worker_that_outlives_its_supervisor_is_told_by_the_next_one(place: Place) -> None:
    first = place.start(place.run(*place.application("--end", "wait"), options=()))
    pid = first.ready()
    first.process.kill()
    second = place.start(place.run("cat", options=()))
    wait_for(lambda: place.pids() == sorted([str(pid), str(second.process.pid)]), "the first supervisor's journal is gone")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: bool(place.incidents), "the death is told while the second one runs")
    assert second.end("")[0] == 0
    (incident,) = place.incidents
    assert (incident["evidence"]["reason"], incident["process"]["pid"]) == ("unknown", pid)
    first.end()
    assert len((place.home / "incidents.jsonl").read_text().splitlines()) == 1


def test_sidecar_that_is_restarted_tells_each_end_once(place: Place) -> None:
    place.run_dir.mkdir(mode=0o700)
    variables = {
        "RACE_WATCH_RUN_DIR": str(place.run_dir),
        "RACE_WATCH_WATCHER": "none",
        "PYTHONPATH": bootstrap_dir(),
    }
    workers = [place.start(place.application("--end", "wait"), **variables) for _ in range(2)]
    pids = [worker.ready() for worker in workers]
    watch = [*RACE_WATCH, "watch", "--metrics-port", "0", "--run-dir", str(place.run_dir)]
    watch += ["--incidents", str(place.home / "incidents.jsonl")]
    for end, (worker, pid) in zip((signal.SIGTERM, signal.SIGKILL), zip(workers, pids, strict=True), strict=True):
        sidecar = place.start(watch)
        os.kill(pid, signal.SIGKILL)
        worker.end()
        wait_for(lambda pid=pid: pid in [i["process"]["pid"] for i in place.incidents], "the death is told")
        wait_for(lambda pid=pid: str(pid) not in place.pids(), "its journal is removed")
        sidecar.process.send_signal(end)
        sidecar.end()
    last = place.start([*watch, "--quiet"])
    wait_for(lambda: [str(last.process.pid)] == place.pids(), "the journal of the sidecar that was killed is gone")
    last.process.send_signal(signal.SIGTERM)
    assert last.end()[0] == 0
    lines = (place.home / "incidents.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert [incident["process"]["pid"] for incident in place.incidents] == pids
    assert place.pids() == []


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"not in time: {what}"
        time.sleep(0.05)
