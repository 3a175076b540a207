"""A task failed and nobody was waiting for it."""

from __future__ import annotations

from race_watch.detectors.failures import Failures
from race_watch.findings import Finding, blame, from_exception
from race_watch.records import Record

NAME = "task_exception_lost"
SUMMARY = "A task's exception was never retrieved, or ended in the SDK's task logger"
CATEGORIES = {"task_exception_lost": ("app", "sdk", "unknown")}


class TaskExceptionLost:
    """What the loop reports at garbage collection, and what `task_done_logger` logs."""

    def __init__(self) -> None:
        self._failures = Failures(lambda e: e.channel in ("never_retrieved", "log_task"))

    def observe(self, record: Record) -> None:
        self._failures.observe(record)

    def confirm(self, now_s: float) -> list[Finding]:
        return [
            from_exception(
                failure.seen,
                failure.process,
                failure.t_s,
                category="task_exception_lost",
                verdict=blame(failure.seen.frames),
                channels=failure.channels,
            )
            for failure in self._failures.due(now_s)
        ]
