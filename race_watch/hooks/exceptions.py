"""One exception, reduced to text at once and named, so that every channel that sees it later speaks of the same fact.

The name is kept in the exception's own `__dict__`: it dies with the exception, and nothing of ours holds an exception, a
traceback or a frame. No code of the host runs here: no `str()`, no `repr()` of its objects.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from types import TracebackType, WrapperDescriptorType

from race_watch.clock import MONOTONIC_NS
from race_watch.events import LIST_SEP, ExceptionSeen, ExceptionSeenAgain, clean
from race_watch.hooks.recorder import Recorder
from race_watch.hooks.rooms import Where
from race_watch.journal import layout

MARK = "_race_watch_fact"
_FRAMES_KEPT = 12
_MESSAGE_KEPT = 300
_SITES_KEPT = 128
_MINUTE_NS = 60_000_000_000
_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# Frames of ours that stand between the host's: not the whole package, whose lab holds applications.
OURS = (f"{_HOME}hooks{os.sep}", f"{_HOME}guard.py", f"{_HOME}post_import.py", f"{_HOME}auto.py")
_ASYNCIO = os.path.dirname(asyncio.__file__) + os.sep
_paths: dict[str, str] = {}


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
            The fact's name; empty if this site's minute is full.
        """
        marks = error.__dict__
        fact = marks.get(MARK)
        if type(fact) is str:
            self._recorder.state(ExceptionSeenAgain, fact, channel, where.room, *where.task, where.logger, where.template)
            return fact
        found = (_stack() if on_its_way else []) + _traceback(error.__traceback__)
        site = (found[-1][0], found[-1][2]) if found else ("", 0)
        frames = [f"{short_path(path)}:{name}:{line}" for path, name, line in found[-_FRAMES_KEPT:]]
        kind = _type_name(type(error))
        if not self._admit((kind, *site)):
            self._recorder.count(layout.COUNTER_INDEX["exceptions_suppressed"])
            marks[MARK] = ""
            return ""
        fact = f"{self._recorder.nonce}:{self._next()}"
        marks[MARK] = fact
        self._recorder.count(layout.COUNTER_INDEX["exceptions_seen"])
        message = self._recorder.scrub(_message(error))
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
        _paths[path] = short = clean(short)
    return short


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
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    """The exception's text where it can be told without running anybody's code."""
    if type(type(error).__str__) is not WrapperDescriptorType:
        # The class has a `__str__` of its own, in Python.
        text = error.__dict__.get("message", "")
        return text[:_MESSAGE_KEPT] if type(text) is str else ""
    kept = [str(a)[:_MESSAGE_KEPT] for a in error.args[:4] if type(a) in (str, int, float, bool)]
    return ", ".join(kept)[:_MESSAGE_KEPT]


def _span_ids() -> tuple[str, str]:
    """Trace and span id of the host's current OpenTelemetry span, if it uses OpenTelemetry; never imports it."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return "", ""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return "", ""
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"
