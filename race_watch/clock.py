"""Clocks, captured once.

freezegun replaces the functions of `time` wherever a loaded module has them as an attribute, ours included; it does not look
into a partial (which costs 5 ns a call): what the host does to its clock for a test must not reach our durations.
"""

from __future__ import annotations

import time
from functools import partial

MONOTONIC_NS = partial(time.monotonic_ns)
WALL_NS = partial(time.time_ns)


def monotonic_s() -> float:
    """Seconds on the clock that journals are stamped with; one clock for all processes since boot (Linux)."""
    return MONOTONIC_NS() / 1e9
