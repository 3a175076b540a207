"""An incident as an ERROR span of its own and as a log record.

A span of its own, in a trace of its own: room sessions last for hours, so one that waited for its session's span would come too
late for every tail sampler, or never. Links lead to the session and to the application's span.
"""

from __future__ import annotations

from dataclasses import dataclass

from race_watch.incidents import Incident
from race_watch.spans import (
    JOB_ID,
    PARTICIPANT_IDENTITY,
    PARTICIPANT_SID,
    ROOM_NAME,
    ROOM_SID,
    TRACK_SID,
    Attributes,
    Link,
    Span,
    SpanEvent,
    SpanIds,
    Value,
)

EVENT_NAME = "race_watch.incident"


# By verdict, in OpenTelemetry's words.
SEVERITIES = {"sdk": "ERROR", "app": "ERROR", "native": "ERROR", "unknown": "WARN", "benign": "INFO"}


@dataclass(frozen=True, slots=True)
class Log:
    """A log record. `ids` are the span that its incident's record names, if any."""

    ids: SpanIds | None
    time_ns: int
    severity: str
    body: str
    attributes: Attributes


def span(incident: Incident) -> Span:
    """The incident as a span: as long as a moment, and failed. Its record has the span's ids."""
    described = attributes(incident)
    exception = {name: value for name, value in described.items() if name.startswith("exception.")}
    links = [Link(SpanIds(where["trace_id"], where["span_id"]), relation) for relation, where in sorted(incident.links.items())]
    return Span(
        ids=SpanIds(incident.trace_id or "", incident.span_id or ""),
        name=f"incident {incident.category}",
        start_ns=incident.time_unix_ns,
        end_ns=incident.time_unix_ns,
        attributes={**described, "error.type": incident.exception["type"] if incident.exception else incident.category},
        error=incident.title,
        # Attributes can be searched everywhere; this event is what a trace's page shows as its exception.
        events=(SpanEvent("exception", incident.time_unix_ns, exception),) if exception else (),
        links=tuple(links),
    )


def log(incident: Incident) -> Log:
    """The incident as a log record, as serious as its verdict."""
    return Log(
        ids=SpanIds(incident.trace_id, incident.span_id) if incident.trace_id and incident.span_id else None,
        time_ns=incident.time_unix_ns,
        severity=SEVERITIES[incident.verdict],
        body=f"{incident.category}: {incident.title}",
        attributes=attributes(incident),
    )


def attributes(incident: Incident) -> dict[str, Value]:
    """What is known of the incident, under LiveKit's and OpenTelemetry's names where they have one."""
    found: dict[str, Value | None] = {
        "race_watch.incident.id": incident.id,
        "race_watch.category": incident.category,
        "race_watch.verdict": incident.verdict,
        "race_watch.signature": incident.signature,
        "race_watch.title": incident.title,
        "race_watch.confidence": incident.confidence,
        "race_watch.component": incident.component,
        "race_watch.fixed_in": incident.fixed_in,
        "race_watch.upstream": incident.upstream,
        "race_watch.advice": incident.advice,
        "race_watch.channels": tuple(incident.channels),
        "race_watch.process.role": incident.process["role"],
        "race_watch.task.coro": incident.task["coro"],
        "race_watch.task.created_at": incident.task["created_at"],
        "process.pid": incident.process["pid"],
        JOB_ID: incident.process.get("job_id"),
        ROOM_NAME: incident.room["name"],
        ROOM_SID: incident.room["sid"],
        PARTICIPANT_IDENTITY: incident.participant["identity"],
        PARTICIPANT_SID: incident.participant["sid"],
        TRACK_SID: incident.track_sid,
    }
    found.update({f"race_watch.sdk.{package}": version for package, version in incident.sdk.items()})
    found.update({f"race_watch.evidence.{name}": text for name, text in incident.evidence.items()})
    if incident.exception is not None:
        found["exception.type"] = incident.exception["type"]
        found["exception.message"] = incident.exception["message"]
        found["exception.stacktrace"] = "\n".join(incident.exception["frames"])
    return {name: value for name, value in found.items() if value not in (None, "", ())}
