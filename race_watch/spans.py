"""Spans as plain records, and ids that follow from the facts: the same live and in a replay."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

Value = str | int | float | bool | tuple[str, ...]
Attributes = Mapping[str, Value]

# LiveKit's own attribute names, so that its spans and ours can be searched alike; `pii` marks what is personal.
ROOM_NAME = "lk.pii.room_name"
ROOM_SID = "lk.room_sid"
PARTICIPANT_IDENTITY = "lk.pii.participant_identity"
PARTICIPANT_SID = "lk.participant_id"
TRACK_SID = "lk.track_sid"
JOB_ID = "lk.job_id"


@dataclass(frozen=True, slots=True)
class SpanIds:
    """A span by its ids: 32 and 16 hexadecimal digits, as in an incident record and an exemplar."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class Link:
    """A span that has to do with this one; `relation` says how."""

    to: SpanIds
    relation: str


@dataclass(frozen=True, slots=True)
class SpanEvent:
    name: str
    time_ns: int
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """A span that has ended. Times are unix nanoseconds; `error` is the status message of one that failed, else None."""

    ids: SpanIds
    name: str
    start_ns: int
    end_ns: int
    parent_id: str = ""
    attributes: Attributes = field(default_factory=dict)
    error: str | None = None
    events: tuple[SpanEvent, ...] = ()
    links: tuple[Link, ...] = ()


def ids_of(*parts: object) -> SpanIds:
    """The ids of a trace's first span, from what names it."""
    text = "|".join(map(str, parts)).encode()
    return SpanIds(hashlib.blake2b(text, digest_size=16).hexdigest(), hashlib.blake2b(text, digest_size=8).hexdigest())


def child_of(parent: SpanIds, *parts: object) -> SpanIds:
    """The ids of a span in the same trace."""
    return SpanIds(parent.trace_id, ids_of(parent.span_id, *parts).span_id)


def incident_span(incident_id: str) -> SpanIds:
    """The ids of an incident's own span."""
    return ids_of("incident", incident_id)
