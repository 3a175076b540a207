"""The counting thread: there from the first connected room on, in that process only, in small steps, gone when undone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from arming import Armed, sdk
from interpreters import checked, fake_livekit, python, read_journals, watched_environment
from test_threads import running

from race_watch.events import DescriptorsClassified, HookStruck, ResourcesSampled
from race_watch.guard import Guard
from race_watch.hooks.counting import THREAD_NAME, Counting
from race_watch.hooks.descriptor_kinds import classified


def counting_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


def guard(armed: Armed) -> Guard:
    return armed.context.recorder.guard("counting")


def steps(armed: Armed) -> int:
    """One look, in this thread; how many steps it took."""
    taken = armed.context.counting
    taken.enable(guard(armed), classified)
    return len(list(taken._steps()))


def test_one_look_states_what_edges_do_not(armed: Armed) -> None:
    with running():
        assert steps(armed) > 4
        there = len(os.listdir("/proc/self/task")), threading.active_count()
    (sampled,) = armed.seen(ResourcesSampled)
    kinds = dict(pair.split("=") for pair in sampled.threads)
    assert (int(kinds["all"]), int(kinds["python"]) + 1) == there  # the thread that looks is of no kind
    assert (sampled.edge, sampled.tasks, sampled.rooms_abandoned) == (0, 0, 0)


def test_pending_tasks_of_the_sdk_are_counted(armed: Armed) -> None:
    namespace = sdk("async def waits(event): await event.wait()\nasync def ends(): pass")

    async def main() -> list[int]:
        event = asyncio.Event()
        tasks = [asyncio.create_task(namespace["waits"](event)) for _ in range(3)]
        tasks += [asyncio.create_task(namespace["ends"]()), asyncio.create_task(asyncio.sleep(60))]
        await asyncio.sleep(0.01)
        steps(armed)
        event.set()
        await asyncio.gather(*tasks[:4])
        steps(armed)
        return [sample.tasks for sample in armed.seen(ResourcesSampled)]

    assert asyncio.run(main()) == [3, 0]


def test_descriptors_are_classified_at_first_and_when_they_have_grown(armed: Armed) -> None:
    opened: list[int] = []

    def walks_after(more: int) -> int:
        opened.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(more))
        steps(armed)
        return len(armed.seen(DescriptorsClassified))

    try:
        assert walks_after(0) == 1
        assert walks_after(0) == walks_after(1) == 1
        assert walks_after(60) == 2
        while opened:
            os.close(opened.pop())
        assert walks_after(0) == 2
        assert walks_after(60) == 3
    finally:
        for descriptor in opened:
            os.close(descriptor)
    files = [dict(pair.split("=") for pair in walk.kinds)["file"] for walk in armed.seen(DescriptorsClassified)]
    assert int(files[1]) == int(files[2]) + 1 == int(files[0]) + 61


def test_look_at_thousands_of_descriptors_has_as_many_more_steps(armed: Armed) -> None:
    few = steps(armed)
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(3200)]
    try:
        assert steps(armed) >= 100 > few
    finally:
        for descriptor in opened:
            os.close(descriptor)


def test_thread_starts_when_a_room_connects_and_once(armed: Armed) -> None:
    under = armed.context.counting
    under.start()
    assert not counting_threads()
    under.enable(guard(armed), classified)
    assert not counting_threads()
    under.start()
    under.start()
    (thread,) = counting_threads()
    assert thread.daemon
    under.stop()
    assert not thread.is_alive()
    under.start()
    assert not counting_threads()


def test_thread_looks_again_and_again_until_it_is_stopped(armed: Armed) -> None:
    context = armed.context
    under = Counting(context.recorder, context.rooms, context.tasks, context.resources, 0.01)
    looks: list[int] = []
    under.enable(guard(armed), classified, lambda: looks.append(1))
    under.start()
    until(lambda: len(looks) >= 3)
    under.stop()
    assert not counting_threads()
    samples = armed.seen(ResourcesSampled)
    assert len(samples) >= 3
    assert all(sample.edge == 0 for sample in samples)


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_look_is_left_in_the_middle_when_it_is_stopped(armed: Armed) -> None:
    walked: list[int] = []

    def endless() -> Iterator[None]:
        while True:
            walked.append(1)
            yield None

    context = armed.context
    under = Counting(context.recorder, context.rooms, context.tasks, context.resources, 0.01)
    under.enable(guard(armed), endless)  # type: ignore[arg-type]
    under.start()
    until(lambda: len(walked) > 3)
    under.stop()
    assert not counting_threads()


def test_look_that_fails_is_counted_and_then_left(armed: Armed) -> None:
    armed.strikes = 3

    def fails() -> Iterator[None]:
        raise ValueError("of ours")
        yield

    context = armed.context
    under = Counting(context.recorder, context.rooms, context.tasks, context.resources, 0.01)
    under.enable(guard(armed), fails)  # type: ignore[arg-type]
    for _ in range(5):
        under._classified_at = -1000
        assert under._look is not None
        under._look(threading.Event())
    assert [struck.off for struck in armed.seen(HookStruck)] == [0, 0, 1]


def test_thread_that_cannot_be_started_is_no_error(armed: Armed, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    under = armed.context.counting
    under.enable(guard(armed), classified)
    under.start()
    assert not counting_threads()


CHILDREN = """
import asyncio, multiprocessing, os, sys, threading
def names():
    return sum(thread.name == "race_watch-counts" for thread in threading.enumerate())
def work(connects):
    from livekit import rtc
    from race_watch import agent
    asyncio.new_event_loop().close()
    before = names()
    if connects:
        agent.current().context.counting.start()
    print(before, names(), flush=True)
if __name__ == "__main__":
    from livekit import rtc
    from race_watch import agent
    if sys.argv[2:]:
        agent.current().context.counting.start()
    for connects in (False, True, False):
        child = multiprocessing.get_context(sys.argv[1]).Process(target=work, args=(connects,))
        child.start(); child.join()
        assert child.exitcode == 0, child.exitcode
    print("parent", names())
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("parent", [False, True])
def test_thread_is_only_in_processes_that_connect(tmp_path: Path, run_dir: Path, method: str, parent: bool) -> None:
    script = tmp_path / "host.py"
    script.write_text(CHILDREN)
    variables = watched_environment(run_dir, after=[fake_livekit(tmp_path / "fake")])
    # A parent that has threads is warned of its fork, with us or without: LiveKit has some of its own by then.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(script), method, *["connects"] * parent]
    ended = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert checked(ended) == f"0 0\n0 1\n0 0\nparent {int(parent)}\n"
    assert all(not journal.count(HookStruck) and not journal.lost for journal in read_journals(run_dir))


LATE = """
import atexit, sys
from livekit import rtc
from race_watch import agent
context = agent.current().context
context.counting.start()
context.counting._every_s = 0.001
class Late:
    def __del__(self, counting=context.counting):
        counting._thread = None
        counting.start()
sys.late = Late()
atexit.register(context.counting.start)
"""


def test_process_that_ends_while_counting_ends_as_it_would(tmp_path: Path, run_dir: Path) -> None:
    fake = fake_livekit(tmp_path / "fake")
    for _ in range(5):
        assert checked(python(LATE, watched_environment(run_dir, after=[fake], RACE_WATCH_COUNT_EVERY_S="1"))) == ""
