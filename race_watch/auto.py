"""Auto-install, wired: the host half, and a watcher thread where nobody else watches.

The thread lives in the worker's root process, as a daemon, and starts when `livekit` is imported and a loop has been made:
before that there is nothing to watch, and a thread makes every later `os.fork()` of the host warn (Python 3.12 on).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from race_watch import agent
from race_watch.journal import directory

if TYPE_CHECKING:
    from race_watch.service import WatcherThread

_thread: WatcherThread | None = None
# What stood in the environment before a root process told its children where to write.
_before: dict[str, str | None] = {}


def arm() -> None:
    """Arms this process and, in a root process, the start of its watcher. Idempotent."""
    armed = agent.arm()
    if armed.is_root and armed.journal is not None and not _before:
        for name, value in ((agent.RUN_DIR, armed.run_dir), (agent.WATCHER, "none")):
            _before[name] = os.environ.get(name)
            os.environ[name] = value
        armed.context.when_loop_born = _loop_born
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


def _remove_own(armed: agent.Agent) -> None:
    """Removes the journal of this process, if no watcher has, and the directory if it was made for this worker."""
    if armed.path:
        with contextlib.suppress(OSError):
            os.unlink(armed.path)
    if not armed.settings.run_dir:
        directory.remove(armed.run_dir)


def _loop_born() -> None:
    global _thread
    current = agent.current()
    if _thread is not None or current is None or not current.is_root or "livekit.rtc" not in sys.modules:
        return
    from race_watch.service import WatcherThread

    _thread = WatcherThread(current.run_dir, current.settings, current.problems, summary=False)
    _thread.start()
