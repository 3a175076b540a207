"""Counting: native handles one by one, and the counts stated at a lifecycle edge."""

from __future__ import annotations

import resource

from tests.benchmarks.in_turns import in_turns
from tests.benchmarks.row import Compare, Effort, Round, Row, Skipped

LIVEKIT = "1.1.21"


def _handle(effort: Effort) -> list[Round]:
    return in_turns(effort, "counts", "handle", livekit=LIVEKIT)


def _sample(effort: Effort) -> list[Round]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 20_000:
        raise Skipped(f"no more than {hard} descriptors are allowed")
    return in_turns(effort, "counts", "sample", livekit=LIVEKIT, alone=True)


ROWS = (
    Row("counts.handle", "native handle made and dropped", "us", Compare.DIFFERENCE, 2.0, _handle),
    Row("counts.sample", "counts at an edge, 19,900 descriptors", "us", Compare.ALONE, 12.0, _sample),
)
