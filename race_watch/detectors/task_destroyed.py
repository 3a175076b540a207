"""A pending task was garbage collected: nothing referred to it any more, and whoever awaited it waits for ever."""

from __future__ import annotations

from race_watch.events import TaskDestroyedPending
from race_watch.findings import Finding, is_sdk
from race_watch.records import Record

NAME = "task_destroyed"
SUMMARY = "A task was destroyed while it was still pending"
CATEGORIES = {"task_leak": ("app", "sdk", "unknown")}


class TaskDestroyed:
    """One finding a report of the loop; there is nothing to wait for."""

    def __init__(self) -> None:
        self._found: list[Finding] = []

    def observe(self, record: Record) -> None:
        event = record.event
        if not isinstance(event, TaskDestroyedPending):
            return
        self._found.append(
            Finding(
                key=f"{record.process.nonce}#{record.number}",
                category="task_leak",
                verdict=_whose(event),
                component=event.task_coro or "unknown",
                process=record.process,
                t_s=record.t_s,
                room=event.room,
                task_name=event.task_name,
                task_coro=event.task_coro,
                task_created_at=event.task_created_at,
                channels=("destroyed_pending",),
                evidence={"awaits": event.awaits} if event.awaits else {},
            )
        )

    def confirm(self, now_s: float) -> list[Finding]:
        found, self._found = self._found, []
        return found


def _whose(event: TaskDestroyedPending) -> str:
    if not event.task_coro:
        return "unknown"
    return "sdk" if is_sdk(event.task_coro) else "app"
