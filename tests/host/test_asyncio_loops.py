"""Loops and their exception handlers: what is lost is seen, told once, and told by the host's own loop exactly as before."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from arming import Armed, arming, in_thread, logged, no_collector, run, sdk
from interpreters import LOOP, bare_environment, checked, outcome, python, read_journals, watched_environment

from race_watch.events import ExceptionSeen, ExceptionSeenAgain, HookStruck, LoopBorn, LoopClosed, TaskDestroyedPending
from race_watch.hooks import asyncio_loops

MakeLoop = Callable[[], asyncio.AbstractEventLoop]


async def failing() -> None:
    raise ValueError("lost")


async def lose_a_task() -> None:
    task = asyncio.create_task(failing(), name="mine")
    await asyncio.wait([task])


async def lose_a_callback() -> None:
    asyncio.get_running_loop().call_soon(int, "no number")
    await asyncio.sleep(0.001)


async def lose_a_pending_task() -> None:
    task: Any = asyncio.create_task(asyncio.sleep(60), name="mine")
    task.add_done_callback(lambda _: task)
    await asyncio.sleep(0)
    for handle in getattr(asyncio.get_running_loop(), "_scheduled", ()):
        handle.cancel()


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[Any, ...]]:
    """What `asyncio` logged, with all that a formatter can show, but for addresses."""
    shown = []
    for record in caplog.records:
        text = re.sub(r"0x[0-9a-f]+", "0x", record.getMessage())
        error = record.exc_info[1] if record.exc_info else None
        shown.append((record.name, record.levelname, text, repr(error), record.pathname, record.lineno, record.funcName))
    caplog.clear()
    return shown


@pytest.mark.parametrize("lose", [lose_a_task, lose_a_callback])
def test_loop_logs_what_it_would_have_logged(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, new_loop: MakeLoop, lose: Any
) -> None:
    with no_collector():
        run(new_loop, lose)
    bare = told(caplog)
    with arming(run_dir, monkeypatch.setenv) as armed, no_collector():
        run(new_loop, lose)
        assert armed.channels() == ["never_retrieved" if lose is lose_a_task else "loop_callback"]
    assert len(bare) == 1
    assert told(caplog) == bare


def test_lost_exception_is_never_asked_for(armed: Armed, new_loop: MakeLoop) -> None:
    asked: list[str] = []

    class Asked(asyncio.Task):  # type: ignore[type-arg]
        def exception(self) -> BaseException | None:
            asked.append("exception")
            return super().exception()

        def result(self) -> Any:
            asked.append("result")
            return super().result()

        def __bool__(self) -> bool:
            asked.append("bool")
            return False

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **_: Asked(coro, loop=loop))
        armed.context.rooms.dispatch.room = 1
        task: Any = asyncio.get_running_loop().create_task(failing())
        armed.context.rooms.dispatch.room = 0
        while not task.done():
            await asyncio.sleep(0)
        assert task._log_traceback

    with logged() as lines:
        run(new_loop, main)
        gc.collect()
    assert lines == [lines[0]]
    assert not asked
    assert armed.one_exception().task


def test_lost_exception_is_one_fact_and_other_channels_speak_of_it(armed: Armed, new_loop: MakeLoop) -> None:
    def handler(loop: Any, context: dict[str, Any]) -> None:
        logging.getLogger("app").error("a task died", exc_info=context["exception"])
        logging.getLogger("livekit").error("task exception: %s", context["future"], exc_info=context["exception"])
        loop.default_exception_handler(context)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(handler)
        await lose_a_task()

    run(new_loop, main)
    gc.collect()
    seen = armed.one_exception()
    assert (seen.channel, seen.type, seen.message, seen.task_name) == ("never_retrieved", "ValueError", "lost", "mine")
    again = armed.seen(ExceptionSeenAgain)
    assert [(event.fact, event.channel) for event in again] == [(seen.fact, "log"), (seen.fact, "log_task")]


def test_handlers_of_the_host_come_and_go_as_ever(armed: Armed, new_loop: MakeLoop) -> None:
    calls: list[list[str]] = []

    def handler(loop: Any, context: dict[str, Any]) -> None:
        calls.append(sorted(context))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert loop.get_exception_handler() is None
        loop.set_exception_handler(handler)
        assert loop.get_exception_handler() is handler
        await lose_a_task()
        loop.set_exception_handler(None)
        assert loop.get_exception_handler() is None
        await lose_a_task()
        with pytest.raises(TypeError):
            loop.set_exception_handler("no handler")  # type: ignore[arg-type]
        loop.call_exception_handler(context={"message": "a host's own report", "colour": "red"})

    with logged() as lines:
        run(new_loop, main)
        gc.collect()
    assert calls == [["exception", "future", "message"]]
    assert [line.splitlines()[0] for line in lines] == [
        "ERROR asyncio Task exception was never retrieved",
        "ERROR asyncio a host's own report",
    ]
    assert armed.channels() == ["never_retrieved", "never_retrieved"]


def test_handler_that_fails_is_logged_as_ever(armed: Armed, new_loop: MakeLoop) -> None:
    def handler(loop: Any, context: dict[str, Any]) -> None:
        raise RuntimeError("the host's own fault")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(handler)
        await lose_a_task()

    with logged() as lines:
        run(new_loop, main)
        gc.collect()
    assert [line.splitlines()[0] for line in lines] == ["ERROR asyncio Unhandled error in exception handler"]
    assert armed.channels() == ["never_retrieved"]


def test_collector_reports_in_whatever_thread_it_runs(armed: Armed, new_loop: MakeLoop) -> None:
    threads: list[str] = []

    def handler(loop: Any, context: dict[str, Any]) -> None:
        threads.append(threading.current_thread().name)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(handler)
        for _ in range(3):
            task = asyncio.create_task(failing())
            cycle: list[Any] = [task]
            cycle.append(cycle)
            await asyncio.wait([task])
        await asyncio.sleep(0)
        del task, cycle
        in_thread(gc.collect)

    with no_collector():
        run(new_loop, main)
    assert threads == ["some-other-thread"] * 3
    assert armed.channels() == ["never_retrieved"] * 3


def test_loops_made_before_us_and_in_other_threads_are_seen(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, new_loop: MakeLoop
) -> None:
    early = [new_loop() for _ in range(3)]
    with arming(run_dir, monkeypatch.setenv) as armed:
        threads = [threading.Thread(target=loop.run_until_complete, args=(lose_a_task(),)) for loop in early]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        gc.collect()
        assert armed.channels() == ["never_retrieved"] * 3
        for loop in early:
            loop.close()
        assert not armed.seen(LoopBorn)
        assert len(armed.seen(LoopClosed)) == 3


def test_loop_is_born_and_closed_once(armed: Armed, new_loop: MakeLoop) -> None:
    async def main() -> None:
        assert len(armed.seen(LoopBorn)) == 1
        assert not armed.seen(LoopClosed)

    run(new_loop, main)
    kinds = {(event.kind, event.process_name) for event in armed.seen(LoopBorn)}
    assert kinds <= {("asyncio.unix_events._UnixSelectorEventLoop", "MainProcess"), ("uvloop.Loop", "MainProcess")}
    assert len(kinds) == len(armed.seen(LoopClosed)) == 1


def test_destroyed_task_says_where_it_waited(armed: Armed, new_loop: MakeLoop) -> None:
    namespace = sdk("async def reads():\n    await asyncio.get_running_loop().create_future()\n")

    async def main() -> None:
        task: Any = asyncio.create_task(namespace["reads"](), name="reader of +15551234567")
        task.add_done_callback(lambda _: task)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    with logged() as lines:
        run(new_loop, main)
        gc.collect()
    assert [line.splitlines()[0] for line in lines] == ["ERROR asyncio Task was destroyed but it is pending!"]
    (destroyed,) = armed.seen(TaskDestroyedPending)
    assert destroyed.task_name == "reader of <number>"
    assert destroyed.task_coro == "livekit/rtc/made_up.py:reads"
    # The collector of 3.11 and older closes the coroutine first.
    assert destroyed.awaits in ("livekit/rtc/made_up.py:reads:2", "")
    assert destroyed.task_created_at.startswith("tests/host/test_asyncio_loops.py:main:")


class Hostile:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("nobody asks me")

    def __bool__(self) -> bool:
        raise RuntimeError("nobody asks me")

    __eq__ = __hash__ = __str__ = __repr__ = __bool__  # type: ignore[assignment]


REPORTS: dict[str, dict[str, Any]] = {
    "nothing in it": {},
    "no text": {"message": 7, "exception": ValueError("x")},
    "no exception": {"message": "Exception in callback", "exception": None},
    "something else": {"message": "Unhandled exception in client_connected_cb", "exception": ValueError("x")},
    "destroyed without a task": {"message": "Task was destroyed but it is pending!"},
}


@pytest.mark.parametrize("report", REPORTS)
def test_report_of_another_kind_is_no_fact(armed: Armed, report: str) -> None:
    loop = asyncio.new_event_loop()
    seen: list[Any] = []
    loop.set_exception_handler(lambda _, context: seen.append(context))
    loop.call_exception_handler(REPORTS[report])
    loop.close()
    assert seen[0] is REPORTS[report]
    assert not armed.channels()
    assert not armed.seen(TaskDestroyedPending)


def test_report_about_a_hostile_object_is_told_without_asking_it(armed: Armed) -> None:
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: None)
    loop.call_exception_handler({"message": "Exception in callback", "exception": ValueError("x"), "task": Hostile()})
    loop.close()
    armed.strikes = len(armed.seen(HookStruck))
    assert armed.strikes <= 1


@pytest.mark.parametrize("error", [ValueError, RecursionError, MemoryError])
def test_failures_of_ours_are_counted_and_end_the_hook(
    armed: Armed, monkeypatch: pytest.MonkeyPatch, new_loop: MakeLoop, error: type[Exception]
) -> None:
    def broken(*_: Any) -> None:
        raise error("ours")

    monkeypatch.setattr(asyncio_loops, "_report", broken)

    async def main() -> None:
        for _ in range(5):
            await lose_a_task()

    with logged() as lines:
        run(new_loop, main)
        gc.collect()
    armed.strikes = 3
    assert len(lines) == 5
    assert [(event.hook, event.error, event.off) for event in armed.seen(HookStruck)] == [
        ("asyncio_loops", error.__name__, off) for off in (0, 0, 1)
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError])
def test_interrupts_that_meet_us_belong_to_the_host(
    armed: Armed, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def interrupted(*_: Any) -> None:
        raise error

    loop = asyncio.new_event_loop()
    monkeypatch.setattr(asyncio_loops, "_report", interrupted)
    with pytest.raises(error):
        loop.call_exception_handler({"message": "x"})
    loop.close()


def test_deep_stack_of_the_host_is_its_own_affair(armed: Armed) -> None:
    """At the recursion limit our body fails, and so does telling of it: the host sees neither."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: None)
    details = {"message": "Exception in callback x", "exception": ValueError("x")}
    outcomes = []

    def down(depth: int) -> None:
        if depth:
            down(depth - 1)
        else:
            loop.call_exception_handler(dict(details))

    limit = sys.getrecursionlimit()
    for depth in range(limit - 120, limit):
        try:
            down(depth)
            outcomes.append("fine")
        except RecursionError:
            outcomes.append("too deep")
    loop.close()
    armed.strikes = len(armed.seen(HookStruck))
    # Once it is too deep it stays so: nothing of ours failed in between.
    assert outcomes == sorted(outcomes)
    assert len(set(outcomes)) == 2


LOSES = """
import asyncio, gc
async def failing():
    raise ValueError("lost")
async def main():
    task = asyncio.create_task(failing())
    await asyncio.wait([task])
"""


def test_uvloop_imported_after_us_is_seen(run_dir: Path) -> None:
    pytest.importorskip("uvloop")
    source = (
        LOSES
        + LOOP
        + "import uvloop\nloop = uvloop.new_event_loop()\nloop.run_until_complete(main())\ngc.collect()\nloop.close()\n"
    )
    bare = python(source, bare_environment())
    assert outcome(python(source, watched_environment(run_dir))) == outcome(bare)
    (journal,) = read_journals(run_dir)
    assert [event.channel for event in journal.events if isinstance(event, ExceptionSeen)] == ["never_retrieved"]
    assert [event.kind for event in journal.events if isinstance(event, LoopBorn)][1:] == ["uvloop.Loop"]


def test_virtual_time_of_a_test_loop_passes_as_ever(run_dir: Path) -> None:
    source = """
import asyncio
class Virtual(asyncio.SelectorEventLoop):
    now = 0.0
    def time(self):
        return self.now
    def _run_once(self):
        if not self._ready and self._scheduled:
            self.now = self._scheduled[0].when()
        super()._run_once()
loop = Virtual()
loop.run_until_complete(asyncio.sleep(1000))
print(loop.time())
loop.close()
"""
    assert checked(python(source, watched_environment(run_dir))) == checked(python(source, bare_environment())) == "1000.0\n"
