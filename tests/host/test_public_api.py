"""What `import race_watch` offers: nothing happens on import, `install()` is idempotent and its undo complete."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from interpreters import PACKAGE, bare_environment, checked, fake_livekit, python, read_journals, watched_environment

import race_watch
from race_watch import agent
from race_watch.events import Disarmed, ExceptionSeen, HookInstalled, LoopBorn
from race_watch.hooks import HOOKS


@pytest.fixture
def private(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This process, to be armed with a run directory of its own and read by the test."""
    monkeypatch.setenv("RACE_WATCH_RUN_DIR", str(run_dir))
    monkeypatch.setenv("RACE_WATCH_WATCHER", "none")
    assert agent.current() is None
    yield run_dir
    agent.disarm()


def test_every_public_name_is_there_and_documented() -> None:
    for name in race_watch.__all__:
        assert getattr(race_watch, name).__doc__
    assert race_watch.__all__ == sorted(race_watch.__all__)
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        race_watch.no_such_name  # noqa: B018


def test_import_does_nothing() -> None:
    show = """
import sys
before = set(sys.modules)
import race_watch
print(sorted(set(sys.modules) - before))
print([type(finder).__name__ for finder in sys.meta_path if "race_watch" in type(finder).__module__])
"""
    told = checked(python(show, bare_environment(PYTHONPATH=str(PACKAGE.parent))))
    assert set(json.loads(told.splitlines()[0].replace("'", '"'))) <= {"__future__", "race_watch"}
    assert told.splitlines()[1] == "[]"


def test_undo_restores_every_attribute_and_the_journal_tells_of_it(private: Path) -> None:
    watched = [
        (asyncio.BaseEventLoop, "create_task"),
        (asyncio.BaseEventLoop, "call_exception_handler"),
        (asyncio.BaseEventLoop, "__init__"),
        (asyncio.BaseEventLoop, "close"),
        (logging.Logger, "callHandlers"),
    ]
    before, finders = [vars(owner)[name] for owner, name in watched], list(sys.meta_path)
    undo = race_watch.install()
    assert [vars(owner)[name] is not original for (owner, name), original in zip(watched, before, strict=True)] == [True] * 5
    assert undo() == []
    assert [vars(owner)[name] for owner, name in watched] == before
    assert sys.meta_path == finders
    [journal] = read_journals(private)
    assert journal.count(Disarmed) == 1
    assert not journal.alive
    assert undo() == []


def test_installed_twice_there_is_one_layer_and_one_event_for_one_failure(private: Path) -> None:
    first, second = race_watch.install(), race_watch.install()
    layer = asyncio.BaseEventLoop.create_task
    assert not hasattr(layer.__wrapped__, "__wrapped__")  # type: ignore[attr-defined]

    async def fail() -> None:
        raise ValueError("once")

    async def main() -> None:
        task = asyncio.ensure_future(fail())
        await asyncio.wait([task])
        asyncio.get_running_loop().call_exception_handler(
            {"message": "Task exception was never retrieved", "exception": task.exception(), "task": task}
        )

    asyncio.run(main())
    assert first() == []
    assert second() == []
    [journal] = read_journals(private)
    assert journal.count(ExceptionSeen) == 1
    assert journal.count(LoopBorn) == 1
    installed = Counter(event.hook for event in journal.events if isinstance(event, HookInstalled))
    for hook in HOOKS:
        targets = (hook.TARGET, *getattr(hook, "ALSO", ()))
        assert installed[hook.NAME] <= sum(target in sys.modules for target in targets), "once in each module"
    assert installed["log_records"] == 1


def test_wrap_of_somebody_else_survives_the_undo_and_is_named(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.Logger, "callHandlers", logging.Logger.callHandlers)
    undo = race_watch.install()
    ours, seen = logging.Logger.callHandlers, []

    def theirs(self: logging.Logger, record: logging.LogRecord) -> None:
        seen.append(record.getMessage())
        ours(self, record)

    logging.Logger.callHandlers = theirs  # type: ignore[method-assign]
    assert undo() == ["Logger.callHandlers"]
    logging.getLogger("livekit").error("after the undo")
    assert seen == ["after the undo"]
    assert logging.Logger.callHandlers is theirs


def test_undone_and_installed_again_a_new_journal_begins(private: Path) -> None:
    for _ in range(2):
        undo = race_watch.install()
        asyncio.new_event_loop().close()
        assert undo() == []
    journals = read_journals(private)
    assert [journal.count(LoopBorn) for journal in journals] == [1, 1]
    assert len({journal.process.nonce for journal in journals}) == 2


_BY_TWO_ROUTES = """
import asyncio, os, sys
make = asyncio.BaseEventLoop.__init__
make = getattr(make, "__wrapped__", make)
import race_watch
undo = race_watch.install()
asyncio.new_event_loop().close()
layers = 0
wrapped = asyncio.BaseEventLoop.__init__
while hasattr(wrapped, "__wrapped__"):
    layers, wrapped = layers + 1, wrapped.__wrapped__
print("layers", layers)
print("left", undo())
print("restored", asyncio.BaseEventLoop.__init__ is make)
asyncio.new_event_loop().close()
from race_watch import agent
print("armed again", agent.current() is not None)
"""


def test_bootstrap_and_explicit_install_make_one_layer_that_one_undo_takes_off(run_dir: Path) -> None:
    told = checked(python(_BY_TWO_ROUTES, watched_environment(run_dir)))
    assert told.splitlines() == ["layers 1", "left []", "restored True", "armed again False"]
    [journal] = read_journals(run_dir)
    assert journal.count(LoopBorn) == 1


def test_undone_under_the_wrap_of_somebody_else_it_does_not_arm_again(run_dir: Path) -> None:
    host = """
import asyncio
trap = asyncio.BaseEventLoop.__init__
def theirs(self):
    trap(self)
asyncio.BaseEventLoop.__init__ = theirs
asyncio.new_event_loop().close()
from race_watch import agent
print(agent.current() is not None, asyncio.BaseEventLoop.__init__.__wrapped__ is theirs)
agent.disarm()
asyncio.new_event_loop().close()
print(agent.current() is not None, asyncio.BaseEventLoop.__init__ is theirs)
"""
    assert checked(python(host, watched_environment(run_dir))) == "True True\nFalse True\n"


@pytest.mark.parametrize("given", ["nothing", "a directory", "a directory and auto"])
def test_root_process_restores_the_environment_it_changed(tmp_path: Path, given: str) -> None:
    place = tmp_path / "given"
    variables = {
        "nothing": {},
        "a directory": {"RACE_WATCH_RUN_DIR": str(place)},
        "a directory and auto": {"RACE_WATCH_RUN_DIR": str(place), "RACE_WATCH_WATCHER": "auto"},
    }[given]
    host = """
import os, race_watch
def show():
    return {name: value for name, value in os.environ.items() if name.startswith("RACE_WATCH")}
before = show()
undo = race_watch.install()
during = show()
again = race_watch.install()
print(during["RACE_WATCH_WATCHER"], os.path.isdir(during["RACE_WATCH_RUN_DIR"]), show() == during)
undo()
again()
print(show() == before, os.path.exists(during["RACE_WATCH_RUN_DIR"]))
"""
    environment = bare_environment(PYTHONPATH=str(PACKAGE.parent), XDG_RUNTIME_DIR=str(tmp_path), **variables)
    assert checked(python(host, environment)) == f"none True True\nTrue {given != 'nothing'}\n"
    assert [path for path in tmp_path.iterdir() if path != place] == []


@pytest.mark.parametrize("order", ["livekit, then a loop", "a loop, then livekit"])
def test_root_process_starts_its_watcher_when_both_are_there(tmp_path: Path, order: str) -> None:
    fake = fake_livekit(tmp_path / "fake")
    steps = {
        "livekit, then a loop": "import livekit.rtc; show(); asyncio.run(main())",
        "a loop, then livekit": "asyncio.run(main()); show(); import livekit.rtc",
    }[order]
    host = f"""
import asyncio, threading
async def main():
    pass
def show():
    print(sorted(thread.name for thread in threading.enumerate()))
{steps}
show()
"""
    environment = watched_environment(
        tmp_path / "run", after=[fake], RACE_WATCH_WATCHER="auto", RACE_WATCH_QUIET="1", RACE_WATCH_METRICS_PORT="0"
    )
    told = checked(python(host, environment, flags=["-W", "ignore"]))
    assert told == "['MainThread']\n['MainThread', 'race_watch-watcher']\n"


def test_handler_is_importable_and_attachable_before_anything_is_armed() -> None:
    from race_watch import RaceHandler

    handler = RaceHandler()
    logger = logging.Logger("livekit")
    logger.addHandler(handler)
    logger.error("nobody is armed")
    assert isinstance(handler, logging.Handler)
    assert handler.lock is None


def test_task_factory_makes_tasks_before_anything_is_armed_and_with_any_inner_factory() -> None:
    def inner(loop: asyncio.AbstractEventLoop, coro: object, **kwargs: object) -> asyncio.Task[int]:
        made.append(coro)
        return asyncio.Task(coro, loop=loop)  # type: ignore[arg-type]

    made: list[object] = []

    async def value() -> int:
        return 5

    async def main() -> int:
        return await asyncio.create_task(value()) + await asyncio.create_task(value(), name="named")

    for factory, count in ((race_watch.task_factory(), 0), (race_watch.task_factory(inner), 2)):
        loop = asyncio.new_event_loop()
        loop.set_task_factory(factory)
        made.clear()
        assert loop.run_until_complete(main()) == 10
        assert len(made) >= count
        loop.close()
