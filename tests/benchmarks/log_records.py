"""A record of a logger that is not the SDK's, formatted and written by a stream handler."""

from __future__ import annotations

from functools import partial

from tests.benchmarks.in_turns import in_turns
from tests.benchmarks.row import Compare, Effort, Round, Row


def _measure(level: str, effort: Effort) -> list[Round]:
    return in_turns(effort, "log_records", level)


ROWS = (
    Row("log.info", "info() of a foreign logger", "us", Compare.RATIO, 1.02, partial(_measure, "info")),
    Row("log.warning", "warning(exc_info=True) of one", "us", Compare.RATIO, 1.05, partial(_measure, "warning")),
)
