"""Replacing functions on classes, and putting them back."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

_ABSENT = object()
_COPIED = ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__")


class Patches:
    """The replaced attributes of one hook, in order."""

    def __init__(self) -> None:
        self._done: list[tuple[Any, str, Any, Any]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Sets `owner.name` to `make(original)`, which must be a plain function or a property as the original is.

        Raises:
            AttributeError: The target is missing, that is, the foreign library has changed.
        """
        before = vars(owner).get(name, _ABSENT)
        original = before if isinstance(before, property) else getattr(owner, name)
        replacement = make(original)
        if isinstance(replacement, types.FunctionType):
            _disguise(replacement, original)
        setattr(owner, name, replacement)
        self._done.append((owner, name, before, replacement))

    def undo(self) -> list[str]:
        """Puts the originals back, newest first.

        Returns:
            The attributes that somebody else has wrapped since: ours stay underneath, inert.
        """
        left = []
        while self._done:
            owner, name, before, replacement = self._done.pop()
            if vars(owner).get(name) is not replacement:
                left.append(f"{getattr(owner, '__name__', owner)}.{name}")
            elif before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        return left


def _disguise(replacement: Any, original: Any) -> None:
    """Makes the replacement look like the original to `inspect`, `pickle`, `repr` and subclasses."""
    for attribute in _COPIED:
        try:
            setattr(replacement, attribute, getattr(original, attribute))
        except (AttributeError, TypeError):
            continue
    replacement.__dict__.update(getattr(original, "__dict__", {}))
    replacement.__wrapped__ = original
