"""Facts as the host half states them, made by hand, and the way they take through detectors and incidents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from race_watch import detectors, events
from race_watch.findings import Finding
from race_watch.fleet import Fleet
from race_watch.incidents import Incident, Incidents
from race_watch.records import Process, Record

FOREVER_S = float("inf")
DISPATCH = ("livekit/rtc/room.py:_listen_task:675", "livekit/rtc/room.py:_on_room_event:732")
EMIT = (*DISPATCH, "livekit/rtc/event_emitter.py:emit:58")
CALLBACK = (*EMIT, "app/agent.py:on_join:12")
REQUEST = ("app/agent.py:entrypoint:20", "livekit/rtc/audio_stream.py:__init__:133", "livekit/rtc/_ffi_client.py:request:270")
GETTER = ("app/agent.py:entrypoint:20", "livekit/rtc/room.py:local_participant:232")


def process(nonce: str = "aa", pid: int = 100, *, sdk: dict[str, str] | None = None, role: str = "main") -> Process:
    """A process that began at monotonic 0 and unix second 1,000."""
    identity = {"role": role, "python": "3.11.7", "sdk": {"livekit": "1.1.8"} if sdk is None else sdk}
    return Process(pid, 1, "b007", 7, nonce, 1_000_000_000_000, 0, identity)


MAIN = process()


def record(event: events.Event, t_s: float = 1.0, number: int = 0, of: Process = MAIN) -> Record:
    return Record(of, number, t_s, event)


def seen(channel: str, fact: str = "aa:1", **other: Any) -> events.ExceptionSeen:
    """An exception: by default the SDK's KeyError on a room event."""
    values: dict[str, Any] = {
        "fact": fact,
        "channel": channel,
        "type": "KeyError",
        "message": "TR_1",
        "frames": DISPATCH,
        "room": 1,
        "event": "local_track_unpublished",
        "identity": "",
        "track_sid": "TR_1",
        "request": "",
        "task": "",
        "task_name": "Task-2",
        "task_coro": "",
        "task_created_at": "",
        "logger": "",
        "template": "",
        "trace_id": "",
        "span_id": "",
    }
    return events.ExceptionSeen(**{**values, **other})


def again(channel: str, fact: str = "aa:1", **other: Any) -> events.ExceptionSeenAgain:
    values: dict[str, Any] = {
        "fact": fact,
        "channel": channel,
        "room": 0,
        "task": "",
        "task_name": "",
        "task_coro": "",
        "task_created_at": "",
        "logger": "",
        "template": "",
    }
    return events.ExceptionSeenAgain(**{**values, **other})


def sampled(open_fds: int, ffi_handles: int, rooms: int, participants: int, **other: Any) -> events.ResourcesSampled:
    """Counts at a lifecycle edge; what is not said is 0."""
    values = {spec.name: 0 if spec.type == "int" else () for spec in fields(events.ResourcesSampled)}
    counts = {"edge": 1, "open_fds": open_fds, "ffi_handles": ffi_handles, "rooms": rooms, "participants": participants}
    return events.ResourcesSampled(**{**values, **counts, **other})


def came_by(channels: Sequence[str], **first: Any) -> list[events.Event]:
    """One exception that these channels saw, in this order."""
    return [seen(channels[0], **first), *(again(channel, first.get("fact", "aa:1")) for channel in channels[1:])]


@dataclass
class Judged:
    """What came of facts. `findings` are all that detectors raised, `published` the incidents as they were confirmed."""

    incidents: Incidents
    fleet: Fleet
    findings: list[Finding] = field(default_factory=list)
    published: list[Incident] = field(default_factory=list)

    def only(self) -> Incident:
        assert [i.category for i in self.published] == [self.published[0].category], self.published
        assert sum(group.incidents for group in self.incidents.groups.values()) == 1
        assert self.published[0].count == 1
        return self.published[0]


def judge(records: Iterable[Record], polls_s: Iterable[float] = ()) -> Judged:
    """Takes records in the order of their time through all detectors; looks at the given times and at the end of time."""
    fleet = Fleet()
    judged = Judged(Incidents(fleet), fleet)
    built = detectors.build()

    def confirm(now_s: float) -> None:
        for detector in built:
            for finding in detector.confirm(now_s):
                judged.findings.append(finding)
                incident = judged.incidents.add(finding, now_s)
                if incident is not None:
                    judged.published.append(incident)

    due = sorted(polls_s)
    for one in sorted(records, key=lambda r: (r.t_s, r.number)):
        while due and due[0] < one.t_s:
            confirm(due.pop(0))
        fleet.observe(one)
        for detector in built:
            detector.observe(one)
        if isinstance(one.event, events.ExceptionSeenAgain):
            judged.incidents.seen_again(one.event.fact, one.event.channel, one.t_s)
    for now_s in [*due, FOREVER_S]:
        confirm(now_s)
    return judged


def at_times(happened: Sequence[events.Event], start_s: float = 1.0, apart_s: float = 0.01) -> list[Record]:
    return [record(event, start_s + index * apart_s, index) for index, event in enumerate(happened)]
