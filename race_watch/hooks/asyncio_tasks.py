"""Task birth: wraps `create_task` on the loop classes, so that the host sees no task factory and none of ours is replaced.

Source: CPython 3.10 to 3.14 `asyncio/base_events.py:BaseEventLoop.create_task` (keywords: name; name and context from 3.11;
anything from 3.13.3); uvloop 0.17 to 0.23 `uvloop.Loop.create_task`. Without a factory of its own a task keeps its name: on
3.13.0 to 3.13.2 the mere presence of one renames every task.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from race_watch.guard import Guard
from race_watch.hooks.context import Context, armed
from race_watch.hooks.patching import Patches

NAME = "asyncio_tasks"
TARGET = "asyncio.base_events"
ALSO = ("uvloop",)
SUPPORTED = "CPython 3.10 to 3.14, uvloop 0.17 on"


def install(context: Context, module: Any, patches: Patches, guard: Guard) -> None:
    """Wraps `create_task` of the module's loop class: `BaseEventLoop`, or `uvloop.Loop`."""
    loop_class = getattr(module, "BaseEventLoop", None) or module.Loop
    patches.replace(loop_class, "create_task", lambda original: _wrap(original, context, guard))


def _wrap(original: Callable[..., Any], context: Context, guard: Guard) -> Callable[..., Any]:
    born = guard.wrap_two(context.tasks.born)
    trim = guard.wrap(_trim_source)
    sdk_files, dispatch = context.tasks.sdk_files, context.rooms.dispatch
    dispatching = dispatch.now

    # One closure for each signature: `**kwargs` would cost every task of the host 130 ns more, and a function for the three
    # lines that repeat another 60 ns.
    keywords = _keywords(original)
    if keywords == {"name", "context"}:

        def create_task(self: Any, coro: Any, *, name: Any = None, context: Any = None) -> Any:
            task = original(self, coro, name=name, context=context)
            if type(coro) is CoroutineType and (sdk_files[coro.cr_code.co_filename] or (dispatching and dispatch.room)):
                born(task, coro)
            if self._debug:
                trim(task)
            return task

        return create_task
    if keywords == {"name"}:

        def create_task_named(self: Any, coro: Any, *, name: Any = None) -> Any:
            task = original(self, coro, name=name)
            if type(coro) is CoroutineType and (sdk_files[coro.cr_code.co_filename] or (dispatching and dispatch.room)):
                born(task, coro)
            if self._debug:
                trim(task)
            return task

        return create_task_named

    def create_task_open(self: Any, coro: Any, **kwargs: Any) -> Any:
        # Unpacking no keywords would cost 110 ns.
        task = original(self, coro, **kwargs) if kwargs else original(self, coro)
        if type(coro) is CoroutineType and (sdk_files[coro.cr_code.co_filename] or (dispatching and dispatch.room)):
            born(task, coro)
        if self.get_debug():
            trim(task)
        return task

    return create_task_open


def _keywords(function: Callable[..., Any]) -> set[str]:
    """The keyword-only parameters; {"**"} where anything is taken or nothing is known (C functions)."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {"**"}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return {"**"}
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


def _trim_source(task: Any) -> None:
    """In debug mode a task keeps the stack it was made on, and shows its last frame: ours must not be in it."""
    source = getattr(task, "_source_traceback", None)
    if source:
        source[:] = [frame for frame in source if frame.filename != _HERE]


_HERE = _trim_source.__code__.co_filename


def task_factory(inner: Callable[..., Any] | None = None) -> Callable[..., asyncio.Task[Any]]:
    """The same hook as a task factory, for hosts that want nothing patched behind their back.

    Args:
        inner: The factory to call; None makes a plain `asyncio.Task`.
    """
    guarded: tuple[Context | None, Callable[..., None]] = (None, _trim_source)

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        # Before 3.13.3 a factory got `context` at most and an inner one may take nothing: pass on what was really given.
        given = {key: value for key, value in kwargs.items() if value is not None}
        task = inner(loop, coro, **given) if inner is not None else asyncio.Task(coro, loop=loop, **given)
        context = armed()
        if context is not None and type(coro) is CoroutineType:
            tasks = context.tasks
            if tasks.sdk_files[coro.cr_code.co_filename] or context.rooms.dispatch.room:
                nonlocal guarded
                if guarded[0] is not context:
                    guarded = context, context.recorder.guard(NAME).wrap(tasks.born)
                guarded[1](task, coro)
        if loop.get_debug():
            _trim_source(task)
        return task

    return factory
