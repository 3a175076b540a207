"""Replacing functions on classes, and putting them back."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

_ABSENT = object()


class Patches:
    """The replaced attributes of one hook, in order."""

    def __init__(self) -> None:
        self._done: list[tuple[Any, str, Any, Any]] = []
        self._undo: list[Callable[[], object]] = []

    def on_undo(self, take_back: Callable[[], object]) -> None:
        """For what is registered somewhere instead of replaced."""
        self._undo.append(take_back)

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any], builtin: Any = _ABSENT) -> None:
        """Sets `owner.name` to `make(original)`, which must be a plain function or a property as the original is.

        Args:
            builtin: The builtin function that a module's own code means by the name.

        Raises:
            AttributeError: The target is missing, that is, the foreign library has changed.
        """
        before = vars(owner).get(name, _ABSENT)
        original: Any = before if isinstance(before, property) else getattr(owner, name, builtin)
        if original is _ABSENT:
            raise AttributeError(name)
        replacement = make(original)
        if isinstance(replacement, types.FunctionType):
            # For `inspect`, `pickle`, `repr` and subclasses it is the original.
            functools.update_wrapper(replacement, original)
        setattr(owner, name, replacement)
        self._done.append((owner, name, before, replacement))

    def undo(self) -> list[str]:
        """Puts the originals back, newest first.

        Returns:
            The attributes that somebody else has wrapped since: ours stay underneath, inert.
        """
        left = []
        while self._undo:
            self._undo.pop()()
        while self._done:
            owner, name, before, replacement = self._done.pop()
            if vars(owner).get(name) is not replacement:
                left.append(f"{getattr(owner, '__name__', owner)}.{name}")
            elif before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        return left
