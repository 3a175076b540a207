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
from typing import Any

from race_watch.events import FfiErrorLogged, clean
from race_watch.guard import Guard
from race_watch.hooks.context import Context, armed
from race_watch.hooks.exceptions import MARK
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
_FFI_FAILED = re.compile(r"failed to handle request FfiRequest \{ message: Some\((\w+)\b.*?(\w+\(\"[^\"]*\"\))\s*$", re.DOTALL)
_OF_INTEREST = ("livekit", "asyncio")


class RaceHandler(logging.Handler):
    """States what a record says about a race. Attachable by hand to any logger; seeing a record twice does no harm.

    Takes no lock (`createLock` leaves None, as NullHandler does): records come from native threads, finalizers and signal
    handlers, where waiting for a lock can be the end of the host.

    Args:
        context: The armed hooks; None takes those of this process, armed at any later time.
        level: Lowest level that is looked at.
    """

    def __init__(self, context: Context | None = None, level: int = logging.WARNING) -> None:
        super().__init__(level)
        self._context = context
        self._last = (0.0, 0)

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
        # A livekit job's records come again in its parent, formatted and with the job's pid; the job has stated them.
        if context is None or record.process != context.pid or self._last == (record.created, id(record)):
            return
        self._last = (record.created, id(record))
        if not (context.reporting.on and record.name == "asyncio"):
            _state(context, record)


def install(context: Context, module: Any, patches: Patches, guard: Guard) -> None:
    """Feeds a `RaceHandler` from `Logger.callHandlers`."""
    handle = guard.wrap(RaceHandler(context).handle)

    def wrap(original: Callable[..., None]) -> Callable[..., None]:
        def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:  # noqa: N802
            original(self, record)
            if record.levelno >= 30:
                handle(record)

        return callHandlers

    patches.replace(module.Logger, "callHandlers", wrap)


def _state(context: Context, record: logging.LogRecord) -> None:
    error = record.exc_info[1] if type(record.exc_info) is tuple else None
    # `msg` can be any object of the host's: it is compared only when it is a plain string.
    of_interest = record.name.startswith(_OF_INTEREST) or (type(record.msg) is str and record.msg == _ROOM_TEMPLATE)
    if error is not None:
        if of_interest or MARK in error.__dict__:
            _state_exception(context, record, error)
    elif of_interest and record.msg == _FFI_TEMPLATE and type(record.args) is tuple and len(record.args) == 4:
        text = record.args[3]
        found = _FFI_FAILED.search(text) if type(text) is str else None
        if found is not None:
            context.recorder.state(FfiErrorLogged, found[1], clean(found[2]))
    if of_interest:
        context.recorder.count(layout.COUNTER_INDEX["log_records"])


def _state_exception(context: Context, record: logging.LogRecord, error: BaseException) -> None:
    template = record.msg if type(record.msg) is str else ""
    args = record.args if type(record.args) is tuple else ()
    dispatch = context.rooms.dispatch
    channel, task, event, room = "log", NO_TASK, dispatch.event, dispatch.room
    if template == _ROOM_TEMPLATE:
        channel = "log_room"
        event = args[0] if args and type(args[0]) is str else event
    elif template.startswith(_EMIT_START) and record.name == "livekit":
        channel, event = "log_emit", template[len(_EMIT_START) :]
    elif template == _TASK_TEMPLATE and args:
        channel, task = "log_task", context.tasks.describe(args[0])
        room = room or context.tasks.room_of(args[0])
    # An f-string puts values into `msg`: only the SDK's own literals are kept as templates.
    known = template if channel in ("log_room", "log_task") else ""
    where = Where(room=room, event=clean(event), task=task, logger=clean(record.name), template=known)
    if dispatch.room:
        where = where._replace(identity=dispatch.identity, track_sid=dispatch.sid)
    context.exceptions.see(error, channel, where)
