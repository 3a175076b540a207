"""A constructor of the SDK failed after it had started tasks: they run on, and nothing refers to them.

Nothing need ever be logged about it: such a task waits on an empty queue until the next event of its kind, if one comes.
"""

from __future__ import annotations

from dataclasses import replace

from race_watch.events import ConstructorFailed, ExceptionSeen, ExceptionSeenAgain
from race_watch.findings import Finding, from_exception
from race_watch.records import Record

NAME = "orphan_task"
SUMMARY = "A constructor failed and left tasks running that nobody can reach"
CATEGORIES = {"orphan_task": ("sdk",)}

# Shorter than the window of other detectors: the exception that failed the constructor is this finding, not one more.
_WINDOW_S = 0.25
# Failures of orphans and exceptions of constructors that are remembered; beyond it the oldest is forgotten.
_KEPT = 512


class OrphanTask:
    """Constructor failures with live tasks; later failures of these tasks belong to them."""

    def __init__(self) -> None:
        self._exceptions: dict[str, ExceptionSeen] = {}
        self._suspects: list[tuple[Record, ConstructorFailed]] = []
        # (process, task key) -> key of the failure that orphaned the task
        self._orphans: dict[tuple[str, str], str] = {}
        self._told: dict[str, Finding] = {}
        # Key of the cause, how the orphan failed, by which channel it was seen, when
        self._consequences: list[tuple[str, ExceptionSeen, str, float]] = []

    def observe(self, record: Record) -> None:
        event, process = record.event, record.process.nonce
        if isinstance(event, ExceptionSeen):
            _remember(self._exceptions, event.fact, event)
        if isinstance(event, ConstructorFailed):
            self._suspects.append((record, event))
            for task in event.tasks:
                _remember(self._orphans, (process, task.partition("|")[0]), _key(record, event))
        elif isinstance(event, (ExceptionSeen, ExceptionSeenAgain)) and event.task:
            cause, seen = self._orphans.get((process, event.task)), self._exceptions.get(event.fact)
            if cause is not None and seen is not None and cause != event.fact:
                self._consequences.append((cause, seen, event.channel, record.t_s))

    def confirm(self, now_s: float) -> list[Finding]:
        due = [entry for entry in self._suspects if now_s - entry[0].t_s >= _WINDOW_S]
        self._suspects = [entry for entry in self._suspects if now_s - entry[0].t_s < _WINDOW_S]
        found = [self._finding(record, event) for record, event in due]
        for finding in found:
            _remember(self._told, finding.key, finding)
        # A consequence is told after its cause.
        waiting = {_key(record, event) for record, event in self._suspects}
        later = [entry for entry in self._consequences if entry[0] not in waiting]
        self._consequences = [entry for entry in self._consequences if entry[0] in waiting]
        for cause, seen, channel, t_s in later:
            if cause in self._told:
                told = self._told[cause]
                found.append(
                    replace(
                        told,
                        t_s=t_s,
                        claims=(seen.fact,),
                        channels=(*told.channels, channel),
                        evidence={"orphan_ended_with": f"{seen.type}: {seen.message}"},
                    )
                )
        return found

    def _finding(self, record: Record, event: ConstructorFailed) -> Finding:
        _, name, coro, created_at = [*event.tasks[0].split("|"), "", "", "", ""][:4]
        judged = {
            "category": "orphan_task",
            "verdict": "sdk",
            "component": event.cls,
            "room": event.room,
            "track_sid": event.track_sid,
            "task_name": name,
            "task_coro": coro,
            "task_created_at": created_at,
            "evidence": {"constructor": event.cls, "orphans": str(len(event.tasks))},
        }
        seen = self._exceptions.get(event.fact)
        if seen is None:
            # The exception's own record was suppressed in a storm, or overwritten before it was read.
            key = _key(record, event)
            return Finding(key=key, process=record.process, t_s=record.t_s, channels=("constructor",), **judged)  # type: ignore[arg-type]
        return from_exception(
            seen, record.process, record.t_s, channels=tuple(dict.fromkeys((seen.channel, "constructor"))), **judged
        )


def _key(record: Record, event: ConstructorFailed) -> str:
    return event.fact or f"{record.process.nonce}#{record.number}"


def _remember(table: dict, key: object, value: object) -> None:  # type: ignore[type-arg]
    if len(table) >= _KEPT:
        del table[next(iter(table))]
    table[key] = value
