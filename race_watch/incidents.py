"""Findings become incidents: one failure is one incident, one fingerprint in one room is one incident with a count."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from race_watch.findings import ADVICE, Finding, function_of
from race_watch.fleet import Fleet
from race_watch.records import Process
from race_watch.signatures import name as name_finding
from race_watch.signatures.record import Form, Signature, is_affected
from race_watch.spans import SpanIds, incident_span

UNCLASSIFIED = "unclassified"

# An incident's count is published again when nothing was added to it for this long.
SETTLE_S = 5.0
# Incidents of one group that get a record of their own, a minute; the rest is counted in the group only.
RECORDS_PER_MINUTE = 30
_FRAMES_IN_FINGERPRINT = 3
_KEYS_KEPT = 4096
# Incidents whose repeats are still counted in their own record; beyond it the one that has been quiet longest is closed.
_INCIDENTS_KEPT = 1024
# Room names of a group that are kept for the summary; `Group.incidents` says how many there were.
_ROOMS_NAMED = 16


@dataclass(slots=True)
class Incident:
    """The public record: what `--incidents` writes, `report --json` prints. Fields are added, never renamed."""

    id: str
    time_unix_ns: int
    category: str
    verdict: str
    signature: str
    title: str
    confidence: float
    count: int
    component: str
    sdk: dict[str, str]
    fixed_in: str | None
    upstream: str
    advice: str
    process: dict[str, Any]
    room: dict[str, str | None]
    participant: dict[str, str | None]
    track_sid: str | None
    task: dict[str, str | None]
    exception: dict[str, Any] | None
    channels: list[str]
    trace_id: str | None
    span_id: str | None
    evidence: dict[str, str]
    links: dict[str, dict[str, str]]

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Group:
    """One fingerprint everywhere: what summaries, metrics and alerts speak of. `package` decides `fixed_in`."""

    fingerprint: str
    category: str
    verdict: str
    signature: str
    title: str
    component: str
    package: str
    fixed_in: str | None
    upstream: str
    advice: str
    versions: set[str] = field(default_factory=set)
    rooms: set[str] = field(default_factory=set)
    incidents: int = 0
    occurrences: int = 0
    unrecorded: int = 0
    minute_start_s: float = float("-inf")
    minute_records: int = 0


@dataclass(slots=True)
class _Open:
    incident: Incident
    finding: Finding
    group: Group
    changed_s: float
    recorded: bool
    published_count: int = 0
    dirty: bool = False


class Incidents:
    """The incidents of one run. Pure: findings and a clock reading in, records to publish out.

    Args:
        session_of: Given where incidents are exported as spans of their own: the span of a room's session, if it has one.
    """

    def __init__(self, fleet: Fleet, session_of: Callable[[Process, int], SpanIds | None] | None = None) -> None:
        self._fleet = fleet
        self._session_of = session_of
        self.groups: dict[str, Group] = {}
        # Incident id -> its state, the one that has been quiet longest first.
        self._open: dict[str, _Open] = {}
        self._closed: list[_Open] = []
        # Failure key -> the incident that has it.
        self._keys: dict[str, str] = {}

    def add(self, finding: Finding, now_s: float) -> Incident | None:
        """Takes a finding.

        Returns:
            The incident if this is its first finding and its group's minute has room for a record; else None.
        """
        owner = self._open.get(self._keys.get(finding.key, ""))
        if owner is not None:
            self._merge(owner, finding, now_s)
            return None
        named = name_finding(finding, self._fleet.of(finding.process).sdk)
        fingerprint = _fingerprint(finding, named[0].id if named else UNCLASSIFIED)
        # One journal tells of all processes that are measured from outside.
        where = f"{finding.process.nonce}:{finding.process.pid}:{finding.room}"
        identity = hashlib.blake2b(f"{fingerprint}|{where}".encode(), digest_size=8).hexdigest()
        known = self._open.get(identity)
        self._remember(finding, identity)
        if known is not None:
            known.incident.count += 1
            known.group.occurrences += 1
            self._changed(known, now_s)
            return None
        group = self._group(fingerprint, finding, named)
        incident = self._incident(identity, finding, named)
        recorded = _admit(group, finding.t_s)
        self._open[identity] = _Open(incident, finding, group, now_s, recorded, 1)
        while len(self._open) > _INCIDENTS_KEPT:
            self._closed.append(self._open.pop(next(iter(self._open))))
        group.incidents += 1
        group.occurrences += 1
        group.versions.add(incident.sdk.get(group.package, "unknown version"))
        _name_room(group, incident.room["name"])
        return incident if recorded else None

    def seen_again(self, fact: str, channel: str, now_s: float) -> None:
        """One more channel saw a failure that is an incident already."""
        owner = self._open.get(self._keys.get(fact, ""))
        if owner is not None and channel not in owner.incident.channels:
            owner.incident.channels.append(channel)
            owner.dirty = True
            self._changed(owner, now_s)

    def settled(self, now_s: float, *, final: bool = False) -> list[Incident]:
        """Incidents that have changed since they were published, and have been quiet since; all of them when `final`."""
        again = []
        for entry in (*self._closed, *self._open.values()):
            self._resolve_room(entry)
            changed = entry.incident.count != entry.published_count or entry.dirty
            over = final or entry.incident.id not in self._open or now_s - entry.changed_s >= SETTLE_S
            if changed and entry.recorded and over:
                entry.published_count, entry.dirty = entry.incident.count, False
                again.append(entry.incident)
        self._closed.clear()
        return again

    def _changed(self, entry: _Open, now_s: float) -> None:
        entry.changed_s = now_s
        self._open[entry.incident.id] = self._open.pop(entry.incident.id)

    def _resolve_room(self, entry: _Open) -> None:
        """A room that was touched before it was connected gets its name later."""
        if entry.incident.room["name"] or not entry.finding.room:
            return
        room = self._fleet.room(entry.finding.process, entry.finding.room)
        if room.name:
            entry.incident.room = {"name": room.name, "sid": room.sid or None}
            entry.dirty = True
            _name_room(entry.group, room.name)

    def _remember(self, finding: Finding, identity: str) -> None:
        for key in (finding.key, *finding.claims):
            if len(self._keys) >= _KEYS_KEPT:
                del self._keys[next(iter(self._keys))]
            self._keys[key] = identity

    def _merge(self, owner: _Open, finding: Finding, now_s: float) -> None:
        self._remember(finding, owner.incident.id)
        for channel in finding.channels:
            if channel not in owner.incident.channels:
                owner.incident.channels.append(channel)
        for key, value in finding.evidence.items():
            owner.incident.evidence.setdefault(key, value)
        owner.dirty = True
        self._changed(owner, now_s)

    def _group(self, fingerprint: str, finding: Finding, named: tuple[Signature, Form] | None) -> Group:
        group = self.groups.get(fingerprint)
        if group is None:
            signature, form = named or (None, None)
            group = self.groups[fingerprint] = Group(
                fingerprint=fingerprint,
                category=finding.category,
                verdict=form.verdict if form else finding.verdict,
                signature=signature.id if signature else UNCLASSIFIED,
                title=signature.title if signature else _describe(finding),
                component=finding.component,
                package=signature.package if signature else "livekit",
                fixed_in=form.fixed_in if form else None,
                upstream=signature.upstream if signature else "",
                advice=_advice(finding, named),
            )
        return group

    def _incident(self, identity: str, finding: Finding, named: tuple[Signature, Form] | None) -> Incident:
        facts = self._fleet.of(finding.process)
        room = self._fleet.room(finding.process, finding.room)
        signature, form = named or (None, None)
        evidence = dict(finding.evidence)
        if finding.event:
            evidence.setdefault("event", finding.event)
        confidence = finding.confidence
        if signature is not None and form is not None:
            confidence *= _version_evidence(signature, form, facts.sdk, evidence)
            if form.note:
                evidence["note"] = form.note
        trace, links = self._spans(identity, finding)
        failed = {"type": finding.exception, "message": finding.message, "frames": list(finding.frames)}
        return Incident(
            id=identity,
            time_unix_ns=finding.process.wall(finding.t_s),
            category=finding.category,
            verdict=form.verdict if form else finding.verdict,
            signature=signature.id if signature else UNCLASSIFIED,
            title=signature.title if signature else _describe(finding),
            confidence=round(confidence, 2),
            count=1,
            component=finding.component,
            sdk=dict(facts.sdk),
            fixed_in=form.fixed_in if form else None,
            upstream=signature.upstream if signature else "",
            advice=_advice(finding, named),
            process={
                "pid": finding.process.pid,
                "role": facts.role,
                "attempt": facts.ordinal,
                "job_id": evidence.pop("job_id", None),
            },
            room={"name": room.name or None, "sid": room.sid or None},
            participant={"identity": finding.identity or None, "sid": finding.participant_sid or None},
            track_sid=finding.track_sid or None,
            task={
                "name": finding.task_name or None,
                "coro": finding.task_coro or None,
                "created_at": finding.task_created_at or None,
            },
            exception=failed if finding.exception else None,
            channels=list(finding.channels),
            trace_id=trace.trace_id if trace else None,
            span_id=trace.span_id if trace else None,
            evidence=evidence,
            links=links,
        )

    def _spans(self, identity: str, finding: Finding) -> tuple[SpanIds | None, dict[str, dict[str, str]]]:
        """Where a trace backend has the incident, its own span or else the application's, and the spans it has to do with."""
        application = SpanIds(finding.trace_id, finding.span_id) if finding.trace_id else None
        session = self._session_of(finding.process, finding.room) if self._session_of is not None else None
        links = {"application": application, "room_session": session}
        own = incident_span(identity) if self._session_of is not None else application
        return own, {
            relation: {"trace_id": ids.trace_id, "span_id": ids.span_id} for relation, ids in links.items() if ids is not None
        }


def _name_room(group: Group, name: str | None) -> None:
    if name and len(group.rooms) < _ROOMS_NAMED:
        group.rooms.add(name)


def _admit(group: Group, t_s: float) -> bool:
    """By the time of the failure, so that a replay admits the same ones."""
    if t_s - group.minute_start_s >= 60.0:
        group.minute_start_s, group.minute_records = t_s, 0
    group.minute_records += 1
    if group.minute_records <= RECORDS_PER_MINUTE:
        return True
    group.unrecorded += 1
    return False


def _version_evidence(signature: Signature, form: Form, sdk: Mapping[str, str], evidence: dict[str, str]) -> float:
    """Says in `evidence` what the installed version makes of the match; returns how much confidence is left."""
    version = sdk.get(signature.package)
    affected = is_affected(form, version)
    if affected is None:
        evidence["version"] = f"the installed version of {signature.package} is not known"
        return 0.8
    if not affected:
        evidence["version"] = (
            f"{signature.package} {version} is outside the affected {form.affected}: a regression or a variant"
        )
        return 0.6
    return 1.0


def _fingerprint(finding: Finding, signature: str) -> str:
    frames = [function_of(frame) for frame in finding.frames[-_FRAMES_IN_FINGERPRINT:]]
    text = "|".join((finding.category, signature, finding.component, finding.event, finding.request, finding.title, *frames))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _advice(finding: Finding, named: tuple[Signature, Form] | None) -> str:
    return (named[1].advice or named[0].advice) if named else finding.advice or ADVICE.get(finding.category, "")


def _describe(finding: Finding) -> str:
    """A title for what has no name yet, from its shape."""
    if finding.title:
        return finding.title
    what = finding.exception.rpartition(".")[2] or finding.category.replace("_", " ")
    if finding.event:
        return f"{what} on {finding.event}"
    if finding.request:
        return f"{what} on request {finding.request}"
    if finding.task_coro:
        return f"{what} in task {finding.task_coro.rpartition(':')[2]}"
    return f"{what} in {finding.component.rpartition('/')[2]}"
