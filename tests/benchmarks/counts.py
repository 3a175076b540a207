"""Counting: native handles one by one, and the counts stated at a lifecycle edge."""

from __future__ import annotations

from tests.benchmarks.in_turns import in_turns
from tests.benchmarks.row import Compare, Effort, Round, Row

LIVEKIT = "1.1.21"


def _handle(effort: Effort) -> list[Round]:
    return in_turns(effort, "counts", "handle", livekit=LIVEKIT)


def _sample(effort: Effort) -> list[Round]:
    return in_turns(effort, "counts", "sample", livekit=LIVEKIT, alone=True)


ROWS = (
    Row("counts.handle", "native handle made and dropped", "us", Compare.DIFFERENCE, 2.0, _handle),
    Row("counts.sample", "counts at an edge, 20,000 descriptors", "us", Compare.ALONE, 12.0, _sample),
)
