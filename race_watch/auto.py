"""Auto-install, wired: the host half, and a watcher thread where nobody else watches.

The thread lives in the worker's root process, as a daemon, and starts when `livekit` is imported and a loop has been made:
before that there is nothing to watch, and a thread makes every later `os.fork()` of the host warn (Python 3.12 on).
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from race_watch import agent, post_import
from race_watch.journal import directory

if TYPE_CHECKING:
    from race_watch.service import WatcherThread

_WATCHER_NEEDS = ("click", "packaging", "prometheus_client")

_thread: WatcherThread | None = None
_loop_seen = False
# What stood in the environment before a root process told its children where to write.
_before: dict[str, str | None] = {}


def arm() -> None:
    """Arms this process and, in a root process, the start of its watcher. Idempotent."""
    armed = agent.arm()
    if armed.journal is None:
        # No watcher will say so: where LiveKit is at work, this process does.
        post_import.finder().when_imported("livekit.rtc", lambda _: _tell(armed))
    elif armed.is_root and not _before:
        for name, value in ((agent.RUN_DIR, armed.run_dir), (agent.WATCHER, "none")):
            _before[name] = os.environ.get(name)
            os.environ[name] = value
        armed.context.when_loop_born = _loop_born
        post_import.finder().when_imported("livekit.rtc", _start_watcher)
        # A courtesy where it runs: a process that ends otherwise leaves its directory to the next sweep.
        atexit.register(_undo)


def install() -> Callable[[], list[str]]:
    """See `race_watch.install`."""
    arm()
    return _undo


def _undo() -> list[str]:
    global _thread
    armed = agent.current()
    root = armed is not None and armed.is_root
    left = agent.disarm()
    if _thread is not None and root:
        _thread.stop()
    _thread = None
    if armed is not None and root:
        for name, value in _before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _remove_own(armed)
    _before.clear()
    atexit.unregister(_undo)
    return left


def _tell(armed: agent.Agent) -> None:
    from race_watch.service import warn

    for problem in armed.problems:
        warn(problem)
    armed.problems.clear()


def _remove_own(armed: agent.Agent) -> None:
    """Removes the journal of this process, if no watcher has, and the directory if it was made for this worker."""
    if armed.path:
        with contextlib.suppress(OSError):
            os.unlink(armed.path)
    if not armed.settings.run_dir:
        directory.remove(armed.run_dir)


def _loop_born() -> None:
    global _loop_seen
    _loop_seen = True
    _start_watcher()


def _start_watcher(_: object = None) -> None:
    """Starts it when both are there, a loop and `livekit`, whichever came last."""
    global _thread
    current = agent.current()
    if _thread is not None or current is None or not current.is_root or "livekit.rtc" not in sys.modules:
        return
    if not _loop_seen and asyncio._get_running_loop() is None:
        return
    from race_watch.service import WatcherThread, warn

    missing = [name for name in _WATCHER_NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        # A worker's own environment, into which only the bootstrap reaches: nobody would read the journals, so there are none.
        warn(f"not watching: {missing[0]} is not installed here; install race-watch here, or use `race-watch run` or `watch`")
        _undo()
        os.environ["RACE_WATCH"] = "0"
        return
    thread = WatcherThread(current.run_dir, current.settings, current.problems, in_worker=True)
    current.context.when_forked = thread.forked
    try:
        thread.start()
    except RuntimeError:
        # A subinterpreter, no more threads to be had, or the interpreter ends: the journal is there for `race-watch report`.
        return
    _thread = thread
