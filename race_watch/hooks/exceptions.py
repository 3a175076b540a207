"""One exception, reduced to text at once and named, so that every channel that sees it later speaks of the same fact.

The name is kept in the exception's own `__dict__`: it dies with the exception, and nothing of ours holds an exception, a
traceback or a frame. No code of the host runs here: no `str()`, no `repr()` of its objects, and attributes are read through
the slots of `BaseException` and `type` themselves, which a subclass or metaclass may have overridden.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import Callable, Mapping
from types import TracebackType, WrapperDescriptorType
from typing import Any

from race_watch.clock import MONOTONIC_NS
from race_watch.events import LIST_SEP, ExceptionSeen, ExceptionSeenAgain, clean
from race_watch.hooks.recorder import Recorder
from race_watch.hooks.rooms import Where
from race_watch.journal import layout

MARK = "_race_watch_fact"
_FRAMES_KEPT = 12
_MESSAGE_KEPT = 300
# A secret is only known for one while it is whole: more is scrubbed than is kept.
_MESSAGE_SCRUBBED = 2048
_TYPE_KEPT = 200
# What the SDK always says: a participant called "agent" or "local" must not change it.
_LITERALS = frozenset(("cannot access local participant before connecting", "participant already exists"))
_PATH_KEPT = 120
_INT_BITS = 64
_SITES_KEPT = 128
_MINUTE_NS = 60_000_000_000
_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# Frames of ours that stand between the host's: not the whole package, whose lab holds applications.
OURS = (f"{_HOME}hooks{os.sep}", f"{_HOME}guard.py", f"{_HOME}post_import.py", f"{_HOME}auto.py")
_ASYNCIO = os.path.dirname(asyncio.__file__) + os.sep
_paths: dict[str, str] = {}

attributes: Callable[[BaseException], dict[str, Any]] = vars(BaseException)["__dict__"].__get__
_args: Callable[[BaseException], tuple[Any, ...]] = vars(BaseException)["args"].__get__
_traceback_of: Callable[[BaseException], TracebackType | None] = vars(BaseException)["__traceback__"].__get__
_module_of: Callable[[type], Any] = vars(type)["__module__"].__get__
_name_of: Callable[[type], str] = vars(type)["__qualname__"].__get__
_bases_of: Callable[[type], tuple[type, ...]] = vars(type)["__mro__"].__get__
_members_of: Callable[[type], dict[str, Any]] = vars(type)["__dict__"].__get__


class Exceptions:
    """Captures exceptions into the journal, each site at most `per_minute` times a minute; the rest is counted."""

    def __init__(self, recorder: Recorder, per_minute: int) -> None:
        self._recorder = recorder
        self._per_minute = per_minute
        self._next = itertools.count(1).__next__
        # (type, file, line) -> [start of its minute, captures in it]
        self._sites: dict[tuple[str, str, int], list[int]] = {}

    def see(self, error: BaseException, channel: str, where: Where, *, on_its_way: bool = False) -> str:
        """States the exception, or that it came again by this channel.

        Args:
            error: Nothing of it is kept but text.
            channel: The hook that saw it.
            where: What it happened in.
            on_its_way: It is still propagating: its traceback ends here, and the callers are on the stack.

        Returns:
            The fact's name; empty if this site's minute was full when it was seen first.
        """
        marks = attributes(error)
        fact = marks.get(MARK)
        if type(fact) is str:
            if fact:
                self._recorder.state(ExceptionSeenAgain, fact, channel, where.room, *where.task, where.logger, where.template)
            return fact
        found = (_stack() if on_its_way else []) + _traceback(_traceback_of(error))
        site = (found[-1][0], found[-1][2]) if found else ("", 0)
        frames = [f"{short_path(path)}:{clean(name)}:{line}" for path, name, line in found[-_FRAMES_KEPT:]]
        kind = _type_name(type(error))
        if not self._admit((kind, *site)):
            self._recorder.count(layout.COUNTER_INDEX["exceptions_suppressed"])
            marks[MARK] = ""
            return ""
        fact = f"{self._recorder.nonce}:{self._next()}"
        marks[MARK] = fact
        self._recorder.count(layout.COUNTER_INDEX["exceptions_seen"])
        message = _message(error)
        if message not in _LITERALS:
            message = self._recorder.scrub(message)[:_MESSAGE_KEPT]
        self._recorder.state(
            ExceptionSeen,
            fact,
            channel,
            kind,
            clean(message),
            LIST_SEP.join(frames),
            where.room,
            where.event,
            where.identity,
            where.track_sid,
            where.request,
            *where.task,
            where.logger,
            where.template,
            *_span_ids(),
        )
        return fact

    def suppressed(self, error: BaseException) -> bool:
        """Whether nothing is to be said of the exception, because the minute of its site is full; counts it.

        Asked before anything else is found out about it: this is what a storm costs, 5 us an exception instead of 50.
        """
        marks = attributes(error)
        fact = marks.get(MARK)
        if type(fact) is str:
            return not fact
        last, traceback = None, _traceback_of(error)
        while traceback is not None:
            if not traceback.tb_frame.f_code.co_filename.startswith(OURS):
                last = traceback
            traceback = traceback.tb_next
        if last is None:
            return False
        minute = self._sites.get((_type_name(type(error)), last.tb_frame.f_code.co_filename, last.tb_lineno))
        if minute is None or minute[1] < self._per_minute or MONOTONIC_NS() - minute[0] > _MINUTE_NS:
            return False
        self._recorder.count(layout.COUNTER_INDEX["exceptions_suppressed"])
        marks[MARK] = ""
        return True

    def _admit(self, site: tuple[str, str, int]) -> bool:
        now = MONOTONIC_NS()
        minute = self._sites.get(site)
        if minute is None or now - minute[0] > _MINUTE_NS:
            if len(self._sites) >= _SITES_KEPT:
                self._sites.clear()
            self._sites[site] = [now, 1]
            return True
        minute[1] += 1
        return minute[1] <= self._per_minute


def short_path(path: str) -> str:
    """A file's path without what is particular to the machine: from `site-packages` on, or the last three parts."""
    short = _paths.get(path)
    if short is None:
        parts = path.replace("\\", "/").split("/")
        for root in ("site-packages", "dist-packages"):
            if root in parts:
                short = "/".join(parts[len(parts) - parts[::-1].index(root) :])
                break
        else:
            lib = [i for i, part in enumerate(parts) if part.startswith("python3.") and i < len(parts) - 1]
            short = "/".join(parts[lib[-1] + 1 :] if lib else parts[-3:])
        if len(_paths) >= 4096:
            _paths.clear()
        _paths[path] = short = clean(short)[-_PATH_KEPT:]
    return short


def touches(error: BaseException, files: Mapping[str, bool]) -> bool:
    """Whether the exception went through one of the files."""
    return any(files[path] for path, _, _ in _traceback(_traceback_of(error)))


def _traceback(traceback: TracebackType | None) -> list[tuple[str, str, int]]:
    """File, function and line of the frames that are not ours, outermost first."""
    found = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith(OURS):
            found.append((code.co_filename, code.co_name, traceback.tb_lineno))
        traceback = traceback.tb_next
    return found


def _stack() -> list[tuple[str, str, int]]:
    """The frames that called us, outermost first, up to the loop that runs them."""
    found: list[tuple[str, str, int]] = []
    frame = sys._getframe(2)
    while frame is not None and len(found) < _FRAMES_KEPT:
        code = frame.f_code
        if code.co_filename.startswith(_ASYNCIO):
            break
        if not code.co_filename.startswith(OURS):
            found.append((code.co_filename, code.co_name, frame.f_lineno))
        frame = frame.f_back  # type: ignore[assignment]
    return found[::-1]


def _type_name(kind: type) -> str:
    module = _module_of(kind)
    name = _name_of(kind) if type(module) is not str or module == "builtins" else f"{module}.{_name_of(kind)}"
    return clean(name[:_TYPE_KEPT])


def _message(error: BaseException) -> str:
    """The exception's text where it can be told without running anybody's code."""
    to_text = next(members["__str__"] for base in _bases_of(type(error)) if "__str__" in (members := _members_of(base)))
    if type(to_text) is not WrapperDescriptorType:
        # The class has a `__str__` of its own, in Python.
        text = attributes(error).get("message", "")
        return text[:_MESSAGE_SCRUBBED] if type(text) is str else ""
    kept = [str(a)[:_MESSAGE_SCRUBBED] for a in _args(error)[:4] if type(a) in (str, float, bool) or _is_short_int(a)]
    return ", ".join(kept)[:_MESSAGE_SCRUBBED]


def _is_short_int(value: Any) -> bool:
    """Whether it is an int that is soon told: the text of a huge one takes time squared, and raises from 3.11 on."""
    return type(value) is int and value.bit_length() <= _INT_BITS


def _span_ids() -> tuple[str, str]:
    """Trace and span id of the host's current OpenTelemetry span, if it uses OpenTelemetry; never imports it."""
    # Not there while the host's import of it is under way in another thread.
    current_span = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if current_span is None:
        return "", ""
    context = current_span().get_span_context()
    if not context.is_valid:
        return "", ""
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"
