"""Who holds the native handles of a kind that has grown: a chain of referrers of one of them, rarely, and only where asked for.

`gc.get_referrers` looks at every object of the process and stops it meanwhile, 10 ms and more for each million of them.
"""

from __future__ import annotations

import gc
import types
from typing import Any

from race_watch.clock import monotonic_s
from race_watch.events import LIST_SEP, HandleHeld, clean
from race_watch.hooks.ffi_handles import FfiHandles
from race_watch.hooks.recorder import Recorder

_EVERY_S = 600.0
# What a kind must have grown to: so many times what it was at the first look, or what a small session has.
_TIMES, _BASE = 2, 8
_DEPTH = 4
# No link is looked for any more when the ones before have taken this long.
_BUDGET_S = 0.05
_NAME_KEPT = 80

_CODE = (types.FrameType, types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)


class Referrers:
    """For the counting thread."""

    def __init__(self, recorder: Recorder, handles: FfiHandles) -> None:
        self._recorder = recorder
        self._handles = handles
        self._base: dict[str, int] = {}
        self._top: dict[str, int] = {}
        self._next_s: dict[str, float] = {}

    def look(self) -> None:
        """States who holds a handle of each kind that has grown to a new maximum."""
        objects = self._handles.objects or {}
        for kind, live in self._handles.kinds.items():
            count = len(live)
            base = self._base.setdefault(kind, max(count, _BASE))
            now_s = monotonic_s()
            if count <= self._top.get(kind, _TIMES * base - 1) or now_s < self._next_s.get(kind, 0.0):
                continue
            self._top[kind] = count
            self._next_s[kind] = now_s + _EVERY_S
            # The oldest but those that were there before it grew.
            handle = [handle for handle, of in self._handles.live.copy().items() if of is live][base : base + 1]
            found = objects.get(handle[0]) if handle else None
            if found is not None:
                self._recorder.state(HandleHeld, kind, LIST_SEP.join(_chain(found())))


def _chain(target: Any) -> list[str]:
    """Names of what refers to `target`, nearest first."""
    chain: list[str] = []
    # These refer to what is looked at, too.
    ours: list[Any] = [target]
    end_s = monotonic_s() + _BUDGET_S
    while len(chain) < _DEPTH and len(ours) <= 2 * _DEPTH and monotonic_s() < end_s:
        holder = _nearest(target, ours)
        if isinstance(target, dict) and _attributes(holder) is not target:
            chain.append("dict")
        if holder is None:
            break
        if not _passes_on(holder, target):
            chain.append(clean(_name(holder, target))[:_NAME_KEPT])
        if isinstance(holder, _CODE) or (isinstance(holder, dict) and "__spec__" in holder):
            break
        ours.append(holder)
        target = holder
    return chain[:_DEPTH]


def _nearest(target: Any, ours: list[Any]) -> Any:
    """The referrer that tells most: an object more than a container, and that more than the code that runs; None for none."""
    found = gc.get_referrers(target)
    known = {id(item) for item in (*ours, ours, found)}
    return min((item for item in found if id(item) not in known and not _is_ours(item)), key=_rank, default=None)


def _passes_on(holder: Any, target: Any) -> bool:
    """Whether it is a part of what comes next: of an object its attributes, of a function its closure."""
    if isinstance(holder, dict):
        return "__spec__" not in holder
    return isinstance(holder, types.CellType) or (isinstance(holder, tuple) and isinstance(target, types.CellType))


def _is_ours(item: Any) -> bool:
    return isinstance(item, types.FrameType) and item.f_globals.get("__name__") == __name__


def _rank(item: Any) -> int:
    return 2 if isinstance(item, _CODE) else int(isinstance(item, (list, tuple, set, frozenset, dict, types.CellType)))


def _attributes(item: Any) -> Any:
    try:
        return object.__getattribute__(item, "__dict__")
    except AttributeError:
        return None


def _name(item: Any, target: Any) -> str:
    if isinstance(item, dict):
        name = next((key for key, value in item.copy().items() if value is target), "")
        return f"{item.get('__name__')}:{name}"
    if isinstance(item, _CODE):
        frame = item if isinstance(item, types.FrameType) else _frame(item)
        module = frame.f_globals.get("__name__") if frame is not None else ""
        return f"{module}:{item.f_code.co_name if isinstance(item, types.FrameType) else item.__qualname__}"
    if isinstance(item, types.FunctionType):
        return f"{item.__module__}:{item.__qualname__}"
    kind = type(item)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _frame(item: Any) -> Any:
    return next((frame for name in ("cr_frame", "gi_frame", "ag_frame") if (frame := getattr(item, name, None))), None)
