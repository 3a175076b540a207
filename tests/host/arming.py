"""race_watch armed inside a test's own process, and what the hooks have written so far."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import race_watch
from race_watch import agent
from race_watch.events import Event, ExceptionSeen, ExceptionSeenAgain, HookStruck
from race_watch.hooks.context import Context
from race_watch.journal.layout import SUFFIX
from race_watch.journal.reader import JournalReader

with suppress(ImportError):
    import uvloop  # noqa: F401 - its class is patched from here on, not in the middle of a test

E = TypeVar("E", bound=Event)

PATCHED = ("callHandlers", "create_task", "call_exception_handler", "close", "__init__")
SDK_FILE = "/app/site-packages/livekit/rtc/made_up.py"


class Armed:
    """The armed process. `strikes` is how many failures of our own the test provokes."""

    def __init__(self, context: Context, run_dir: Path) -> None:
        self.context = context
        self.strikes = 0
        self._run_dir = run_dir

    def events(self) -> list[Event]:
        """All facts so far, and nothing lost on the way."""
        reader = self._reader()
        try:
            found = [record.event for record in reader.read(final=True)]
            assert not reader.lost_torn + reader.lost_malformed
            return found
        finally:
            reader.close()

    def seen(self, kind: type[E]) -> list[E]:
        return [event for event in self.events() if isinstance(event, kind)]

    def one_exception(self) -> ExceptionSeen:
        """The only exception there was."""
        (seen,) = self.seen(ExceptionSeen)
        return seen

    def channels(self) -> list[str]:
        """The channels of all sightings, in order."""
        return [event.channel for event in self.events() if isinstance(event, (ExceptionSeen, ExceptionSeenAgain))]

    def counters(self) -> dict[str, int]:
        reader = self._reader()
        try:
            return reader.counters()
        finally:
            reader.close()

    def raw(self) -> bytes:
        """The journal as it lies on the disk."""
        (path,) = self._run_dir.glob(f"*{SUFFIX}")
        return path.read_bytes()

    def _reader(self) -> JournalReader:
        (path,) = self._run_dir.glob(f"*{SUFFIX}")
        return JournalReader(str(path))


@contextmanager
def arming(run_dir: Path, setenv: Callable[[str, str], None]) -> Iterator[Armed]:
    """Arms, and at the end asserts that every patched class is as before and that no hook failed but by intention."""
    setenv("RACE_WATCH_RUN_DIR", str(run_dir))
    setenv("RACE_WATCH_WATCHER", "none")
    # What earlier tests have left behind is not ours to report.
    gc.collect()
    before = patched()
    undo = race_watch.install()
    current = agent.current()
    assert current is not None
    armed = Armed(current.context, run_dir)
    try:
        assert patched() != before, "nothing was hooked"
        yield armed
        strikes = armed.seen(HookStruck)
    finally:
        left = undo()
    assert not left
    assert patched() == before
    assert len(strikes) == armed.strikes, strikes


def patched() -> dict[str, Any]:
    """What stands on the classes that the hooks patch."""
    owners: list[Any] = [logging.Logger, asyncio.BaseEventLoop]
    if "uvloop" in sys.modules:
        owners.append(sys.modules["uvloop"].Loop)
    return {f"{owner.__qualname__}.{name}": vars(owner).get(name) for owner in owners for name in PATCHED}


def sdk(source: str) -> dict[str, Any]:
    """The namespace of a module that counts as the SDK's: its tasks are watched."""
    namespace: dict[str, Any] = {"asyncio": asyncio, "__name__": "livekit.rtc.made_up"}
    exec(compile(source, SDK_FILE, "exec"), namespace)
    return namespace


def run(make_loop: Callable[[], asyncio.AbstractEventLoop], main: Callable[[], Any], *, debug: bool = False) -> Any:
    """`asyncio.run` on a loop of that make, on every Python."""
    loop = make_loop()
    try:
        asyncio.set_event_loop(loop)
        loop.set_debug(debug)
        return loop.run_until_complete(main())
    finally:
        asyncio.set_event_loop(None)
        loop.set_task_factory(None)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def in_thread(body: Callable[[], None]) -> None:
    """Runs `body` in a thread of its own, to its end."""
    thread = threading.Thread(target=body, name="some-other-thread")
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


@contextmanager
def no_collector() -> Iterator[None]:
    """What dies in here dies because nothing refers to it."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Lines(logging.Handler):
    """Keeps what was logged, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.records: list[logging.LogRecord] = []
        self.keep_records = False

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.name} {record.getMessage()}")
        if self.keep_records:
            self.records.append(record)


@contextmanager
def logged(name: str = "asyncio") -> Iterator[list[str]]:
    """The lines that a logger writes."""
    handler = Lines()
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
