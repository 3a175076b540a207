"""Auto-install, wired: the host half, and a watcher thread where nobody else watches.

The thread lives in the worker's root process, as a daemon, and starts when `livekit` is imported and a loop has been made:
before that there is nothing to watch, and a thread makes every later `os.fork()` of the host warn (Python 3.12 on).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from race_watch import agent

if TYPE_CHECKING:
    from race_watch.service import WatcherThread

_thread: WatcherThread | None = None


def arm() -> None:
    """Arms this process and, in a root process, the start of its watcher. Idempotent."""
    armed = agent.arm()
    if armed.is_root and armed.journal is not None and os.environ.get(agent.WATCHER) != "none":
        # Children find the directory and know that it is watched.
        os.environ[agent.RUN_DIR] = armed.run_dir
        os.environ[agent.WATCHER] = "none"
        armed.context.when_loop_born = _loop_born


def install() -> Callable[[], list[str]]:
    """See `race_watch.install`."""
    arm()
    return _undo


def _undo() -> list[str]:
    global _thread
    armed = agent.current()
    left = agent.disarm()
    if _thread is not None:
        _thread.stop()
        _thread = None
    if armed is not None and armed.context.when_loop_born is not None:
        for name in (agent.RUN_DIR, agent.WATCHER):
            os.environ.pop(name, None)
    return left


def _loop_born() -> None:
    global _thread
    current = agent.current()
    if _thread is not None or current is None or not current.is_root or "livekit.rtc" not in sys.modules:
        return
    from race_watch.service import WatcherThread

    _thread = WatcherThread(current.run_dir, current.settings, current.problems)
    _thread.start()
