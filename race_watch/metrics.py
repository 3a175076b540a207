"""The metric catalogue: every exported metric, its labels and their closed value sets. Nothing else names one.

Never a label with a room, participant, pid, task or message.
"""

from __future__ import annotations

from dataclasses import dataclass

from race_watch import detectors
from race_watch.detectors.deaths import CHOSEN, REASONS
from race_watch.incidents import UNCLASSIFIED
from race_watch.signatures import SIGNATURES


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `name` is the Prometheus name without `_total`; `sets` are the label values it always has, in label order.

    `others` is how many label sets it may have instead of those, where they are not known beforehand.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    sets: tuple[tuple[str, ...], ...] = ((),)
    others: int = 0

    @property
    def unit(self) -> str:
        """OpenTelemetry's unit, by the end of the name."""
        return _UNITS.get(self.name.rpartition("_")[2], "")

    @property
    def otel_name(self) -> str:
        """OpenTelemetry's name: it does not have the unit in it, except that a share of 1 stays a ratio.

        What is said of it in Prometheus is again `name`, by the rules of its OTLP receiver and of the collector.
        """
        stem = self.name.removesuffix({"s": "_seconds", "By": "_bytes"}.get(self.unit, ""))
        return stem.replace("race_watch_", "race_watch.", 1)


_UNITS = {"seconds": "s", "bytes": "By", "ratio": "1"}


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


INCIDENTS = Metric(
    "race_watch_incidents",
    "counter",
    "Incidents: one failure fingerprint in one room.",
    ("category", "verdict", "signature"),
    _incident_sets(),
)
OCCURRENCES = Metric(
    "race_watch_occurrences",
    "counter",
    "Failures behind the incidents, repeats in the same room included.",
    ("category",),
    tuple(sorted({(category,) for category, _, _ in INCIDENTS.sets})),
)
# A kind that was not looked at.
UNKNOWN = "unknown"
PROCESSES = Metric("race_watch_processes", "gauge", "Processes that are attached and alive.")
MEASURED = Metric(
    "race_watch_processes_measured",
    "gauge",
    "Processes below `race-watch run` that are not attached, and measured from outside: those of other languages, say.",
)
ATTACHED = Metric("race_watch_processes_attached", "counter", "Processes that have attached, the ended ones included.")
PROCESS_ENDED = Metric(
    "race_watch_process_ended",
    "counter",
    "Processes that have ended, by why.",
    ("reason",),
    tuple((reason,) for reason in REASONS),
)
SESSIONS = Metric("race_watch_sessions", "counter", "Rooms that were connected: sessions begun.")
SESSIONS_LOST = Metric(
    "race_watch_sessions_lost",
    "counter",
    "Sessions that were cut off by the end of their process, by why it ended.",
    ("reason",),
    tuple((reason,) for reason in REASONS if reason not in CHOSEN),
)
ROOMS = Metric(
    "race_watch_rooms", "gauge", "Rooms that are connected, in the live processes that have connected one, at their last edge."
)
PARTICIPANTS = Metric("race_watch_participants", "gauge", "Remote participants in those rooms.")
FD_KINDS = ("udp", "tcp", "unix", "pipe", "epoll", "eventfd", "file", "other", UNKNOWN)
OPEN_FDS = Metric(
    "race_watch_open_fds",
    "gauge",
    "Open file descriptors of the live processes that have connected a room or are measured from outside, by what they are "
    "where that was looked at.",
    ("kind",),
    tuple((kind,) for kind in FD_KINDS),
)
FD_LIMIT = Metric("race_watch_fd_limit", "gauge", "The lowest limit of open file descriptors of those processes.")
HANDLE_KINDS = ("room", "participant", "publication", "track", "stream", "source", "buffer", "other")
FFI_HANDLES = Metric(
    "race_watch_ffi_handles",
    "gauge",
    "Live native handles of the LiveKit SDK in those processes, by what they are of.",
    ("kind",),
    tuple((kind,) for kind in HANDLE_KINDS),
)
SUBSCRIPTIONS = Metric(
    "race_watch_ffi_subscriptions", "gauge", "Subscriptions of the SDK's queue of native events in those processes."
)
THREAD_KINDS = ("tokio", "audio_source", "livekit_audio", "webrtc", "python", "other", UNKNOWN)
THREADS = Metric(
    "race_watch_threads",
    "gauge",
    "Threads of those processes, by whose they are where that was looked at.",
    ("kind",),
    tuple((kind,) for kind in THREAD_KINDS),
)
GROWN = ("handles", "subscriptions", "tasks", "fds", "threads")
GROWTH_UNITS = ("participant", "room")
# Of what is measured from outside, nobody counts participants.
GROWN_BY_THE_HOUR = ("fds", "threads")
_GROWTH_SETS = (
    *((resource, unit) for resource in GROWN for unit in GROWTH_UNITS),
    *((resource, "hour") for resource in GROWN_BY_THE_HOUR),
)
MEASURED_MEMORY = Metric(
    "race_watch_measured_resident_memory_bytes",
    "gauge",
    "Resident memory of the processes that are measured from outside; what they share is in each of them.",
)
GROWTH = Metric(
    "race_watch_growth",
    "gauge",
    "What each participant, or room, that is over leaves of a resource, in the process where that is most; in those measured "
    "from outside what each hour adds, once they are known to grow.",
    ("resource", "unit"),
    _GROWTH_SETS,
)
GROWTH_LOW = Metric(
    "race_watch_growth_low",
    "gauge",
    "The lower bound of race_watch_growth (95 %): above 0 it grows; 0 where there are too few to tell.",
    ("resource", "unit"),
    _GROWTH_SETS,
)
TIME_TO_FD_LIMIT = Metric(
    "race_watch_time_to_fd_limit_seconds",
    "gauge",
    "Seconds until the first of those processes runs out of descriptors, at its latest rate; +Inf without growth.",
)
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
HOOKS_OFF = Metric(
    "race_watch_hooks_off",
    "gauge",
    "Hooks that are switched off in live processes, having failed three times or found no target; /healthz says which and why.",
)
MISSING = Metric(
    "race_watch_processes_missing",
    "gauge",
    "Processes started below race_watch that have LiveKit's native library loaded and are not watched, at the last two looks.",
)
LAG = Metric(
    "race_watch_watcher_lag_seconds",
    "gauge",
    "Longest time from the statement of an event to its judgement, in the last half to whole minute.",
)
POLLED = Metric(
    "race_watch_watcher_last_poll_timestamp_seconds", "gauge", "When the watcher last read the journals, in seconds since 1970."
)
CPU = Metric(
    "race_watch_watcher_cpu_seconds", "counter", "CPU time of the watcher: reading, judging, exporting, answering requests."
)
EXPORTERS = ("incident_file", "otlp")
OUTCOMES = ("ok", "failed")
EXPORTS = Metric(
    "race_watch_exports",
    "counter",
    "Lines for the incident file and batches for OTLP, by what became of them.",
    ("exporter", "outcome"),
    tuple((exporter, outcome) for exporter in EXPORTERS for outcome in OUTCOMES),
)
OTLP_LOSSES = ("overflow", "refused", "rate")
OTLP_LOST = Metric(
    "race_watch_otlp_lost",
    "counter",
    "Spans and log records that OTLP lost: no room while the endpoint was away, refused by it; and sessions beyond the rate.",
    ("reason",),
    tuple((reason,) for reason in OTLP_LOSSES),
)
BUILD_LABELS = ("version", "python", "livekit", "livekit_agents")
# Combinations of versions in one worker that are told apart; an upgrade in place has two.
BUILDS_MAX = 4
BUILD_INFO = Metric(
    "race_watch_build_info",
    "gauge",
    "1; the versions of race_watch, and of Python, livekit and livekit-agents in the live processes that have livekit loaded.",
    BUILD_LABELS,
    (),
    BUILDS_MAX,
)

CATALOGUE = (
    INCIDENTS,
    OCCURRENCES,
    PROCESSES,
    MEASURED,
    ATTACHED,
    PROCESS_ENDED,
    SESSIONS,
    SESSIONS_LOST,
    ROOMS,
    PARTICIPANTS,
    OPEN_FDS,
    FD_LIMIT,
    FFI_HANDLES,
    SUBSCRIPTIONS,
    THREADS,
    MEASURED_MEMORY,
    GROWTH,
    GROWTH_LOW,
    TIME_TO_FD_LIMIT,
    ROOM_EVENTS,
    EVENTS,
    LOST,
    SUPPRESSED,
    CAPTURED,
    LOG_RECORDS,
    TASKS,
    HOOK_ERRORS,
    HOOKS_OFF,
    MISSING,
    LAG,
    POLLED,
    CPU,
    EXPORTS,
    OTLP_LOST,
    BUILD_INFO,
)
