"""race_watch: detects lifecycle races in production LiveKit Python workers and names them.

Importing it does nothing. This module runs at interpreter start under auto-install, so it imports nothing either.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any

__version__ = "0.1.0"
__all__ = ["Incident", "RaceHandler", "install", "task_factory"]


def install() -> Callable[[], list[str]]:
    """Arms race_watch in this process, as auto-install does. Idempotent; settings are read from `RACE_WATCH_*` now.

    In a process that nobody watches yet, a daemon thread reads the journals once a loop runs and `livekit` is imported.

    Returns:
        The undo: a function without arguments that takes every hook out again and returns the names of those that somebody
        else has wrapped since (they stay, doing nothing).
    """
    from race_watch import auto

    return auto.install()


def task_factory(inner: Callable[..., Any] | None = None) -> Callable[..., asyncio.Task[Any]]:
    """The task-birth hook as an explicit asyncio task factory: `loop.set_task_factory(race_watch.task_factory())`.

    It records what the armed process records; before `install()` it only makes tasks.

    Args:
        inner: The factory that makes the tasks, with any signature CPython has had; None makes plain `asyncio.Task`s.
    """
    from race_watch.hooks.asyncio_tasks import task_factory as factory

    return factory(inner)


def __getattr__(name: str) -> Any:
    if name == "RaceHandler":
        from race_watch.hooks.log_records import RaceHandler

        return RaceHandler
    if name == "Incident":
        from race_watch.incidents import Incident

        return Incident
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
