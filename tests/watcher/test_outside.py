"""Real processes that nothing watches from inside, measured from outside."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from race_watch import outside
from race_watch.events import Event, ProcessMeasured, decode
from race_watch.growth.kinds import counted
from race_watch.outside import INTERVAL_S, Outside

# Holds what a line on its standard input names, and says when it does.
HOLDER = """
import os, select, signal, socket, sys, time
held, children, pid = [], [], os.getpid()
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
    word = line.strip()
    if word == "child":
        children.append(os.fork())
        if not children[-1]:
            os.closerange(0, 3)
            while os.getppid() == pid:
                time.sleep(0.02)
            os._exit(0)
    elif word == "end child":
        os.kill(children[-1], signal.SIGKILL)
        os.waitpid(children.pop(), 0)
    elif word.startswith("exec "):
        os.execv(word[5:], [word[5:], "-c", "echo held; read line"])
    elif word == "let go":
        held.pop().close()
    else:
        held.append(make[word]())
    print("held", flush=True)
"""
GONE = 0


class Looks:
    """An `Outside` that has looked once, and what it has stated since, with a clock of its own."""

    def __init__(self, root: int) -> None:
        self.now_s = 0.0
        self.stated: list[ProcessMeasured] = []
        self._outside = Outside(root, self._state)
        assert self.look() == []

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
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield Holder(process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def holder() -> Iterator[Holder]:
    with holding() as made:
        yield made


def test_process_is_measured(holder: Holder) -> None:
    (measured,) = Looks(holder.pid).look()
    assert (measured.pid, measured.open_fds, measured.threads) == (holder.pid, len(os.listdir(f"/proc/{holder.pid}/fd")), 1)
    assert measured.program == Path(os.readlink(f"/proc/{holder.pid}/exe")).name
    assert measured.fd_limit >= measured.open_fds
    assert 1_000_000 < measured.rss_bytes < 1_000_000_000
    assert sum(counted(measured.kinds).values()) == measured.open_fds


def test_descriptors_are_told_by_kind_whenever_their_number_has_changed(holder: Holder) -> None:
    looks = Looks(holder.pid)
    (first,) = looks.look()
    assert looks.look()[0].kinds == ()
    holder.hold("udp", "udp", "tcp", "unix", "pipe", "epoll", "eventfd", "file", "netlink")
    (grown,) = looks.look()
    before, after = counted(first.kinds), counted(grown.kinds)
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
    assert counted(looks.look()[0].kinds)["udp"] == 3
    holder.hold("let go")
    assert counted(looks.look()[0].kinds)["udp"] == 2


def test_looks_have_their_interval(holder: Holder) -> None:
    looks = Looks(holder.pid)
    assert len(looks.look()) == 1
    looks.now_s -= 1
    assert looks.look() == []


def test_process_that_does_not_live_from_one_look_to_the_next_is_left_out(holder: Holder) -> None:
    looks = Looks(holder.pid)
    holder.hold("child")
    looks.look()
    holder.hold("end child", "child")
    looks.look()
    assert {measured.pid for measured in looks.stated} == {holder.pid}


def test_process_that_is_watched_from_inside_is_left_out(holder: Holder) -> None:
    holder.hold("child")
    looks = Looks(holder.pid)
    everybody = {measured.pid for measured in looks.look()}
    assert len(everybody) == 2
    assert holder.pid in everybody
    assert [measured.threads == GONE for measured in looks.look(holder.pid)] == [False, True], "the last word of it"
    assert {measured.pid for measured in looks.look(holder.pid)} == everybody - {holder.pid}


def test_children_that_live_are_counted(holder: Holder) -> None:
    looks = Looks(holder.pid)
    holder.hold("child", "child")
    assert looks.look()[0].children == 2
    holder.hold("end child")
    assert looks.look()[0].children == 1


def test_processes_above_and_beside_the_command_are_left_out(holder: Holder) -> None:
    with holding() as beside:
        assert {measured.pid for measured in Looks(holder.pid).look()} == {holder.pid}
        assert {holder.pid, beside.pid} <= {measured.pid for measured in Looks(os.getpid()).look()}


def test_no_more_processes_are_measured_than_the_bound_and_those_stay(holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "_PROCESSES", 2)
    holder.hold("child", "child", "child")
    looks = Looks(holder.pid)
    first = {measured.pid for measured in looks.look()}
    assert len(first) == 2
    assert {measured.pid for measured in looks.look()} == first


def test_very_many_descriptors_are_counted_and_not_looked_at(holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "_LOOKED_AT", 2)
    (measured,) = Looks(holder.pid).look()
    assert measured.open_fds > 2
    assert measured.kinds == ()


def test_program_is_the_executable_whatever_the_process_calls_itself(holder: Holder, tmp_path: Path) -> None:
    looks = Looks(holder.pid)
    (before,) = looks.look()
    named = tmp_path / "room of alice"
    named.symlink_to(shutil.which("sh") or "/bin/sh")
    holder.hold(f"exec {named}")
    (after,) = looks.look()
    assert Path(f"/proc/{holder.pid}/comm").read_text().strip() == "room of alice"
    assert after.program == named.resolve().name != before.program
    assert (after.pid, after.born_s) == (before.pid, before.born_s)


def test_look_that_fails_for_want_of_descriptors_is_made_up_for_by_the_next(
    holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    looks = Looks(holder.pid)
    (before,) = looks.look()
    with monkeypatch.context() as without:
        without.setattr(psutil.Process, "children", none_left)
        assert looks.look() == []
    (after,) = looks.look()
    assert (after.pid, after.born_s, after.threads) == (before.pid, before.born_s, before.threads)


def test_process_that_has_ended_is_told_once(holder: Holder) -> None:
    looks = Looks(holder.pid)
    (measured,) = looks.look()
    holder.process.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # a zombie until it is waited for
    (last,) = looks.look()
    assert (last.pid, last.born_s, last.threads) == (measured.pid, measured.born_s, GONE)
    assert looks.look() == []
    holder.process.wait()
    assert looks.look() == []
