"""The application touched the local participant of a room that was not connected."""

from __future__ import annotations

from race_watch.detectors.failures import Failures
from race_watch.findings import Finding, from_exception, has_application
from race_watch.records import Record

NAME = "use_before_connect"
SUMMARY = "`room.local_participant` was used before `connect()` had returned"
CATEGORIES = {"use_before_connect": ("app", "sdk")}


class UseBeforeConnect:
    """The getter refused; by whom it was called tells whose mistake it is."""

    def __init__(self) -> None:
        self._failures = Failures(lambda e: e.channel == "before_connect")

    def observe(self, record: Record) -> None:
        self._failures.observe(record)

    def confirm(self, now_s: float) -> list[Finding]:
        return [
            from_exception(
                failure.seen,
                failure.process,
                failure.t_s,
                category="use_before_connect",
                verdict="app" if has_application(failure.seen.frames) else "sdk",
                channels=failure.channels,
            )
            for failure in self._failures.due(now_s)
        ]
