"""The dispatch of a room event by the real SDK, with every hook on it."""

from __future__ import annotations

from functools import partial

from tests.benchmarks.in_turns import in_turns
from tests.benchmarks.row import Compare, Effort, Round, Row

LIVEKIT = "1.1.21"


def _measure(kind: str, effort: Effort) -> list[Round]:
    return in_turns(effort, "room_events", kind, livekit=LIVEKIT, witness="room_events")


ROWS = (
    Row("room.muted", "room event: track muted, unmuted", "us", Compare.DIFFERENCE, 2.0, partial(_measure, "muted")),
    Row(
        "room.participant",
        "room event: participant in, out",
        "us",
        Compare.DIFFERENCE,
        2.0,
        partial(_measure, "participant"),
    ),
    Row("room.quality", "room event of no interest: quality", "us", Compare.DIFFERENCE, 2.0, partial(_measure, "quality")),
)
