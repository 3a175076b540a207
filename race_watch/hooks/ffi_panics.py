"""Panics that the native library reports: the SDK prints them to stderr and sends SIGTERM to its own process.

The report is an event that the SDK takes on a native thread and neither logs nor queues. Its one trace in Python is the `print`
of `ffi_event_callback`, so that is what the module finds under that name. From 1.1.2 on most panics end the process before any
report.
Source: `livekit/rtc/_ffi_client.py:ffi_event_callback` (livekit 1.0 to 1.2.0).
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from race_watch.events import FfiPanicked, clean
from race_watch.guard import Guard
from race_watch.hooks.context import Context
from race_watch.hooks.patching import Patches

NAME = "ffi_panics"
TARGET = "livekit.rtc"
SUPPORTED = "livekit 1.0 to 1.2"

_SAYS = "FFI Panic: "
_MESSAGE_SCRUBBED = 2048
_MESSAGE_KEPT = 300


def install(context: Context, module: Any, patches: Patches, guard: Guard) -> None:
    """Puts a `print` into `_ffi_client` that states what is printed as a panic, and prints it."""
    from livekit.rtc import _ffi_client

    panicked = guard.wrap(lambda said: _panicked(context, said))
    builtin = builtins.print

    def wrap(original: Callable[..., None]) -> Callable[..., None]:
        def print(*values: Any, **options: Any) -> None:
            if len(values) == 2 and values[0] == _SAYS:
                panicked(values[1])
            # Who replaces the builtin later means the SDK's too.
            (builtins.print if original is builtin else original)(*values, **options)

        return print

    patches.replace(_ffi_client, "print", wrap, builtin)


def _panicked(context: Context, said: Any) -> None:
    message = said if type(said) is str else ""
    context.recorder.state(FfiPanicked, context.recorder.scrub(clean(message[:_MESSAGE_SCRUBBED]))[:_MESSAGE_KEPT])
