"""A request named a native handle that was gone: the bare assertion in Python and the native log record that explains it."""

from __future__ import annotations

from race_watch.detectors.failures import WINDOW_S, Failure, Failures
from race_watch.events import FfiErrorLogged
from race_watch.findings import Finding, from_exception, has_application
from race_watch.records import Record

NAME = "use_after_dispose"
SUMMARY = "A request to the native library used a handle that had already been dropped"
CATEGORIES = {"use_after_dispose": ("app", "sdk", "unknown")}

# The two records come from different threads, in either order.
_PAIR_S = 0.1
_STALE = "handle"


class UseAfterDispose:
    """Joins assertion and native record of one process by request kind and time."""

    def __init__(self) -> None:
        self._failures = Failures(lambda e: e.channel == "ffi_request")
        self._logged: list[tuple[str, float, FfiErrorLogged]] = []

    def observe(self, record: Record) -> None:
        self._failures.observe(record)
        if isinstance(record.event, FfiErrorLogged):
            self._logged.append((record.process.nonce, record.t_s, record.event))

    def confirm(self, now_s: float) -> list[Finding]:
        found = [finding for failure in self._failures.due(now_s) if (finding := self._judge(failure)) is not None]
        self._logged = [entry for entry in self._logged if now_s - entry[1] < WINDOW_S + 1.0]
        return found

    def _judge(self, failure: Failure) -> Finding | None:
        reason = self._reason(failure)
        if reason and _STALE not in reason:
            # Refused for another reason (a bad argument, say): not a matter of lifecycle.
            return None
        whose = "app" if has_application(failure.seen.frames) else "sdk"
        return from_exception(
            failure.seen,
            failure.process,
            failure.t_s,
            category="use_after_dispose",
            verdict=whose if reason else "unknown",
            confidence=1.0 if reason else 0.5,
            channels=(*failure.channels, "ffi_log") if reason else failure.channels,
            evidence={"request": failure.seen.request, "native_error": reason or "no native record was seen"},
        )

    def _reason(self, failure: Failure) -> str:
        for index, (nonce, t_s, logged) in enumerate(self._logged):
            same = nonce == failure.process.nonce and logged.request == failure.seen.request
            if same and abs(t_s - failure.t_s) <= _PAIR_S:
                del self._logged[index]
                return logged.reason
        return ""
