"""Child processes: each attests once under an identity of its own, and none writes into another's journal."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from interpreters import LOOP, checked, fake_livekit, outcome, python, read_journals, run, watched_environment

from race_watch.events import Disarmed, LoopBorn, LoopClosed, RoomNamed

_METHOD = """
import multiprocessing, sys
def work(depth):
    import asyncio
    asyncio.new_event_loop().close()
    if depth:
        child = multiprocessing.get_context(sys.argv[1]).Process(target=work, args=(depth - 1,))
        child.start(); child.join()
        assert child.exitcode == 0, child.exitcode
if __name__ == "__main__":
    {before}
    child = multiprocessing.get_context(sys.argv[1]).Process(target=work, args=(1,))
    child.start(); child.join()
    assert child.exitcode == 0, child.exitcode
"""
METHODS = {
    # (start method, whether the parent has made a loop before) -> roles of parent, child and grandchild
    ("fork", True): ["main", "fork", "fork"],
    ("fork", False): ["fork", "fork"],
    ("spawn", True): ["main", "spawn", "spawn"],
    ("spawn", False): ["spawn", "spawn"],
    ("forkserver", True): ["main", "fork", "fork"],
    ("forkserver", False): ["fork", "fork"],
}


@pytest.mark.parametrize(("method", "before"), METHODS)
def test_each_child_of_multiprocessing_attests_once(tmp_path: Path, run_dir: Path, method: str, before: bool) -> None:
    script = tmp_path / "host.py"
    script.write_text(_METHOD.replace("{before}", LOOP.replace("\n", "") if before else "pass"))
    told = run([sys.executable, str(script), method], watched_environment(run_dir))
    assert outcome(told) == (0, "", "")
    journals = read_journals(run_dir)
    assert [journal.role for journal in journals] == METHODS[method, before]
    assert len({journal.process.pid for journal in journals}) == len(journals)
    assert all(journal.count(LoopBorn) == 1 and not journal.lost for journal in journals)


def test_forkserver_that_preloads_livekit_and_its_jobs_attest(tmp_path: Path, run_dir: Path) -> None:
    fake = fake_livekit(tmp_path / "fake")
    script = tmp_path / "host.py"
    script.write_text("""
import multiprocessing, threading
def work():
    import asyncio
    asyncio.new_event_loop().close()
if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["livekit.rtc"])
    for _ in range(3):
        child = context.Process(target=work, name="job_proc")
        child.start(); child.join()
        assert child.exitcode == 0
""")
    told = run([sys.executable, "-W", "error::DeprecationWarning", str(script)], watched_environment(run_dir, after=[fake]))
    assert outcome(told) == (0, "", "")
    assert Counter(journal.role for journal in read_journals(run_dir)) == {"forkserver": 1, "fork": 3}


@pytest.mark.parametrize("start", ["subprocess.run([sys.executable, '-c', source], check=True)", "os.system(command)"])
def test_python_started_by_command_line_attests(run_dir: Path, start: str) -> None:
    host = LOOP + f"import os, shlex, subprocess, sys\nsource = {LOOP!r}\n"
    host += f"command = shlex.join([sys.executable, '-c', source])\n{start}\n"
    assert checked(python(host, watched_environment(run_dir))) == ""
    assert [journal.role for journal in read_journals(run_dir)] == ["main", "main"]


def test_fork_and_exec_is_one_process_with_two_journals_only_if_it_looped_twice(run_dir: Path) -> None:
    host = f"import os, sys\n{LOOP}\nif os.fork() == 0: os.execv(sys.executable, [sys.executable, '-c', 'pass'])\nos.wait()"
    assert checked(python(host, watched_environment(run_dir))) == ""
    assert [journal.role for journal in read_journals(run_dir)] == ["main", "fork"]


# `state(n)` writes a record that says n.
_STATE = (
    LOOP
    + """
import os, sys, threading
from race_watch import agent
from race_watch.events import RoomNamed
def state(number, who=""):
    agent.current().context.recorder.state(RoomNamed, number, who)
def wait(pid):
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
"""
)


def numbers(journal: object, who: str = "") -> list[int]:
    return [event.room for event in journal.events if isinstance(event, RoomNamed) and event.name == who]  # type: ignore[attr-defined]


def test_a_hundred_forks_have_a_hundred_identities_and_whole_journals(run_dir: Path) -> None:
    host = (
        _STATE
        + """
for child in range(100):
    state(child, "parent")
    pid = os.fork()
    if pid == 0:
        for number in range(50):
            state(number, "child")
        os._exit(0)
    wait(pid)
"""
    )
    assert checked(python(host, watched_environment(run_dir, RACE_WATCH_JOURNAL_BYTES="65536"))) == ""
    parent, *children = read_journals(run_dir)
    assert numbers(parent, "parent") == list(range(100))
    assert numbers(parent, "child") == []
    assert len(children) == 100
    assert {tuple(numbers(child, "child")) for child in children} == {tuple(range(50))}
    assert all(numbers(child, "parent") == [] for child in children)
    assert not any(journal.lost for journal in [parent, *children])
    for identity in ("nonce", "pid"):
        assert len({getattr(journal.process, identity) for journal in [parent, *children]}) == 101
    assert {child.process.ppid for child in children} == {parent.process.pid}


def test_forks_while_other_threads_write_leave_both_journals_whole(run_dir: Path) -> None:
    host = (
        _STATE
        + """
stop = threading.Event()
written = []
def load(name):
    number = 0
    while not stop.is_set():
        state(number, name)
        number += 1
        if number % 10 == 0:
            stop.wait(0.001)
    written.append((name, number))
threads = [threading.Thread(target=load, args=(f"thread{i}",)) for i in range(2)]
for thread in threads: thread.start()
def forks():
    for child in range(20):
        pid = os.fork()
        if pid == 0:
            for number in range(20):
                state(number, "child")
            os._exit(0)
        wait(pid)
forker = threading.Thread(target=forks)
forker.start(); forker.join()
stop.set()
for thread in threads: thread.join()
state(1, "end")
"""
    )
    environment = watched_environment(run_dir, RACE_WATCH_JOURNAL_BYTES=str(1024 * 1024))
    checked(python(host, environment, flags=["-W", "ignore::DeprecationWarning"]))
    parent, *children = read_journals(run_dir)
    assert [numbers(child, "child") for child in children] == [list(range(20))] * 20
    assert not any(child.lost for child in children)
    assert numbers(parent, "end") == [1]
    assert parent.torn == 0
    kept = [numbers(parent, name) for name in ("thread0", "thread1")]
    assert all(run == list(range(run[0], run[0] + len(run))) for run in kept)


_LIBC_FORK = (
    _STATE
    + """
import ctypes
state(1, "parent")
pid = ctypes.PyDLL(None).fork()
if pid == 0:
    for number in range(20_000):
        state(number, "child")
    os._exit(0)
wait(pid)
state(2, "parent")
"""
)


def test_child_forked_by_native_code_writes_nothing_into_its_parents_journal(run_dir: Path) -> None:
    assert checked(python(_LIBC_FORK, watched_environment(run_dir, RACE_WATCH_JOURNAL_BYTES="65536"))) == ""
    [parent] = read_journals(run_dir)
    assert (numbers(parent, "parent"), numbers(parent, "child")) == ([1, 2], [])


def test_child_does_not_write_where_the_kernel_cannot_wipe_a_page_on_fork(run_dir: Path) -> None:
    old_kernel = "import race_watch.journal.writer as writer\nwriter._MADV_WIPEONFORK = 9999\n"
    assert checked(python(old_kernel + _LIBC_FORK, watched_environment(run_dir))) == ""
    [parent] = read_journals(run_dir)
    assert (numbers(parent, "parent"), numbers(parent, "child")) == ([1, 2], [])


def test_fork_returns_while_a_thread_holds_a_logging_lock(run_dir: Path) -> None:
    host = (
        _STATE
        + """
import logging
inside, go_on = threading.Event(), threading.Event()
class Slow(logging.StreamHandler):
    def emit(self, record):
        inside.set()
        assert go_on.wait(30)
logging.getLogger().addHandler(Slow())
logger = threading.Thread(target=logging.error, args=("from the thread",))
logger.start()
assert inside.wait(30)
pid = os.fork()
if pid == 0:
    state(1, "child")
    asyncio.new_event_loop().close()
    os._exit(0)
go_on.set()
wait(pid)
logger.join()
"""
    )
    checked(python(host, watched_environment(run_dir), flags=["-W", "ignore::DeprecationWarning"]))
    _, child = read_journals(run_dir)
    assert numbers(child, "child") == [1]
    assert child.count(LoopClosed) == 1


def test_fork_while_another_thread_arms_does_not_hang_the_child(run_dir: Path) -> None:
    host = """
import os, sys, threading
from race_watch import agent
inside, go_on, real = threading.Event(), threading.Event(), agent.from_env
def slow():
    inside.set()
    assert go_on.wait(30)
    return real()
agent.from_env = slow
arming = threading.Thread(target=agent.arm)
arming.start()
assert inside.wait(30)
agent.from_env = real
pid = os.fork()
if pid == 0:
    agent.arm()
    os._exit(0)
_, status = os.waitpid(pid, 0)
go_on.set()
arming.join()
print(status)
"""
    told = checked(python(host, watched_environment(run_dir), flags=["-W", "ignore::DeprecationWarning"]))
    assert told == "0\n"
    assert len(read_journals(run_dir)) == 2


@pytest.mark.parametrize(
    "then", ["from race_watch import auto; auto.install()()", "pid = os.fork()\nif not pid: os._exit(0)\nwait(pid)"]
)
def test_daemon_that_has_closed_every_descriptor_keeps_its_own(tmp_path: Path, run_dir: Path, then: str) -> None:
    """The numbers we had are the host's by then: neither a fork nor an undo may close them."""
    host = (
        _STATE
        + f"""
first = os.open(os.devnull, os.O_RDONLY)
os.closerange(3, 64)
taken = [os.open({str(tmp_path)!r}, os.O_RDONLY) for _ in range(16)]
state(1, "daemon")
{then}
pid = os.fork()
if pid == 0:
    state(1, "child")
    [os.fstat(number) for number in taken]
    os._exit(0)
wait(pid)
[os.fstat(number) for number in taken]
print("open")
"""
    )
    if "undo" in then or "install" in then:
        host = host.replace('    state(1, "child")\n', "")
    assert checked(python(host, watched_environment(run_dir))) == "open\n"


def test_child_that_cannot_make_a_journal_runs_without(run_dir: Path) -> None:
    host = (
        _STATE
        + f"""
import shutil
shutil.rmtree({str(run_dir)!r})
open({str(run_dir)!r}, "w").close()
pid = os.fork()
if pid == 0:
    state(1, "child")
    asyncio.new_event_loop().close()
    print(agent.current().journal, agent.current().problems, flush=True)
    os._exit(0)
wait(pid)
state(2, "parent")
"""
    )
    told = checked(python(host, watched_environment(run_dir)))
    assert told.startswith("None ['no journal in ")


def test_undo_in_a_child_leaves_the_parent_watched(run_dir: Path) -> None:
    host = (
        _STATE
        + """
pid = os.fork()
if pid == 0:
    agent.disarm()
    os._exit(0)
wait(pid)
state(3, "parent")
"""
    )
    checked(python(host, watched_environment(run_dir)))
    parent, child = read_journals(run_dir)
    assert (parent.count(Disarmed), child.count(Disarmed)) == (0, 1)
    assert numbers(parent, "parent") == [3]


def test_supervised_host_may_fork_without_a_warning_about_threads(tmp_path: Path, run_dir: Path) -> None:
    fake = fake_livekit(tmp_path / "fake")
    host = """
import asyncio, livekit.rtc, os, threading
async def main():
    await asyncio.sleep(0)
asyncio.run(main())
assert threading.active_count() == 1
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
"""
    checked(python(host, watched_environment(run_dir, after=[fake]), flags=["-W", "error::DeprecationWarning"]))
    assert [journal.role for journal in read_journals(run_dir)] == ["main", "fork"]


@pytest.mark.parametrize(
    "end",
    [
        "os._exit(0)",
        "os.kill(os.getpid(), 9)",
        "os.kill(os.getpid(), 15)",
        "os.abort()",
        "sys.exit(0)",
        "import ctypes; ctypes.string_at(0)",
        "os.execv(sys.executable, [sys.executable, '-S', '-c', 'pass'])",
        "os.fork() or sys.exit(0); os.wait()",
    ],
)
def test_last_record_is_there_however_the_process_ends(run_dir: Path, end: str) -> None:
    host = f"{_STATE}\nimport resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\nstate(7, 'last')\n{end}"
    python(host, watched_environment(run_dir))
    journal = read_journals(run_dir)[0]
    assert numbers(journal, "last") == [7]
    assert not journal.alive
