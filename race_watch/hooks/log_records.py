"""Log records of WARNING and up that speak of the SDK's failures, and those about exceptions that another hook saw first.

Fed by a wrap of `Logger.callHandlers`, after the host's own handlers: the root logger keeps its handlers (none, for a host
that relies on `basicConfig` or `lastResort`), and no reconfiguration removes us. Records are never changed nor formatted.
Source: `livekit/rtc/room.py:_listen_task`, `event_emitter.py:emit`, `_utils.py:task_done_logger`,
`_ffi_client.py:ffi_event_callback` (livekit 0.18 to 1.2.0).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import ref

from race_watch.events import FfiErrorLogged, clean
from race_watch.guard import Guard
from race_watch.hooks.children import AGENTS_LOGGER, agents_said
from race_watch.hooks.context import Context, armed
from race_watch.hooks.exceptions import MARK, attributes
from race_watch.hooks.patching import Patches
from race_watch.hooks.rooms import NO_TASK, Where
from race_watch.journal import layout

NAME = "log_records"
TARGET = "logging"
SUPPORTED = "CPython 3.10 to 3.14"

_ROOM_TEMPLATE = "error running user callback for %s: %s"
_EMIT_START = "failed to emit event "
_TASK_TEMPLATE = "task exception: %s"
_FFI_TEMPLATE = "%s:%s:%s - %s"
# The kind stands at the start and the reason at the end; between them is the request, with up to 64 KB of metadata.
_FFI_REQUEST = re.compile(r"failed to handle request FfiRequest \{ message: (?:Some\((\w+)|None)")
_FFI_REASON = re.compile(r"\}: (?!.*\}: )(.+)$", re.DOTALL)
_FFI_REASON_CHARS = 300
# Names that need no scrubbing, which takes 4 us.
_PLAIN_LOGGERS = frozenset(("root", "livekit", "livekit.agents", "asyncio"))
_OF_INTEREST = ("livekit", "asyncio")
_TEXT_KEPT = 100


class RaceHandler(logging.Handler):
    """States what a record says about a race. Attachable by hand to any logger; seeing a record twice does no harm.

    Takes no lock (`createLock` leaves None, as NullHandler does): records come from native threads, finalizers and signal
    handlers, where waiting for a lock can be the end of the host. Its own errors are counted and switch it off at the third.

    Args:
        context: The armed hooks; None takes those of this process, armed at any later time.
        level: Lowest level that is looked at.
    """

    def __init__(self, context: Context | None = None, level: int = logging.WARNING) -> None:
        super().__init__(level)
        self._context = context
        self._look = Guard(NAME, _struck).wrap(_look)

    def createLock(self) -> None:  # noqa: N802 - logging's name
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Without the lock of `Handler.handle`; filters added by hand are respected."""
        passed = bool(self.filter(record))
        if passed and record.levelno >= self.level:
            self.emit(record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        context = self._context or armed()
        if context is not None:
            self._look(context, record)


def _struck(hook: str, error: str, off: bool) -> None:
    context = armed()
    if context is not None:
        context.recorder.struck(hook, error, off)


def install(context: Context, module: Any, patches: Patches, guard: Guard) -> None:
    """Wraps `Logger.callHandlers`. No handler is made: `logging` keeps a list of all there are, and the host may look at it."""
    look = guard.wrap(partial(_look, context))

    def wrap(original: Callable[..., None]) -> Callable[..., None]:
        def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:  # noqa: N802
            original(self, record)
            if record.levelno >= 30:
                look(record)

        # Who looks for the caller of `logging` goes up the stack by file name: `Handler.handleError`, and the handler from
        # loguru's manual that takes over `logging`. A frame of another file would be taken for the caller.
        line = getattr(original, "__code__", callHandlers.__code__).co_firstlineno
        callHandlers.__code__ = callHandlers.__code__.replace(co_filename=module.__file__, co_firstlineno=line)
        return callHandlers

    patches.replace(module.Logger, "callHandlers", wrap)


def _look(context: Context, record: logging.LogRecord) -> None:
    # A livekit job's records come again in its parent, formatted and with the job's pid; the job has stated them. The host may
    # have switched the pid off (`logging.logProcesses`).
    if record.process is not None and record.process != context.pid:
        return
    # Both can be any object of the host's: they are compared only when they are plain strings.
    template = record.msg if type(record.msg) is str else ""
    name = record.name if type(record.name) is str else ""
    of_interest = name.startswith(_OF_INTEREST) or template == _ROOM_TEMPLATE
    if not of_interest and record.exc_info is None:
        return
    reporting = context.reporting
    if reporting.record is not None and reporting.record() is record:
        return
    reporting.record = ref(record)
    if not (reporting.on and name == "asyncio"):
        _state(context, record, template, of_interest)


def _state(context: Context, record: logging.LogRecord, template: str, of_interest: bool) -> None:
    error = record.exc_info[1] if type(record.exc_info) is tuple and len(record.exc_info) == 3 else None
    if isinstance(error, BaseException):
        if (of_interest or MARK in attributes(error)) and not context.exceptions.suppressed(error):
            _state_exception(context, record, error, template)
    elif record.name == AGENTS_LOGGER:
        agents_said(context, record, template)
    elif template == _FFI_TEMPLATE and of_interest and type(record.args) is tuple and len(record.args) == 4:
        _state_native(context, record.args[3])
    if of_interest:
        context.recorder.count(layout.COUNTER_INDEX["log_records"])


def _state_native(context: Context, text: Any) -> None:
    request = _FFI_REQUEST.match(text) if type(text) is str else None
    reason = _FFI_REASON.search(text[-_FFI_REASON_CHARS:]) if request is not None else None
    if request is not None and reason is not None:
        context.recorder.state(FfiErrorLogged, request[1] or "", context.recorder.scrub(clean(reason[1])))


def _state_exception(context: Context, record: logging.LogRecord, error: BaseException, template: str) -> None:
    args = record.args if type(record.args) is tuple else ()
    dispatch = context.rooms.dispatch
    channel, task, event, room = "log", NO_TASK, dispatch.event, dispatch.room
    if template == _ROOM_TEMPLATE:
        channel = "log_room"
        event = args[0] if args and type(args[0]) is str else event
    elif template.startswith(_EMIT_START) and record.name == "livekit":
        channel, event = "log_emit", context.recorder.scrub(template[len(_EMIT_START) :][:_TEXT_KEPT])
    elif template == _TASK_TEMPLATE and args:
        channel, task = "log_task", context.tasks.describe(args[0])
        room = room or context.tasks.room_of(args[0])
    # An f-string puts values into `msg`: only the SDK's own literals are kept as templates.
    known = template if channel in ("log_room", "log_task") else ""
    logger = record.name if record.name in _PLAIN_LOGGERS else context.recorder.scrub(clean(record.name[:_TEXT_KEPT]))
    where = Where(room=room, event=clean(event), task=task, logger=logger, template=known)
    if dispatch.room:
        where = where._replace(identity=dispatch.identity, track_sid=dispatch.sid)
    context.exceptions.see(error, channel, where)
