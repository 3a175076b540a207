"""Processes that nothing watches from inside, measured from outside; a real Node worker among them."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from race_watch import outside
from race_watch.events import Event, ProcessMeasured, decode
from race_watch.lab.background import background_sfu
from race_watch.lab.tokens import token
from race_watch.lab.wheels import default_cache
from race_watch.outside import INTERVAL_S, Outside

RTC_NODE = "0.13.25"
NODE_SCRIPT = Path(__file__).with_name("rooms_dropped.mjs")

# Holds what a line on its standard input names, and says when it does.
HOLDER = """
import os, select, socket, sys, time
held, pid = [], os.getpid()
def bound(family, kind, at):
    made = socket.socket(family, kind)
    made.bind(at)
    if kind == socket.SOCK_STREAM:
        made.listen()
    return made
make = {
    "udp": lambda: bound(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
    "tcp": lambda: bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
    "unix": lambda: bound(socket.AF_UNIX, socket.SOCK_STREAM, ""),
    "pipe": os.pipe,
    "epoll": select.epoll,
    "eventfd": lambda: os.eventfd(0),
    "file": lambda: os.open(os.devnull, os.O_RDONLY),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
}
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "child":
        if not os.fork():
            os.closerange(0, 3)
            while os.getppid() == pid:
                time.sleep(0.02)
            os._exit(0)
    else:
        held.append(make[line.strip()]())
    print("held", flush=True)
"""


class Looks:
    """An `Outside` and what it has stated, with a clock of its own."""

    def __init__(self, root: int) -> None:
        self.now_s = 0.0
        self.stated: list[ProcessMeasured] = []
        self._outside = Outside(root, self._state)

    def _state(self, event: type[Event], *values: object) -> None:
        # As it would be read again.
        read = decode(event.code, event.body(*values))
        assert isinstance(read, ProcessMeasured)
        self.stated.append(read)

    def look(self, *attached: int) -> list[ProcessMeasured]:
        self.now_s += INTERVAL_S
        before = len(self.stated)
        self._outside.look(attached, self.now_s)
        return self.stated[before:]


class Holder:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid
        self._line()

    def hold(self, *kinds: str) -> None:
        assert self.process.stdin is not None
        for kind in kinds:
            self.process.stdin.write(f"{kind}\n")
            self.process.stdin.flush()
            self._line()

    def _line(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline()


@contextmanager
def holding() -> Iterator[Holder]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Holder(process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def holder() -> Iterator[Holder]:
    with holding() as made:
        yield made


def counts(measured: ProcessMeasured) -> dict[str, int]:
    return {kind: int(count) for kind, _, count in (pair.partition("=") for pair in measured.kinds)}


def test_process_is_measured(holder: Holder) -> None:
    (measured,) = Looks(holder.pid).look()
    assert (measured.pid, measured.open_fds, measured.threads) == (holder.pid, len(os.listdir(f"/proc/{holder.pid}/fd")), 1)
    assert measured.name.startswith("python")
    assert measured.fd_limit >= measured.open_fds
    assert 1_000_000 < measured.rss_bytes < 1_000_000_000
    assert sum(counts(measured).values()) == measured.open_fds


def test_descriptors_are_told_by_kind_when_they_have_grown(holder: Holder) -> None:
    looks = Looks(holder.pid)
    (first,) = looks.look()
    assert looks.look()[0].kinds == ()
    holder.hold("udp", "udp", "tcp", "unix", "pipe", "epoll", "eventfd", "file", "netlink")
    (grown,) = looks.look()
    before, after = counts(first), counts(grown)
    assert {kind: after[kind] - before.get(kind, 0) for kind in after if after[kind] != before.get(kind, 0)} == {
        "udp": 2,
        "tcp": 1,
        "unix": 1,
        "pipe": 2,
        "epoll": 1,
        "eventfd": 1,
        "file": 1,
        "other": 1,
    }
    holder.hold("udp")
    (little,) = looks.look()
    assert (little.open_fds, little.kinds) == (grown.open_fds + 1, ())


def test_looks_have_their_interval(holder: Holder) -> None:
    looks = Looks(holder.pid)
    assert len(looks.look()) == 1
    looks.now_s -= 1
    assert looks.look() == []


def test_process_that_is_watched_from_inside_is_left_out(holder: Holder) -> None:
    holder.hold("child")
    looks = Looks(holder.pid)
    everybody = {measured.pid for measured in looks.look()}
    assert len(everybody) == 2
    assert holder.pid in everybody
    assert {measured.pid for measured in looks.look(holder.pid)} == everybody - {holder.pid}


def test_processes_above_and_beside_the_command_are_left_out(holder: Holder) -> None:
    with holding() as beside:
        assert {measured.pid for measured in Looks(holder.pid).look()} == {holder.pid}
        assert {holder.pid, beside.pid} <= {measured.pid for measured in Looks(os.getpid()).look()}


def test_no_more_processes_are_measured_than_the_bound(holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "_PROCESSES", 2)
    holder.hold("child", "child", "child")
    assert len(Looks(holder.pid).look()) == 2


def test_very_many_descriptors_are_counted_and_not_looked_at(holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "_LOOKED_AT", 2)
    (measured,) = Looks(holder.pid).look()
    assert measured.open_fds > 2
    assert measured.kinds == ()


def test_process_that_has_ended_is_no_more(holder: Holder) -> None:
    looks = Looks(holder.pid)
    assert looks.look()
    holder.process.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # a zombie until it is waited for
    assert looks.look() == []
    holder.process.wait()
    assert looks.look() == []


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
            made = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=150, check=False)
            assert made.returncode == 0, made.stderr[-2000:]
            (place / "finished").touch()
    return place


@pytest.mark.wheels
@pytest.mark.one_python
def test_node_worker_whose_rooms_are_dropped_grows_by_their_sockets(rtc_node: Path) -> None:
    rooms = 3
    with background_sfu() as url:
        tokens = [token(f"node-{number}", "worker") for number in range(rooms)]
        command = ["node", str(NODE_SCRIPT), url, "1", *tokens]
        with subprocess.Popen(command, cwd=rtc_node, stdout=subprocess.PIPE, text=True) as node:
            assert node.stdout is not None
            looks = Looks(node.pid)
            measured: list[ProcessMeasured] = []
            for line in node.stdout:
                if line.strip() in ("ready", "connected"):
                    measured += looks.look()
            assert node.wait() == 0
    assert {one.name for one in measured} == {"node"}
    assert len({(one.pid, one.born_s) for one in measured}) == 1
    assert len(measured) == rooms + 1
    sockets = [counts(one).get("udp", 0) + counts(one).get("tcp", 0) for one in measured]
    assert sockets[0] == 0
    assert sockets == sorted(set(sockets))
