"""What is known of the worker's processes: versions, rooms, live counts. From events alone, so a replay knows the same."""

from __future__ import annotations

from dataclasses import dataclass, field

from race_watch.events import (
    CallEnded,
    DescriptorsClassified,
    HookInstalled,
    HookStruck,
    LoopBorn,
    ResourcesSampled,
    RoomConnected,
    RoomEventDispatched,
    RoomHandleDropped,
    RoomNamed,
    SdkLoaded,
)
from race_watch.records import OUTSIDE, Process, Record

# The hooks of the host half, which this half does not import; not those that wait for a setting.
HOOKS = (
    "asyncio_loops",
    "asyncio_tasks",
    "children",
    "counting",
    "ffi_handles",
    "ffi_panics",
    "ffi_requests",
    "log_records",
    "process_end",
    "room_calls",
    "room_events",
)


@dataclass(slots=True)
class RoomFacts:
    """`participants` are the remote ones, counted from the room's events: after a lost record wrong until it connects again."""

    name: str = ""
    sid: str = ""
    connected: bool = False
    participants: int = 0


@dataclass(slots=True)
class ProcessFacts:
    """One process. `ordinal` counts the processes of its role, from 1; `process_name` is multiprocessing's."""

    process: Process
    ordinal: int
    sdk: dict[str, str]
    process_name: str = ""
    rooms: dict[int, RoomFacts] = field(default_factory=dict)
    resources: ResourcesSampled | None = None
    # By kind, as they were last looked at; threads have their number too, as `all`.
    descriptors: dict[str, int] = field(default_factory=dict)
    threads: dict[str, int] = field(default_factory=dict)
    hooks: set[str] = field(default_factory=set)
    hooks_off: dict[str, str] = field(default_factory=dict)
    ended: bool = False

    @property
    def role(self) -> str:
        return "job" if self.process_name.startswith("job_proc") else self.process.role

    def room(self, number: int) -> RoomFacts:
        """The facts of a room; begun on first sight."""
        known = self.rooms.get(number)
        if known is None:
            if len(self.rooms) >= _ROOMS_KEPT:
                del self.rooms[next(iter(self.rooms))]
            known = self.rooms[number] = RoomFacts()
        return known


# A worker's finished jobs whose facts are kept for incidents that are still open.
_ENDED_KEPT = 1024
# Rooms of one process whose names are kept; beyond it the oldest is forgotten.
_ROOMS_KEPT = 4096


_NEVER_S = float("inf")


class Fleet:
    """The processes by nonce. `sessions` counts the rooms that were connected."""

    def __init__(self) -> None:
        self.sessions = 0
        self.processes: dict[str, ProcessFacts] = {}
        self._ordinals: dict[str, int] = {}
        self._ended: list[str] = []
        self._oldest_s = _NEVER_S

    def of(self, process: Process) -> ProcessFacts:
        """The facts of a process; begun on first sight, and kept unless it is only measured from outside."""
        if process.role == OUTSIDE:
            return ProcessFacts(process, int(process.identity["attempt"]), {})
        known = self.processes.get(process.nonce)
        if known is None:
            ordinal = self._ordinals[process.role] = self._ordinals.get(process.role, 0) + 1
            sdk = process.identity.get("sdk", {})
            versions = {str(k): str(v) for k, v in sdk.items()} if isinstance(sdk, dict) else {}
            known = self.processes[process.nonce] = ProcessFacts(process, ordinal, versions)
        return known

    def observe(self, record: Record) -> None:
        facts, event = self.of(record.process), record.event
        self._oldest_s = min(self._oldest_s, record.t_s)
        if isinstance(event, SdkLoaded):
            facts.sdk[event.package] = event.version
        elif isinstance(event, RoomConnected):
            self.sessions += 1
            known = facts.room(event.room)
            known.name, known.sid = event.name, event.sid or known.sid
            known.connected, known.participants = True, event.participants
        elif isinstance(event, RoomNamed):
            facts.room(event.room).name = event.name
        elif isinstance(event, RoomEventDispatched):
            _follow(facts, event)
        elif isinstance(event, RoomHandleDropped) or (
            isinstance(event, CallEnded) and event.method == "disconnect" and event.outcome == "ok"
        ):
            facts.room(event.room).connected = False
        elif isinstance(event, ResourcesSampled):
            facts.resources = event
            facts.threads |= _counts(event.threads)
        elif isinstance(event, DescriptorsClassified):
            facts.descriptors = _counts(event.kinds) if event.complete else {}
        elif isinstance(event, LoopBorn):
            facts.process_name = event.process_name
        elif isinstance(event, HookInstalled):
            facts.hooks.add(event.hook)
        elif isinstance(event, HookStruck) and event.off:
            facts.hooks_off[event.hook] = event.error

    def ended(self, process: Process) -> None:
        """The process is gone: its gauges no longer count, its rooms are remembered for a while."""
        self.of(process).ended = True
        self._ended.append(process.nonce)
        while len(self._ended) > _ENDED_KEPT:
            self.processes.pop(self._ended.pop(0), None)

    def take_oldest_s(self) -> float | None:
        """When the oldest event was stated that has been observed since this was last asked; None if there was none."""
        oldest_s, self._oldest_s = self._oldest_s, _NEVER_S
        return None if oldest_s == _NEVER_S else oldest_s

    def hooks_of(self, facts: ProcessFacts) -> set[str]:
        """The hooks that are in a process: a fork has those of the process it was forked from."""
        found = set(facts.hooks)
        parents = {live.process.pid: live for live in self.live()} if facts.process.role == "fork" else {}
        while facts.process.role == "fork" and facts.process.ppid in parents:
            facts = parents.pop(facts.process.ppid)
            found |= facts.hooks
        return found

    def live(self) -> list[ProcessFacts]:
        return [facts for facts in self.processes.values() if not facts.ended]

    def room(self, process: Process, number: int) -> RoomFacts:
        """Name and sid of a room as far as they are known."""
        known = self.processes.get(process.nonce)
        return (known.rooms.get(number) if known is not None else None) or RoomFacts()


def _follow(facts: ProcessFacts, event: RoomEventDispatched) -> None:
    if event.event == "room_sid_changed":
        facts.room(event.room).sid = event.sid
    elif event.event == "participant_connected":
        facts.room(event.room).participants += 1
    elif event.event == "participant_disconnected":
        room = facts.room(event.room)
        room.participants = max(room.participants - 1, 0)
    elif event.event == "disconnected":
        facts.room(event.room).connected = False


def _counts(kinds: tuple[str, ...]) -> dict[str, int]:
    """Kind -> count of `kind=count`."""
    return {kind: int(count) for kind, _, count in (entry.partition("=") for entry in kinds)}
