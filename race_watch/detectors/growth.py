"""What a process holds grows with what has departed: handles, descriptors, threads, subscriptions, tasks.

A room, a failed connect or an abandoned room leaves several things behind at once: that is one failure. Its findings have one
key, and wait for each other so that the most telling one comes first. With participants, the SDK's objects are one failure and
descriptors and threads another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from race_watch.events import DescriptorsClassified, HandleHeld, ResourcesSampled, RoomConnected
from race_watch.findings import Finding
from race_watch.growth import runtimes
from race_watch.growth.account import account, hours_to_limit, may_be_garbage
from race_watch.growth.attribution import HOUR, Blame, blame
from race_watch.growth.kinds import counted
from race_watch.growth.process import Grown, ProcessGrowth
from race_watch.growth.reading import DESCRIPTORS, PARTICIPANT, RESOURCES, ROOM, THREADS, UNITS, Reading
from race_watch.growth.slope import Slope
from race_watch.records import JournalEnded, Process, Record

NAME = "growth"
SUMMARY = "What a process holds grows with the participants, rooms or failed connects that are over"
CATEGORIES = {resource.category: ("unknown",) for resource in RESOURCES}

TRACK_BEFORE_CONNECT = "track before connect"
# Processes that are followed; beyond it the one that has been followed longest is forgotten.
_KEPT = 512
_CLASSIFICATIONS_KEPT = 32
_GAUGED = (PARTICIPANT, ROOM)
_GAUGE_READINGS = 5
# Descriptors and threads settle that much later than the rest.
_WAIT_S = 40.0
_UNIT_UNSURE = 0.8
_MAYBE_GARBAGE = 0.8
# The most telling first.
_RANK = {resource.category: rank for rank, resource in enumerate((DESCRIPTORS, THREADS, *RESOURCES[:3]))}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A growth gauge: what each unit leaves of a resource, as far as the latest readings tell."""

    process: Process
    resource: str
    unit: str
    slope: Slope


@dataclass(slots=True)
class _Followed:
    process: Process
    growth: ProcessGrowth = field(default_factory=ProcessGrowth)
    rooms: set[int] = field(default_factory=set)
    open_fds: int = -1
    fd_limit: int = -1
    threads: dict[str, int] = field(default_factory=dict)
    handles: dict[str, int] = field(default_factory=dict)
    # Readings with the descriptors' kinds.
    classified: deque[Reading] = field(default_factory=lambda: deque(maxlen=_CLASSIFICATIONS_KEPT))
    held: dict[str, str] = field(default_factory=dict)
    reported: set[tuple[str, str]] = field(default_factory=set)
    # Key -> until when its findings wait for each other, and they.
    waiting: dict[str, tuple[float, list[Finding]]] = field(default_factory=dict)


class Growth:
    """Follows each process by itself, so that nothing is taken over when one replaces another."""

    def __init__(self) -> None:
        self._followed: dict[str, _Followed] = {}
        self._found: list[Finding] = []

    def observe(self, record: Record) -> None:
        event = record.event
        if isinstance(event, JournalEnded):
            followed = self._followed.pop(record.process.nonce, None)
            if followed is not None:
                self._release(followed, float("inf"))
        elif isinstance(event, (ResourcesSampled, RoomConnected, DescriptorsClassified, HandleHeld)):
            self._learn(self._follow(record.process), record.t_s, event)

    def confirm(self, now_s: float) -> list[Finding]:
        for followed in self._followed.values():
            self._release(followed, now_s)
        found, self._found = self._found, []
        return found

    def estimates(self) -> Iterator[Estimate]:
        """The slope of each resource by participants and by rooms, in each process where a few have left; alarm or none."""
        for followed in self._followed.values():
            for (resource, place), test in followed.growth.tests.items():
                if UNITS[place] in _GAUGED and (slope := test.slope(_GAUGE_READINGS)) is not None:
                    yield Estimate(followed.process, resource.name, UNITS[place].name, slope)

    def hours_to_limit(self) -> dict[str, float]:
        """Process nonce -> hours until its descriptors run out at the rate of the latest readings; infinite at none."""
        return {
            nonce: hours_to_limit(
                followed.growth.tests[DESCRIPTORS, UNITS.index(PARTICIPANT)].readings(), followed.open_fds, followed.fd_limit
            )
            for nonce, followed in self._followed.items()
        }

    def _follow(self, process: Process) -> _Followed:
        followed = self._followed.get(process.nonce)
        if followed is None:
            if len(self._followed) >= _KEPT:
                del self._followed[next(iter(self._followed))]
            followed = self._followed[process.nonce] = _Followed(process)
        return followed

    def _learn(
        self, followed: _Followed, t_s: float, event: ResourcesSampled | RoomConnected | DescriptorsClassified | HandleHeld
    ) -> None:
        if isinstance(event, ResourcesSampled):
            self._release(followed, t_s)
            followed.open_fds, followed.fd_limit = event.open_fds, event.fd_limit
            followed.handles = counted(event.handles)
            followed.threads = counted(event.threads) or followed.threads
            for grown in followed.growth.observe(t_s, event):
                self._judge(followed, t_s, grown)
        elif isinstance(event, RoomConnected):
            if len(followed.rooms) < 2:
                followed.rooms.add(event.room)
        elif isinstance(event, HandleHeld):
            followed.held[event.kind] = " <- ".join(event.chain)
        elif event.complete and followed.growth.last is not None:
            followed.classified.append(followed.growth.last._replace(t_s=t_s, kinds=event.kinds))
            self._count_runtimes(followed, t_s, counted(event.kinds))

    def _judge(self, followed: _Followed, t_s: float, grown: Grown) -> None:
        """Raises a finding unless this resource's growth by this unit has been reported."""
        blamed = blame(grown.alarm.points, grown.unit)
        if blamed is None or (grown.resource.name, blamed.unit) in followed.reported:
            return
        followed.reported.add((grown.resource.name, blamed.unit))
        finding = _finding(followed, grown, blamed)
        if blamed.unit in (PARTICIPANT.name, HOUR):
            self._found.append(finding)
        else:
            followed.waiting.setdefault(finding.key, (t_s + _WAIT_S, []))[1].append(finding)

    def _release(self, followed: _Followed, until_s: float) -> None:
        for key in [key for key, (due_s, _) in followed.waiting.items() if due_s <= until_s]:
            self._found += sorted(followed.waiting.pop(key)[1], key=lambda finding: _RANK[finding.category])

    def _count_runtimes(self, followed: _Followed, t_s: float, descriptors: dict[str, int]) -> None:
        """Tracks with a runtime of their own do not grow with anything: they are there at once."""
        n = runtimes.private_runtimes(descriptors, followed.threads, followed.handles.get("track", 0))
        told = (DESCRIPTORS.name, TRACK_BEFORE_CONNECT)
        if not n or told in followed.reported:
            return
        followed.reported.add(told)
        evidence = {
            "resource": DESCRIPTORS.name,
            "unit": TRACK_BEFORE_CONNECT,
            "slope": f"{runtimes.DESCRIPTORS} per {TRACK_BEFORE_CONNECT} (counted)",
            "n": str(n),
            "kinds": "pipe +2, epoll +1",
        }
        self._found.append(_raised(followed, t_s, DESCRIPTORS.category, evidence, 1.0))


def _finding(followed: _Followed, grown: Grown, blamed: Blame) -> Finding:
    confidence = (_UNIT_UNSURE if blamed.others else 1.0) * (_MAYBE_GARBAGE if may_be_garbage(grown) else 1.0)
    evidence = account(grown, blamed, followed.classified, followed.held, followed.open_fds, followed.fd_limit)
    return _raised(followed, grown.alarm.crossed.t_s, grown.resource.category, evidence, confidence)


def _raised(followed: _Followed, t_s: float, category: str, evidence: dict[str, str], confidence: float) -> Finding:
    resource, unit = evidence["resource"], evidence["unit"]
    bundle = ""
    if unit in (PARTICIPANT.name, HOUR):
        bundle = "system" if resource in (DESCRIPTORS.name, THREADS.name) else "sdk"
    return Finding(
        key=f"growth:{followed.process.nonce}:{unit}:{bundle}",
        category=category,
        verdict="unknown",
        component=f"{resource} per {unit}",
        process=followed.process,
        t_s=t_s,
        confidence=confidence,
        room=next(iter(followed.rooms)) if len(followed.rooms) == 1 else 0,
        channels=("resources",),
        evidence=evidence,
        title=f"{resource} grow with every {unit}",
    )
