"""What a parent says of its multiprocessing children: signals, ends, livekit-agents' words; never what it cannot know."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing import popen_fork, popen_forkserver, popen_spawn_posix
from pathlib import Path
from typing import Any

import pytest
from arming import Armed, arming
from interpreters import LOOP, Journal, checked, read_journals, run, watched_environment

from race_watch.events import ChildEnded, ChildLogged, ChildSignalled, Event
from race_watch.hooks.children import AGENTS_LOGGER
from race_watch.lab.wheels import environment

METHODS = ("fork", "spawn", "forkserver")
OF_CHILDREN = (ChildEnded, ChildSignalled, ChildLogged)

_HOST = """
import asyncio, multiprocessing, os, signal, sys, threading, time
def sleeps():
    time.sleep(60)
def quick():
    pass
if __name__ == "__main__":
    asyncio.new_event_loop().close()
    context = multiprocessing.get_context(sys.argv[1])
    def start(target=sleeps):
        child = context.Process(target=target)
        child.start()
        print(child.pid, flush=True)
        return child
    exec(sys.argv[2])
"""


def told(tmp_path: Path, run_dir: Path, method: str, source: str) -> tuple[list[Event], list[int]]:
    """What the parent states of its children, and the numbers that it prints: their pids, as a rule."""
    script = tmp_path / "host.py"
    script.write_text(_HOST)
    said = checked(run([sys.executable, str(script), method, source], watched_environment(run_dir)))
    return of_children(read_journals(run_dir)[0]), [int(word) for word in said.split()]


def of_children(journal: Journal) -> list[Event]:
    assert journal.role == "main"
    return [event for event in journal.events if isinstance(event, OF_CHILDREN)]


# Signals and ends


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("call", "number"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)])
def test_signal_is_told_as_the_parents_own_and_before_the_end(
    tmp_path: Path, run_dir: Path, method: str, call: str, number: int
) -> None:
    events, (pid,) = told(tmp_path, run_dir, method, f"child = start(); child.{call}(); child.join()")
    assert events == [ChildSignalled(pid, number, 0), ChildEnded(pid, -number, 0)]


@pytest.mark.parametrize("method", METHODS)
def test_child_that_has_ended_is_not_told_as_signalled_and_its_end_is_told_once(
    tmp_path: Path, run_dir: Path, method: str
) -> None:
    source = "child = start(quick); child.join(); child.terminate(); child.kill(); child.is_alive(); print(child.exitcode)"
    events, (pid, status) = told(tmp_path, run_dir, method, source)
    assert events == [ChildEnded(pid, 0, 0)]
    assert status == 0


def test_child_that_a_signal_does_not_end_is_told_as_signalled(tmp_path: Path, run_dir: Path) -> None:
    source = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); child = start(); child.terminate()\n"
        "print(int(child.is_alive())); child.kill(); child.join()"
    )
    events, (pid, alive) = told(tmp_path, run_dir, "fork", source)
    assert alive
    assert events == [ChildSignalled(pid, 15, 0), ChildSignalled(pid, 9, 0), ChildEnded(pid, -9, 0)]


def test_child_that_somebody_else_ends_is_told_with_its_status_alone(tmp_path: Path, run_dir: Path) -> None:
    events, (pid,) = told(tmp_path, run_dir, "fork", "child = start(); os.kill(child.pid, 9); child.join()")
    assert events == [ChildEnded(pid, -9, 0)]


def test_end_that_several_threads_wait_for_is_told(tmp_path: Path, run_dir: Path) -> None:
    source = """
child = start()
threads = [threading.Thread(target=child._popen.wait) for _ in range(4)]
for thread in threads: thread.start()
child.kill()
for thread in threads: thread.join()
print(child.exitcode)
"""
    events, (pid, status) = told(tmp_path, run_dir, "fork", source)
    assert status == -9
    assert events[0] == ChildSignalled(pid, 9, 0)
    assert set(events[1:]) == {ChildEnded(pid, -9, 0)}


def test_children_are_told_by_their_own_parent_only(tmp_path: Path, run_dir: Path) -> None:
    script = tmp_path / "host.py"
    script.write_text("""
import asyncio, multiprocessing, sys
def work(depth):
    asyncio.new_event_loop().close()
    if depth:
        child = multiprocessing.Process(target=work, args=(depth - 1,))
        child.start(); child.join()
    sys.exit(depth)
if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    work(2)
""")
    assert run([sys.executable, str(script)], watched_environment(run_dir)).returncode == 2
    journals = read_journals(run_dir)
    pids = [journal.process.pid for journal in journals]
    ended = [[e for e in journal.events if isinstance(e, ChildEnded)] for journal in journals]
    assert ended == [[ChildEnded(pids[1], 1, 0)], [ChildEnded(pids[2], 0, 0)], []]


def test_child_whose_forkserver_has_died_is_not_given_an_end(tmp_path: Path, run_dir: Path) -> None:
    """Multiprocessing says 255 then, and the child may live."""
    source = """
from multiprocessing import forkserver
child = start()
os.kill(forkserver._forkserver._forkserver_pid, 9)
os.kill(child.pid, 9)
child.join()
print(child.exitcode)
"""
    events, (_, status) = told(tmp_path, run_dir, "forkserver", source)
    assert status == 255
    assert events == []


def test_status_255_of_a_fork_is_its_own(tmp_path: Path, run_dir: Path) -> None:
    events, (pid,) = told(tmp_path, run_dir, "fork", "sleeps = lambda: os._exit(255); child = start(sleeps); child.join()")
    assert events == [ChildEnded(pid, 255, 0)]


# As it was

_PATCHED = ((popen_fork.Popen, "poll"), (popen_fork.Popen, "_send_signal"), (popen_forkserver.Popen, "poll"))


def test_methods_look_as_they_did_and_are_as_before_after_the_undo(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def looks() -> list[Any]:
        return [(str(inspect.signature(vars(cls)[name])), vars(cls)[name].__qualname__) for cls, name in _PATCHED]

    before, looked = [vars(cls)[name] for cls, name in _PATCHED], looks()
    with arming(run_dir, monkeypatch.setenv):
        patched = [vars(cls)[name] for cls, name in _PATCHED]
        assert all(new is not old for new, old in zip(patched, before, strict=True))
        assert looks() == looked
        assert "poll" not in vars(popen_spawn_posix.Popen), "it has that of a fork"
    assert [vars(cls)[name] for cls, name in _PATCHED] == before


# livekit-agents


@pytest.fixture
def agents_logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger(AGENTS_LOGGER)
    logger.addHandler(logging.NullHandler())
    yield logger
    logger.handlers.clear()


# What it logs -> the text that is kept.
LOGGED = {
    "process is unresponsive, killing process": "process is unresponsive",
    "process exceeded memory limit, killing process": "process exceeded memory limit",
    "process did not ack shutdown in time after 60 s": "process did not ack shutdown in time",
    "process did not exit in time, killing process": "process did not exit in time",
    "process exited with non-zero exit code -6": "process exited with non-zero exit code",
}


@pytest.mark.parametrize("message", LOGGED)
def test_word_of_agents_is_told_with_pid_job_and_room(armed: Armed, agents_logger: logging.Logger, message: str) -> None:
    agents_logger.error(message, extra={"pid": 77, "job_id": "AJ_1", "room": "lobby"})
    assert armed.seen(ChildLogged) == [ChildLogged(77, LOGGED[message], "AJ_1", "lobby")]


def test_word_about_a_process_without_a_job_has_none(armed: Armed, agents_logger: logging.Logger) -> None:
    agents_logger.error("process exited with non-zero exit code -9", extra={"pid": 77})
    assert armed.seen(ChildLogged) == [ChildLogged(77, "process exited with non-zero exit code", "", "")]


def test_word_is_bounded_and_cannot_break_a_record(armed: Armed, agents_logger: logging.Logger) -> None:
    agents_logger.error("process is unresponsive", extra={"pid": 77, "job_id": "a\x1f\nb" * 100, "room": object()})
    (event,) = armed.seen(ChildLogged)
    assert event.job_id.startswith("a  ba  b")
    assert (len(event.job_id), event.room) == (128, "")


@pytest.mark.parametrize(
    ("name", "message", "extra"),
    [
        (AGENTS_LOGGER, "process is unresponsive", {}),
        (AGENTS_LOGGER, "process is unresponsive", {"pid": "77"}),
        (AGENTS_LOGGER, "process is unresponsive", {"pid": True}),
        (AGENTS_LOGGER, "job exited with non-zero exit code -6", {"pid": 77}),
        (f"{AGENTS_LOGGER}.voice", "process is unresponsive", {"pid": 77}),
        ("app", "process is unresponsive", {"pid": 77}),
    ],
    ids=["no pid", "pid is a text", "pid is a bool", "another text", "a logger below", "another logger"],
)
def test_what_is_no_word_about_a_process_is_not_told(
    armed: Armed, agents_logger: logging.Logger, name: str, message: str, extra: dict[str, Any]
) -> None:
    logging.getLogger(name).error(message, extra=extra)
    assert armed.seen(ChildLogged) == []


def test_warning_of_a_late_answer_is_no_word_about_an_end(armed: Armed, agents_logger: logging.Logger) -> None:
    agents_logger.warning("process is unresponsive", extra={"pid": 77, "delay": 600})
    assert armed.seen(ChildLogged) == []


def test_copy_that_a_job_has_forwarded_is_not_told(armed: Armed, agents_logger: logging.Logger) -> None:
    """A job may itself supervise processes, and its records come again in its parent."""
    record = agents_logger.makeRecord(AGENTS_LOGGER, 40, __file__, 1, "process is unresponsive", (), None, extra={"pid": 77})
    record.process = os.getpid() + 1
    agents_logger.callHandlers(record)
    assert armed.seen(ChildLogged) == []


_KILLS = (
    LOOP
    + """
import asyncio, multiprocessing, sys, time, types
from livekit.agents.ipc import supervised_proc
def kill(child):
    process = types.SimpleNamespace(_proc=child, logging_extra=dict, _kill_sent=False)
    asyncio.run(supervised_proc.SupervisedProc._send_kill_signal(process))
def takes(ready, handler):
    import signal
    signal.signal(signal.SIGUSR1, handler)
    ready.set()
    time.sleep(60)
context = multiprocessing.get_context("fork")
for handler in (0, 1):
    ready = context.Event()
    child = context.Process(target=takes, args=(ready, handler))
    child.start()
    assert ready.wait(30)
    kill(child)
    child.join()
    print(child.pid, child.exitcode)
    kill(child)
    child.close()
    kill(child)
"""
)


@pytest.mark.wheels
@pytest.mark.one_python
def test_kill_of_agents_begins_with_its_own_signal(run_dir: Path) -> None:
    """It sends SIGUSR1 by `os.kill`, which ends a job under the forkserver; where it is handled, SIGKILL follows."""
    python = environment(["livekit-agents==1.8.9"])
    said = checked(run([str(python), "-c", _KILLS], watched_environment(run_dir)))
    first, _, second, _ = numbers = [int(word) for word in said.split()]
    assert numbers == [first, -signal.SIGUSR1, second, -signal.SIGKILL]
    assert of_children(read_journals(run_dir)[0]) == [
        ChildSignalled(first, signal.SIGUSR1, 0),
        ChildEnded(first, -signal.SIGUSR1, 0),
        ChildSignalled(second, signal.SIGUSR1, 0),
        ChildSignalled(second, signal.SIGKILL, 0),
        ChildEnded(second, -signal.SIGKILL, 0),
    ]
