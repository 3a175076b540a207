"""An exception out of a room event's dispatch, which the SDK logs: seen twice by the hooks, stated once.

In a storm the captures of one site are used up after `RACE_WATCH_EXCEPTIONS_PER_MINUTE`; what each further one costs is the
second row.
"""

from __future__ import annotations

from functools import partial

from tests.benchmarks.in_turns import in_turns
from tests.benchmarks.room_events import LIVEKIT
from tests.benchmarks.row import Compare, Effort, Round, Row


def _measure(witness: str, settings: dict[str, str], operations: str, effort: Effort) -> list[Round]:
    return in_turns(effort, "exceptions", operations, livekit=LIVEKIT, settings=settings, witness=witness)


_ALL = {"RACE_WATCH_EXCEPTIONS_PER_MINUTE": "10000"}

ROWS = (
    Row(
        "exception.captured",
        "exception in a room event, captured",
        "us",
        Compare.DIFFERENCE,
        80.0,
        partial(_measure, "exceptions_seen", _ALL, "100"),
    ),
    Row(
        "exception.storm",
        "the same beyond the site's minute",
        "us",
        Compare.DIFFERENCE,
        None,
        partial(_measure, "exceptions_suppressed", {}, "200"),
    ),
)
