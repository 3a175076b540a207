"""Hooks: they state facts. Standard library only; the foreign modules are handed to them or are already imported.

A hook is a module with NAME, TARGET (the module whose import it waits for; ALSO names more), SUPPORTED (versions it was checked
against) and `install(context, module, patches, guard)`, which raises AttributeError where its target is missing.
"""

from __future__ import annotations

from race_watch.hooks import (
    asyncio_loops,
    asyncio_tasks,
    children,
    counting,
    default_registry,
    ffi_handles,
    ffi_panics,
    ffi_requests,
    log_records,
    process_end,
    room_calls,
    room_events,
)

# `asyncio_loops` comes before any loop is made, `ffi_handles` before the first native handle is.
HOOKS = (
    log_records,
    process_end,
    children,
    asyncio_loops,
    asyncio_tasks,
    ffi_handles,
    counting,
    ffi_panics,
    ffi_requests,
    room_calls,
    room_events,
    default_registry,
)
