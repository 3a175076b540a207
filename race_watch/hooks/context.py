"""What the hooks of a process share. One per process, made when race_watch arms, passed to every hook."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

from race_watch.hooks.counting import Counting
from race_watch.hooks.exceptions import Exceptions
from race_watch.hooks.recorder import Recorder
from race_watch.hooks.resources import Resources
from race_watch.hooks.rooms import Rooms
from race_watch.hooks.tasks import Tasks


class Reporting(threading.local):
    """What this thread is reporting.

    Attributes:
        on: It is inside a loop's exception handler: the `asyncio` record it logs is the same failure.
        record: A weak reference to the log record it has looked at last.
    """

    on = False
    record: weakref.ref[logging.LogRecord] | None = None


@dataclass
class Context:
    """Shared state of the hooks.

    Attributes:
        pid: Renewed after a fork.
        run_dir: Where the journal is.
        when_loop_born: Called, in the thread that made it, for each new event loop.
        when_forked: Called once in a fork's child; lets go of what is its parent's.
        end_stated_by: The process that has stated its end; a fork's child finds its parent's pid here.
        end_error: The exception type that multiprocessing has printed for this process, which ends of it.
    """

    recorder: Recorder
    exceptions: Exceptions
    rooms: Rooms
    tasks: Tasks
    resources: Resources
    counting: Counting
    reporting: Reporting = field(default_factory=Reporting)
    pid: int = field(default_factory=os.getpid)
    run_dir: str = ""
    when_loop_born: Callable[[], None] | None = None
    when_forked: Callable[[], None] | None = None
    end_stated_by: int = 0
    end_error: type[BaseException] | None = None


_armed: Context | None = None


def armed() -> Context | None:
    """The hooks of this process, if race_watch is armed."""
    return _armed


def set_armed(context: Context | None) -> None:
    global _armed
    _armed = context
