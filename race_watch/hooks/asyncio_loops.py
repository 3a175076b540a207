"""Loops: birth, close, and what reaches their exception handler.

Wraps `call_exception_handler` on the classes: `get_exception_handler()` stays None, a handler that the host sets, replaces or
removes later changes nothing, and no exception is marked as retrieved. The reports about lost tasks come from `__del__`, so
these bodies run inside the garbage collector, in any thread.
Source: CPython 3.10 to 3.14 `asyncio/base_events.py:BaseEventLoop`, the texts in `asyncio/futures.py:Future.__del__`,
`asyncio/tasks.py:Task.__del__` and `asyncio/events.py:Handle._run`; uvloop 0.17 to 0.23 `uvloop.Loop`.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from types import FunctionType
from typing import Any

from race_watch.events import LoopBorn, LoopClosed, TaskDestroyedPending, clean
from race_watch.guard import Guard
from race_watch.hooks.context import Context
from race_watch.hooks.exceptions import short_path, touches
from race_watch.hooks.patching import Patches
from race_watch.hooks.rooms import NO_TASK, Where
from race_watch.hooks.tasks import coroutine_name

NAME = "asyncio_loops"
TARGET = "asyncio.base_events"
ALSO = ("uvloop",)
SUPPORTED = "CPython 3.10 to 3.14, uvloop 0.17 on"

_NEVER_RETRIEVED = "exception was never retrieved"
_DESTROYED = "Task was destroyed but it is pending"
_CALLBACK = "Exception in callback"


def install(context: Context, module: Any, patches: Patches, guard: Guard) -> None:
    """Wraps the module's loop class: `BaseEventLoop`, or `uvloop.Loop`."""
    loop_class = getattr(module, "BaseEventLoop", None) or module.Loop
    report = guard.wrap(lambda details: _report(context, details))
    stated = guard.wrap(lambda event, loop: _state_loop(context, event, loop))
    reporting = context.reporting

    def wrap_report(original: Callable[..., Any]) -> Callable[..., Any]:
        def call_exception_handler(self: Any, context: dict[str, Any]) -> Any:
            report(context)
            outer, reporting.on = reporting.on, True
            try:
                return original(self, context)
            finally:
                reporting.on = outer

        if not isinstance(original, FunctionType):
            # uvloop logs from C: `logging` would find our frame and name it in the record. Frames of its own file it skips.
            filename = logging.addLevelName.__code__.co_filename
            call_exception_handler.__code__ = call_exception_handler.__code__.replace(co_filename=filename)
        return call_exception_handler

    def wrap_init(original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(self, *args, **kwargs)
            stated(LoopBorn, self)

        return __init__

    def wrap_close(original: Callable[..., Any]) -> Callable[..., Any]:
        def close(self: Any) -> Any:
            done = original(self)
            stated(LoopClosed, self)
            return done

        return close

    patches.replace(loop_class, "call_exception_handler", wrap_report)
    patches.replace(loop_class, "__init__", wrap_init)
    patches.replace(loop_class, "close", wrap_close)


def _report(context: Context, details: dict[str, Any]) -> None:
    message = details.get("message")
    if type(message) is not str:
        return
    task = details.get("task")
    if task is None:
        task = details.get("future")
    error = details.get("exception")
    if message.startswith(_DESTROYED) and task is not None:
        _destroyed(context, task)
    elif isinstance(error, BaseException):
        if _NEVER_RETRIEVED in message:
            channel = "never_retrieved"
        elif message.startswith(_CALLBACK):
            channel = "loop_callback"
        else:
            return
        if context.exceptions.suppressed(error):
            return
        room = context.tasks.room_of(task) if task is not None else 0
        # A failure in the SDK's code is of the only room there is; one of the host's code may be of none.
        where = Where(
            room=room or (context.rooms.only() if touches(error, context.tasks.sdk_files) else 0),
            task=context.tasks.describe(task) if task is not None else NO_TASK,
        )
        context.exceptions.see(error, channel, where)


def _destroyed(context: Context, task: Any) -> None:
    key, name, coro_name, site = context.tasks.describe(task, destroyed=True)
    awaits = ""
    # get_coro() is safe here: the task is pending, and only eagerly finished ones crash it (CPython 3.12.1, gh-122332).
    coro = task.get_coro()
    # The collector may have closed the coroutine already: then it has no frame, but still its code.
    frame = getattr(coro, "cr_frame", None)
    if frame is not None:
        awaits = f"{short_path(frame.f_code.co_filename)}:{frame.f_code.co_name}:{frame.f_lineno}"
    room = context.tasks.room_of(task, destroyed=True)
    context.recorder.state(TaskDestroyedPending, room, key, name, coro_name or coroutine_name(coro), site, awaits)


def _state_loop(context: Context, event: type[LoopBorn] | type[LoopClosed], loop: Any) -> None:
    kind = f"{type(loop).__module__}.{type(loop).__qualname__}"
    if event is LoopBorn:
        processes = sys.modules.get("multiprocessing.process")
        name = processes.current_process().name if processes is not None else "MainProcess"
        context.recorder.state(LoopBorn, kind, clean(name), clean(threading.current_thread().name))
        if context.when_loop_born is not None:
            context.when_loop_born()
    else:
        context.recorder.state(LoopClosed, kind)
