"""How this process ends, as far as it can say so itself: a mark when the interpreter begins to end in order.

What has no mark was ended from outside or by native code. The mark is made by `atexit`, and in children of multiprocessing,
most of which run no `atexit` of ours, by a finalizer of `multiprocessing.util`. No hook of the host's is replaced: the
exception that ends the main thread stands in `sys.last_type` before `atexit` runs; the one that ends a child is being handled
while its finalizers run, and from Python 3.13 on has been printed by then, by `traceback.print_exc`.
Source: CPython 3.10 to 3.14 `Python/pylifecycle.c:Py_FinalizeEx`, `Python/pythonrun.c:_PyErr_PrintEx`,
`multiprocessing/process.py:BaseProcess._bootstrap`, `popen_fork.py:Popen._launch`.
"""

from __future__ import annotations

import atexit
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from race_watch.events import ProcessExiting, clean
from race_watch.guard import Guard
from race_watch.hooks.context import Context
from race_watch.hooks.patching import Patches
from race_watch.journal.writer import nothing

NAME = "process_end"
TARGET = "atexit"
ALSO = ("multiprocessing.util",)
SUPPORTED = "CPython 3.10 to 3.14"

_PROCESSES = "multiprocessing.process"
# Finalizers run from high to low, after the children were joined where the number is negative.
_LAST = -1_000_000
_NAME_KEPT = 80


def _at_exit(context: Context) -> None:
    # Set for what the interpreter has printed: not for SystemExit, which is an exit in order.
    _state(context, context.end_error or getattr(sys, "last_type", None))


def _in_child(context: Context) -> None:
    kind = context.end_error or sys.exc_info()[0]
    _state(context, None if kind is not None and issubclass(kind, SystemExit) else kind)


def _printed(context: Context) -> None:
    context.end_error = sys.exc_info()[0]


def _state(context: Context, kind: type[BaseException] | None) -> None:
    """Once in a process: a child that multiprocessing has spawned runs its finalizers and `atexit`."""
    if context.end_stated_by == context.pid:
        return
    context.end_stated_by = context.pid
    context.recorder.state(ProcessExiting, clean(kind.__name__)[:_NAME_KEPT] if kind is not None else "")


class _Children:
    """What a forked child finds in multiprocessing's registry, which holds it weakly.

    Attributes:
        mark: Runs as the last finalizer of a child; the finalizer, in a child.
    """

    def __init__(self, module: Any, mark: Callable[[], None]) -> None:
        self.module = module
        self.mark = mark
        self.finalizer: Any = None

    def follow(self) -> None:
        """In each child of multiprocessing, which has forgotten its parent's finalizers by then."""
        self.finalizer = self.module.Finalize(None, self.mark, exitpriority=_LAST)

    def leave(self) -> None:
        self.mark = nothing
        if self.finalizer is not None:
            self.finalizer.cancel()


def install(context: Context, module: Any, patches: Patches, guard: Guard) -> None:
    """Registers the mark with `atexit`, or with multiprocessing where that is imported."""
    if module is atexit:
        at_exit = guard.wrap(partial(_at_exit, context))
        atexit.register(at_exit)
        patches.on_undo(lambda: atexit.unregister(at_exit))
        return
    children = _Children(module, guard.wrap(partial(_in_child, context)))
    module.register_after_fork(children, _Children.follow)
    patches.on_undo(children.leave)
    if _parent() is not None:
        children.follow()
    printed = guard.wrap(partial(_printed, context))

    def wrap(original: Callable[..., None]) -> Callable[..., None]:
        def print_exc(*args: Any, **kwargs: Any) -> None:
            caller = sys._getframe(1)
            if caller.f_code.co_name == "_bootstrap" and caller.f_globals.get("__name__") == _PROCESSES:
                printed()
            original(*args, **kwargs)

        return print_exc

    patches.replace(traceback, "print_exc", wrap)


def _parent() -> Any:
    """The parent process, where this one is a child of multiprocessing; else None."""
    processes = sys.modules.get(_PROCESSES)
    return processes.parent_process() if processes is not None else None
