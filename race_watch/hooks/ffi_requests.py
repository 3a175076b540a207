"""Requests that the native library refuses, and constructors of the SDK that such a refusal leaves half done.

A request for a handle that is gone comes back as a bare `AssertionError` without text; which request it was stands here and
in the native library's own log record. A constructor that has already started tasks when it fails leaves them running, with
no reference to them anywhere.
Source: `livekit/rtc/_ffi_client.py:FfiClient.request` (livekit 0.18 to 1.2.0); constructors that call `create_task`, found by
their code (`AudioStream` up to 1.1.13, `VideoStream`, ...).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

from race_watch.events import LIST_SEP, ConstructorFailed, RequestSent, clean
from race_watch.guard import Guard
from race_watch.hooks.context import Context
from race_watch.hooks.patching import Patches
from race_watch.hooks.rooms import Where

NAME = "ffi_requests"
TARGET = "livekit.rtc"
SUPPORTED = "livekit 0.18 to 1.2"

# Requests that begin or end something, as opposed to those that move media and data, of which there are hundreds a second. They
# are stated before they are made: the one that ends the process is the last of its journal.
_OF_LIFECYCLES = frozenset(
    (
        "connect",
        "disconnect",
        "dispose",
        "publish_track",
        "unpublish_track",
        "create_audio_track",
        "create_video_track",
        "new_audio_source",
        "new_video_source",
        "new_audio_stream",
        "new_video_stream",
        "audio_stream_from_participant",
        "video_stream_from_participant",
        "ready_for_room_event",
        "set_subscribed",
    )
)
_STARTS_TASKS = frozenset(("create_task", "ensure_future"))


def install(context: Context, module: Any, patches: Patches, guard: Guard) -> None:
    """Wraps `FfiClient.request` and the SDK's constructors that start tasks."""
    from livekit.rtc._ffi_client import FfiClient

    refused = guard.wrap(lambda error, request: _refused(context, error, request))
    sent = guard.wrap(lambda request, name: _sent(context, request, name))

    def wrap_request(original: Callable[..., Any]) -> Callable[..., Any]:
        def request(self: Any, req: Any) -> Any:
            name = req.WhichOneof("message")
            if name in _OF_LIFECYCLES:
                sent(req, name)
            try:
                return original(self, req)
            except AssertionError as error:
                refused(error, req)
                raise

        return request

    patches.replace(FfiClient, "request", wrap_request)
    for cls in _constructing_classes():
        patches.replace(cls, "__init__", functools.partial(_wrap_constructor, context, guard))


def _constructing_classes() -> list[type]:
    found = []
    for name, module in list(sys.modules.items()):
        if not name.startswith("livekit.rtc.") or module is None:
            continue
        for value in list(vars(module).values()):
            init = vars(value).get("__init__") if isinstance(value, type) and value.__module__ == name else None
            if isinstance(init, FunctionType) and _STARTS_TASKS.intersection(init.__code__.co_names):
                found.append(value)
    return found


def _wrap_constructor(context: Context, guard: Guard, original: Callable[..., None]) -> Callable[..., None]:
    stack = context.tasks.constructing
    failed = guard.wrap(lambda error, made, tasks: _constructor_failed(context, error, made, tasks))

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        born: list[Any] = []
        stack.stack.append(born)
        try:
            original(self, *args, **kwargs)
        except Exception as error:
            failed(error, self, born)
            raise
        finally:
            stack.stack.pop()

    return __init__


def _sent(context: Context, request: Any, name: str) -> None:
    context.recorder.state(RequestSent, _room_and_sid(context, request, name)[0], _kind(name))


def _kind(name: str) -> str:
    """`PublishTrack` of `publish_track`, as the native library names it in its log."""
    return "".join(part.capitalize() for part in name.split("_"))


def _room_and_sid(context: Context, request: Any, name: str) -> tuple[int, str]:
    """The room and the track that the request's fields name, or the room of the code that makes it."""
    message = getattr(request, name) if name else None
    room, sid = 0, ""
    for field in message.DESCRIPTOR.fields if message is not None else ():
        if field.name.endswith("_handle"):
            room = room or context.rooms.of_handle(getattr(message, field.name))
        elif field.name in ("track_sid", "publication_sid"):
            sid = clean(getattr(message, field.name))
    return room or context.rooms.around(), sid


def _refused(context: Context, error: BaseException, request: Any) -> None:
    if context.exceptions.suppressed(error):
        return
    name = request.WhichOneof("message") or ""
    room, sid = _room_and_sid(context, request, name)
    dispatch = context.rooms.dispatch
    where = Where(
        room=room,
        event=dispatch.event,
        identity=dispatch.identity,
        track_sid=sid,
        request=_kind(name),
        task=context.tasks.describe(context.tasks.current()),
    )
    context.exceptions.see(error, "ffi_request", where, on_its_way=True)


def _constructor_failed(context: Context, error: BaseException, made: Any, born: list[Any]) -> None:
    tasks = [task for task in (reference() for reference in born) if task is not None and not _ending(task)]
    if not tasks:
        return
    dispatch = context.rooms.dispatch
    track = getattr(made, "_track", None)
    sid = track.sid if track is not None else ""
    room = context.rooms.of_track(sid) or context.rooms.around()
    where = Where(room=room, event=dispatch.event, track_sid=clean(sid), task=context.tasks.describe(tasks[0]))
    fact = context.exceptions.see(error, "constructor", where, on_its_way=True)
    cls = type(made)
    described = LIST_SEP.join("|".join(context.tasks.describe(task)) for task in tasks)
    context.recorder.state(ConstructorFailed, fact, f"{cls.__module__}.{cls.__qualname__}", room, clean(sid), described)


def _ending(task: Any) -> bool:
    """Whether the constructor has cleaned up: the task is done, or asked to cancel."""
    cancelling = getattr(task, "cancelling", None)  # from 3.11
    return bool(task.done() or (cancelling() if cancelling is not None else task._must_cancel))
