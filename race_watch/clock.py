"""Clocks, captured once.

freezegun and time-machine replace module attributes of modules that are already loaded, ours included, but not the
contents of a tuple or default arguments: what the host does to its clock for a test must not reach our durations.
"""

from __future__ import annotations

import time

MONOTONIC_NS, WALL_NS = _CAPTURED = (time.monotonic_ns, time.time_ns)


def monotonic_s(_now_ns=_CAPTURED[0]) -> float:  # type: ignore[no-untyped-def]
    """Seconds on the clock that journals are stamped with; one clock for all processes since boot (Linux)."""
    return float(_now_ns()) / 1e9
