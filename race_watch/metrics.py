"""The metric catalogue: every exported metric, its labels and their closed value sets. Nothing else names one.

Never a label with a room, participant, pid, task or message.
"""

from __future__ import annotations

from dataclasses import dataclass

from race_watch import detectors
from race_watch.incidents import UNCLASSIFIED
from race_watch.signatures import SIGNATURES


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `name` is the Prometheus name without `_total`; `sets` are the label values it always has, in label order."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    sets: tuple[tuple[str, ...], ...] = ((),)


def _incident_sets() -> tuple[tuple[str, ...], ...]:
    """(category, verdict, signature) of each form of each signature, and of what each detector raises unclassified."""
    named = [(form.category, form.verdict, signature.id) for signature in SIGNATURES for form in signature.forms]
    unnamed = [
        (category, verdict, UNCLASSIFIED)
        for module in detectors.MODULES
        for category, verdicts in module.CATEGORIES.items()
        for verdict in verdicts
    ]
    return tuple(sorted(set(named + unnamed)))


_INCIDENT_LABELS = ("category", "verdict", "signature")

INCIDENTS = Metric(
    "race_watch_incidents",
    "counter",
    "Incidents: one failure fingerprint in one room.",
    _INCIDENT_LABELS,
    _incident_sets(),
)
OCCURRENCES = Metric(
    "race_watch_occurrences",
    "counter",
    "Failures behind the incidents, repeats in the same room included.",
    _INCIDENT_LABELS,
    INCIDENTS.sets,
)
PROCESSES = Metric("race_watch_processes", "gauge", "Processes that are attached and alive.")
ATTACHED = Metric("race_watch_processes_attached", "counter", "Processes that have attached, the ended ones included.")
ROOMS = Metric(
    "race_watch_rooms", "gauge", "Rooms that are connected, in the live processes that have connected one, at their last edge."
)
PARTICIPANTS = Metric("race_watch_participants", "gauge", "Remote participants in those rooms.")
OPEN_FDS = Metric(
    "race_watch_open_fds",
    "gauge",
    "Open file descriptors of the live processes that have connected a room, at their last edge.",
)
FFI_HANDLES = Metric("race_watch_ffi_handles", "gauge", "Live native handles of the LiveKit SDK in those processes.")
ROOM_EVENTS = Metric("race_watch_room_events", "counter", "Room events that the SDK dispatched.")
EVENTS = Metric("race_watch_events", "counter", "Journal records read.")
LOST_REASONS = ("overwritten", "torn", "malformed", "cut")
LOST = Metric(
    "race_watch_events_lost",
    "counter",
    "Journal records that could not be read: overwritten before, torn by a kill, malformed, or cut for their length.",
    ("reason",),
    tuple((reason,) for reason in LOST_REASONS),
)
SUPPRESSED = Metric(
    "race_watch_exceptions_suppressed",
    "counter",
    "Exceptions that were only counted, their site having had its captures of the minute.",
)
CAPTURED = Metric("race_watch_exceptions_captured", "counter", "Exceptions captured whole, each once.")
LOG_RECORDS = Metric("race_watch_log_records", "counter", "Log records of WARNING and up that speak of the SDK or of asyncio.")
TASKS = Metric("race_watch_tasks_watched", "counter", "Tasks of the SDK and of room callbacks.")
HOOK_ERRORS = Metric("race_watch_hook_errors", "counter", "Failures of race_watch's own hooks; three switch a hook off.")
HOOKS_OFF = Metric("race_watch_hooks_off", "gauge", "Hooks that are switched off in live processes.")

CATALOGUE = (
    INCIDENTS,
    OCCURRENCES,
    PROCESSES,
    ATTACHED,
    ROOMS,
    PARTICIPANTS,
    OPEN_FDS,
    FFI_HANDLES,
    ROOM_EVENTS,
    EVENTS,
    LOST,
    SUPPRESSED,
    CAPTURED,
    LOG_RECORDS,
    TASKS,
    HOOK_ERRORS,
    HOOKS_OFF,
)
