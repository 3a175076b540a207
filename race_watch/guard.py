"""The only broad `except` of the host half: count, and after three strikes switch the hook off.

`BaseException` passes: a `CancelledError` or `KeyboardInterrupt` that arrives while a hook body runs belongs to the host.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

STRIKES = 3

_finalizing = sys.is_finalizing


class Guard:
    """The strikes of one hook. Called from any thread, also inside the garbage collector and signal handlers.

    Args:
        hook: The hook's name, as the watcher shows it.
        on_strike: Called with (hook, error type name, off) for each strike; must not raise.
    """

    __slots__ = ("hook", "off", "on_strike", "strikes")

    def __init__(self, hook: str, on_strike: Callable[[str, str, bool], None]) -> None:
        self.hook = hook
        self.on_strike = on_strike
        self.strikes = 0
        self.off = False

    def wrap(self, body: Callable[..., Any]) -> Callable[..., None]:
        """Returns `body` without its errors and its result; a no-op once the hook is off or the interpreter ends."""

        def guarded(*args: Any, _body: Any = body, _self: Guard = self, _finalizing: Any = _finalizing) -> None:
            if _self.off or _finalizing():
                return
            try:
                _body(*args)
            except Exception as error:  # noqa: BLE001 - the one place: see the module
                try:
                    _self.strike(type(error).__name__)
                except Exception:  # noqa: BLE001 - at the recursion limit there is no room for counting either
                    pass

        return guarded

    def wrap_two(self, body: Callable[[Any, Any], Any]) -> Callable[[Any, Any], None]:
        """`wrap` for a body of two arguments that is called all the time: 110 ns less a call.

        It does not ask whether the interpreter ends: what fails then is caught all the same.
        """

        def guarded(first: Any, second: Any) -> None:
            if self.off:
                return
            try:
                body(first, second)
            except Exception as error:  # noqa: BLE001 - the one place: see the module
                try:
                    self.strike(type(error).__name__)
                except Exception:  # noqa: BLE001 - as above
                    pass

        return guarded

    def strike(self, error: str) -> None:
        """Counts one failure of the hook's own code."""
        self.strikes += 1
        self.off = self.off or self.strikes >= STRIKES
        self.on_strike(self.hook, error, self.off)
