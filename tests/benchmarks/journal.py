"""One lifecycle event written to the journal; nothing to compare with."""

from __future__ import annotations

from tests.benchmarks.in_turns import in_turns
from tests.benchmarks.row import Compare, Effort, Round, Row


def _measure(effort: Effort) -> list[Round]:
    return in_turns(effort, "journal", alone=True)


ROWS = (Row("journal.event", "lifecycle event into the journal", "us", Compare.ALONE, 0.6, _measure),)
