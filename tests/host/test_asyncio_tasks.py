"""Task births: seen for the SDK's tasks and those of room callbacks; no task of the host's looks or behaves otherwise."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import re
import sys
import types
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from arming import SDK_FILE, Armed, arming, in_thread, no_collector, run, sdk
from interpreters import bare_environment, outcome, python, watched_environment

import race_watch
from race_watch.events import ExceptionSeen, HookStruck, TaskDestroyedPending
from race_watch.hooks import asyncio_tasks, tasks
from race_watch.hooks.patching import Patches

MakeLoop = Callable[[], asyncio.AbstractEventLoop]

LOSES_ONE = """
async def failing():
    raise ValueError("lost in the SDK")

async def waiting():
    await asyncio.get_running_loop().create_future()
"""


def numberless(text: str) -> str:
    """Without what differs from run to run: addresses and the running number of unnamed tasks."""
    return re.sub(r"0x[0-9a-f]+", "0x", re.sub(r"Task-\d+", "Task-N", text))


async def pause() -> str:
    await asyncio.sleep(0)
    return "done"


async def looks(task: asyncio.Future[Any], coro: Any) -> list[Any]:
    """All that a host can ask a task for."""
    assert isinstance(task, asyncio.Task)
    asked = [
        type(task).__name__,
        numberless(task.get_name()),
        task.get_coro() is coro,
        getattr(task.get_coro(), "__qualname__", ""),
        numberless(repr(task)),
        [frame.f_code.co_name for frame in task.get_stack()],
        len(asyncio.all_tasks()),
    ]
    return [*asked, await task, numberless(repr(task))]


async def every_way_to_make_one() -> list[Any]:
    loop = asyncio.get_running_loop()
    seen: list[Any] = []

    async def made(make: Callable[[Any], Any]) -> None:
        coro = pause()
        seen.append(await looks(make(coro), coro))

    await made(loop.create_task)
    await made(lambda coro: loop.create_task(coro, name="mine"))
    await made(asyncio.create_task)
    await made(lambda coro: asyncio.create_task(coro, name="mine"))
    await made(asyncio.ensure_future)
    await made(lambda coro: asyncio.Task(coro, loop=loop))
    if sys.version_info >= (3, 11):
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outer")
        context = contextvars.copy_context()
        context.run(variable.set, "inner")

        async def reads() -> str:
            return variable.get()

        seen.append(await loop.create_task(reads(), context=context))
        seen.append(await asyncio.create_task(reads(), name="n", context=context))
        async with asyncio.TaskGroup() as group:
            seen.append(numberless(group.create_task(pause()).get_name()))
            seen.append(group.create_task(pause(), name="grouped").get_name())
    seen.append(numberless(asyncio.current_task().get_name()))  # type: ignore[union-attr]
    return seen


def wrong_ways() -> list[str]:
    """What `create_task` says to those who use it wrongly."""
    said = []

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        for arguments, keywords in (((), {}), ((None,), {}), ((7,), {}), ((None, "name"), {}), ((None,), {"colour": 1})):
            try:
                loop.create_task(*arguments, **keywords)  # noqa: RUF006
            except TypeError as error:
                said.append(str(error))

    run(asyncio.new_event_loop, main)
    return said


def test_tasks_look_the_same_with_and_without_us(run_dir: Path, monkeypatch: pytest.MonkeyPatch, new_loop: MakeLoop) -> None:
    bare = run(new_loop, every_way_to_make_one), wrong_ways()
    with arming(run_dir, monkeypatch.setenv):
        watched = run(new_loop, every_way_to_make_one), wrong_ways()
    assert len(bare[0]) > 5
    assert watched == bare


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner came with 3.11")
def test_runner_names_its_task_as_ever(armed: Armed, new_loop: MakeLoop) -> None:
    async def name() -> str:
        return asyncio.current_task().get_name()  # type: ignore[union-attr]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert re.fullmatch(r"Task-\d+", runner.run(name()))


def two(loop: Any, coro: Any) -> Any:
    return asyncio.Task(coro, loop=loop)


def any_keyword(loop: Any, coro: Any, **kwargs: Any) -> Any:
    return asyncio.Task(coro, loop=loop, **{key: value for key, value in kwargs.items() if value is not None})


def no_task(loop: Any, coro: Any, **kwargs: Any) -> Any:
    coro.close()
    future = loop.create_future()
    future.set_result("not a task")
    future.set_name = lambda name: None
    return future


FACTORIES: dict[str, Any] = {"none": None, "two arguments": two, "any keyword": any_keyword, "no task": no_task}
if sys.version_info >= (3, 12):
    FACTORIES["eager"] = asyncio.eager_task_factory


@pytest.mark.parametrize("factory", FACTORIES)
def test_factories_of_the_host_get_what_they_got(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, new_loop: MakeLoop, factory: str
) -> None:
    pause_in_sdk = sdk("async def pause():\n    await asyncio.sleep(0)\n    return 'done'")["pause"]
    calls: list[Any] = []

    def recording(loop: Any, coro: Any, **kwargs: Any) -> Any:
        calls.append(sorted(kwargs))
        return FACTORIES[factory](loop, coro, **kwargs)

    async def main() -> list[Any]:
        loop: Any = asyncio.get_running_loop()
        if FACTORIES[factory] is not None:
            loop.set_task_factory(FACTORIES[factory] if factory == "two arguments" else recording)
        got: list[Any] = [loop.get_task_factory() is None]
        keywords: list[dict[str, Any]] = [{}, {"name": "mine"}]
        if sys.version_info >= (3, 11):
            keywords.append({"context": contextvars.copy_context()})
        for make in (pause, pause_in_sdk):
            for keyword in keywords:
                coro = make()
                try:
                    task = loop.create_task(coro, **keyword)
                    name = numberless(task.get_name()) if isinstance(task, asyncio.Task) else ""
                    got.append((type(task).__name__, name, await task))
                except (TypeError, AttributeError, AssertionError) as error:
                    # uvloop gives `context` to each, and 3.13.0 cannot make an eager task there: with us or without.
                    coro.close()
                    got.append(str(error))
        return got

    bare = run(new_loop, main), list(calls)
    calls.clear()
    with arming(run_dir, monkeypatch.setenv):
        watched = run(new_loop, main), list(calls)
    assert watched == bare


def test_watched_task_is_known_by_name_coroutine_and_line(armed: Armed, new_loop: MakeLoop) -> None:
    failing = sdk(LOSES_ONE)["failing"]

    async def main() -> None:
        task = asyncio.create_task(failing(), name="named as it was made")
        await asyncio.wait([task])

    run(new_loop, main)
    gc.collect()
    seen = armed.one_exception()
    line = main.__code__.co_firstlineno + 1
    assert (seen.channel, seen.task_name) == ("never_retrieved", "named as it was made")
    assert seen.task_coro == "livekit/rtc/made_up.py:failing"
    assert seen.task_created_at == f"tests/host/test_asyncio_tasks.py:main:{line}"
    assert re.fullmatch(r"t\d+", seen.task)


def test_tasks_of_the_host_are_watched_in_room_callbacks_only(armed: Armed, new_loop: MakeLoop) -> None:
    async def main() -> None:
        await asyncio.create_task(pause())
        assert armed.counters()["tasks_watched"] == 0
        armed.context.rooms.dispatch.room = 3
        task = asyncio.create_task(pause())
        armed.context.rooms.dispatch.room = 0
        assert armed.context.tasks.room_of(task) == 3
        await task

    run(new_loop, main)
    assert armed.counters()["tasks_watched"] == 1


def test_task_cancelled_before_it_starts_warns_of_nothing(armed: Armed, new_loop: MakeLoop) -> None:
    waiting = sdk(LOSES_ONE)["waiting"]

    async def main() -> None:
        for make in (pause, waiting):
            task = asyncio.create_task(make())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(new_loop, main)
        gc.collect()
    assert not caught
    assert not armed.seen(ExceptionSeen)


def test_storm_of_cancellations_is_no_fact(armed: Armed, new_loop: MakeLoop) -> None:
    waiting = sdk(LOSES_ONE)["waiting"]

    async def main() -> None:
        tasks = [asyncio.create_task(waiting()) for _ in range(1000)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(new_loop, main)
    gc.collect()
    assert armed.counters()["tasks_watched"] == 1000
    assert not armed.channels()
    assert not armed.seen(TaskDestroyedPending)


def test_loop_has_no_task_and_no_timer_of_ours(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = sdk(LOSES_ONE)["waiting"]

    async def main() -> tuple[int, int, int]:
        loop: Any = asyncio.get_running_loop()
        task = asyncio.create_task(waiting())
        counts = len(asyncio.all_tasks()), len(loop._scheduled), len(loop._ready)
        task.cancel()
        return counts

    bare = run(asyncio.new_event_loop, main)
    with arming(run_dir, monkeypatch.setenv):
        assert run(asyncio.new_event_loop, main) == bare


def test_debug_mode_shows_where_the_host_made_it(run_dir: Path, monkeypatch: pytest.MonkeyPatch, new_loop: MakeLoop) -> None:
    pause_in_sdk = sdk("async def pause():\n    await asyncio.sleep(0)")["pause"]

    async def main() -> list[Any]:
        stacks = []
        for make in (asyncio.create_task, asyncio.get_running_loop().create_task):
            for coro in (pause(), pause_in_sdk()):
                task: Any = make(coro)
                stacks.append([(frame.filename, frame.name) for frame in task._source_traceback])
                assert f"created at {frame_of(task)}" in repr(task)
                await task
        return stacks

    def frame_of(task: Any) -> str:
        return f"{task._source_traceback[-1].filename}:{task._source_traceback[-1].lineno}"

    bare = run(new_loop, main, debug=True)
    with arming(run_dir, monkeypatch.setenv):
        watched = run(new_loop, main, debug=True)
    assert watched == bare
    assert bare[2][-1] == (__file__, "main")


def test_frame_locals_die_with_the_lost_task(armed: Armed, new_loop: MakeLoop) -> None:
    class Local:
        pass

    async def failing(alive: list[Any]) -> None:
        local = Local()
        alive.append(weakref.ref(local))
        raise ValueError("lost")

    async def main() -> None:
        # pytest keeps log records, and so exceptions.
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        armed.context.rooms.dispatch.room = 1
        alive: list[Any] = []
        for _ in range(50):
            task = asyncio.create_task(failing(alive))
            await asyncio.wait([task])
            reference = weakref.ref(task)
            del task
            assert reference() is None
        armed.context.rooms.dispatch.room = 0
        assert [local() for local in alive] == [None] * 50

    with no_collector():
        run(new_loop, main)
    assert len(armed.seen(ExceptionSeen)) == 30
    assert armed.counters()["exceptions_suppressed"] == 20


def test_finished_tasks_and_coroutines_are_not_kept(armed: Armed, new_loop: MakeLoop) -> None:
    pause_in_sdk = sdk("async def pause():\n    await asyncio.sleep(0)")["pause"]

    async def main() -> None:
        coro = pause_in_sdk()
        task = asyncio.create_task(coro)
        references = weakref.ref(coro), weakref.ref(task)
        await task
        await asyncio.sleep(0)
        del coro, task
        assert [reference() for reference in references] == [None, None]

    with no_collector():
        run(new_loop, main)
    assert armed.counters()["tasks_watched"] == 1


@pytest.mark.parametrize("inner", [name for name in FACTORIES if name != "no task"])
def test_explicit_factory_and_class_hook_see_one_birth(armed: Armed, inner: str) -> None:
    waiting = sdk(LOSES_ONE)["waiting"]

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        loop.set_task_factory(race_watch.task_factory(FACTORIES[inner]))
        keywords: dict[str, Any] = {}
        if inner != "two arguments" and sys.version_info >= (3, 11):
            keywords["context"] = contextvars.copy_context()
        tasks = [loop.create_task(waiting()), loop.create_task(waiting(), name="mine", **keywords)]
        assert tasks[1].get_name() == "mine"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(asyncio.new_event_loop, main)
    assert armed.counters()["tasks_watched"] == 2


def test_explicit_factory_only_makes_tasks_while_nothing_is_armed() -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(race_watch.task_factory())
        task: Any = loop.create_task(pause(), name="mine")
        assert await task == "done"
        return [(frame.filename, frame.name) for frame in task._source_traceback or ()]

    assert run(asyncio.new_event_loop, main) == []
    assert asyncio_tasks.__file__ not in [filename for filename, _ in run(asyncio.new_event_loop, main, debug=True)]


class OpenLoop:
    """A loop whose `create_task` takes anything, as CPython's does from 3.13.3 on."""

    def create_task(self, coro: Any, **kwargs: Any) -> dict[str, Any]:
        coro.close()
        return kwargs

    def get_debug(self) -> bool:
        return False


def test_keywords_of_a_later_python_are_passed_on(armed: Armed) -> None:
    patches = Patches()
    module = types.SimpleNamespace(Loop=OpenLoop)
    asyncio_tasks.install(armed.context, module, patches, armed.context.recorder.guard("asyncio_tasks"))
    try:
        loop = OpenLoop()
        given = {"name": None, "context": None, "eager_start": True, "colour": "red"}
        assert loop.create_task(pause(), **given) == given
        assert loop.create_task(sdk(LOSES_ONE)["waiting"](), **given) == given
        with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'coro'"):
            loop.create_task()  # type: ignore[call-arg]
    finally:
        assert not patches.undo()


@pytest.mark.parametrize("error", [ValueError, RecursionError, MemoryError])
def test_failures_of_ours_are_counted_and_end_the_hook(
    armed: Armed, monkeypatch: pytest.MonkeyPatch, new_loop: MakeLoop, error: type[Exception]
) -> None:
    pause_in_sdk = sdk("async def pause():\n    await asyncio.sleep(0)\n    return 'done'")["pause"]
    calls = []

    def broken() -> str:
        calls.append(1)
        raise error("ours")

    monkeypatch.setattr(tasks, "_site", broken)

    async def main() -> None:
        for _ in range(5):
            assert await asyncio.create_task(pause_in_sdk()) == "done"

    run(new_loop, main)
    armed.strikes = 3
    assert len(calls) == 3
    struck = [(event.hook, event.error, event.off) for event in armed.seen(HookStruck)]
    assert struck == [("asyncio_tasks", error.__name__, off) for off in (0, 0, 1)]
    assert armed.counters()["hook_errors"] == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError])
def test_interrupts_that_meet_us_belong_to_the_host(
    armed: Armed, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    pause_in_sdk = sdk("async def pause():\n    await asyncio.sleep(0)")["pause"]

    async def main() -> None:
        async def inner() -> None:
            def interrupted() -> str:
                raise error

            with monkeypatch.context() as patch:
                patch.setattr(tasks, "_site", interrupted)
                with pytest.raises(error):
                    asyncio.create_task(pause_in_sdk())  # noqa: RUF006

        await inner()

    run(asyncio.new_event_loop, main)


def in_a_cycle(coro: Any) -> None:
    """Makes the task of the coroutine garbage that only the collector finds. The loop keeps no hold on what never ran."""
    task: Any = asyncio.get_running_loop().create_task(coro)
    task.add_done_callback(lambda _: task)


async def until_started() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_task_destroyed_in_a_cycle_still_has_its_birth(armed: Armed, new_loop: MakeLoop) -> None:
    waiting = sdk(LOSES_ONE)["waiting"]

    async def main() -> None:
        in_a_cycle(waiting())
        await until_started()
        in_thread(gc.collect)

    with no_collector():
        run(new_loop, main)
    (destroyed,) = armed.seen(TaskDestroyedPending)
    assert destroyed.task
    assert destroyed.task_coro == "livekit/rtc/made_up.py:waiting"
    assert destroyed.task_created_at.startswith("tests/host/test_asyncio_tasks.py:in_a_cycle:")


@pytest.mark.parametrize("coroutine", ["the SDK's", "the host's"])
def test_task_at_the_address_of_a_dead_one_does_not_inherit_its_birth(armed: Armed, coroutine: str) -> None:
    async def host() -> None:
        await asyncio.get_running_loop().create_future()

    make = sdk(LOSES_ONE)["waiting"] if coroutine == "the SDK's" else host

    async def main() -> None:
        armed.context.rooms.dispatch.room = 1
        watched = asyncio.create_task(make())
        armed.context.rooms.dispatch.room = 0
        watched.cancel()
        await asyncio.wait([watched])
        await asyncio.sleep(0)
        del watched
        task = asyncio.create_task(host())
        # As the allocator does it, if it feels like it.
        births = armed.context.tasks._births
        births[id(task)] = births.pop(next(address for address, birth in births.items() if birth() is None))
        task.add_done_callback(lambda _, task=task: task)  # type: ignore[misc]
        await until_started()
        del task
        gc.collect()

    with no_collector():
        run(asyncio.new_event_loop, main)
    (destroyed,) = armed.seen(TaskDestroyedPending)
    assert (destroyed.room, destroyed.task, destroyed.task_created_at) == (0, "", "")


@pytest.mark.skipif((3, 12) <= sys.version_info < (3, 12, 2), reason="CPython 3.12.1 crashes here, without us too")
def test_collector_may_run_between_any_two_steps_of_ours(armed: Armed, new_loop: MakeLoop) -> None:
    namespace = sdk(LOSES_ONE)

    async def main() -> None:
        for _ in range(150):
            in_a_cycle(namespace["waiting"]())
            asyncio.create_task(namespace["failing"]())  # noqa: RUF006 - it is to be lost
            await asyncio.sleep(0)

    thresholds = gc.get_threshold()
    gc.set_threshold(1, 2, 2)
    try:
        run(new_loop, main)
        gc.collect()
    finally:
        gc.set_threshold(*thresholds)
    assert len(armed.seen(TaskDestroyedPending)) == 150
    counters = armed.counters()
    assert counters["exceptions_seen"] + counters["exceptions_suppressed"] == 150


@pytest.mark.one_python
def test_a_hundred_thousand_names_take_no_memory(armed: Armed) -> None:
    done = sdk("async def done():\n    pass")["done"]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for group in range(1000):
            for number in range(100):
                loop.create_task(done(), name=f"caller {group}-{number}")  # noqa: RUF006
            await asyncio.sleep(0)

    run(asyncio.new_event_loop, main)
    watched = armed.context.tasks
    assert armed.counters()["tasks_watched"] == 100_000
    assert len(watched._births) <= 512


def test_files_made_at_run_time_take_no_memory() -> None:
    files = tasks.SdkFiles()
    assert files[SDK_FILE]
    for number in range(10_000):
        assert not files[f"<cell {number}>"]
    assert len(files) <= 4096
    assert files[SDK_FILE]


ENDS_WITH_A_PENDING_TASK = """
import asyncio, sys
async def waiting():
    await asyncio.get_running_loop().create_future()
async def main():
    task = asyncio.get_running_loop().create_task(waiting())
    task.add_done_callback(lambda _: task)
    await asyncio.sleep(0)
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
if "close" in sys.argv:
    loop.close()
"""


@pytest.mark.parametrize("argument", ["close", "leave"])
def test_pending_task_at_exit_says_what_it_would_have_said(run_dir: Path, argument: str) -> None:
    bare = python(ENDS_WITH_A_PENDING_TASK, bare_environment(), arguments=[argument])
    watched = python(ENDS_WITH_A_PENDING_TASK, watched_environment(run_dir), arguments=[argument])
    assert [numberless(str(part)) for part in outcome(watched)] == [numberless(str(part)) for part in outcome(bare)]
    assert bare.returncode == 0
    assert list(run_dir.glob("*.rwj"))
