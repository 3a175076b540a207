"""Detectors: facts in, findings out. Pure: no clock, thread, asyncio or livekit here.

A detector has NAME, SUMMARY and CATEGORIES (category -> the verdicts it gives) in its module, and a class with
`observe(record)` and `confirm(now_s) -> findings`. Their order is their precedence where two speak of one failure.
"""

from __future__ import annotations

from typing import Protocol

from race_watch.detectors import (
    callback_error,
    growth,
    growth_outside,
    lost_event,
    orphan_task,
    process_end,
    room_registry,
    task_destroyed,
    task_exception_lost,
    use_after_dispose,
    use_before_connect,
)
from race_watch.findings import Finding
from race_watch.records import Record


class Detector(Protocol):
    """`now_s` is monotonic seconds, on the clock of the records."""

    def observe(self, record: Record) -> None: ...

    def confirm(self, now_s: float) -> list[Finding]: ...


MODULES = (
    process_end,
    orphan_task,
    use_before_connect,
    use_after_dispose,
    room_registry,
    callback_error,
    task_exception_lost,
    task_destroyed,
    lost_event,
    growth_outside,
    growth,
)


def build() -> list[Detector]:
    """New detectors, in order of precedence."""
    return [
        process_end.ProcessEnd(),
        orphan_task.OrphanTask(),
        use_before_connect.UseBeforeConnect(),
        use_after_dispose.UseAfterDispose(),
        room_registry.RoomRegistry(),
        callback_error.CallbackError(),
        task_exception_lost.TaskExceptionLost(),
        task_destroyed.TaskDestroyed(),
        lost_event.LostEvent(),
        growth_outside.GrowthOutside(),
        growth.Growth(),
    ]
