"""What others say of a process that has ended: its parent, livekit-agents, the supervisor, its stderr, the kernel."""

from __future__ import annotations

import re
import signal
from collections import deque
from dataclasses import dataclass, field

from race_watch.detectors.deaths import A_SHELL
from race_watch.detectors.flight import Flight
from race_watch.events import ChildEnded, ChildLogged, ChildSignalled, MemoryKilled, StderrTold
from race_watch.records import Process, Record

# How far from the end the text on stderr and the kernel's count may be: a core dump takes seconds.
NEAR_S = 5.0
# The same of a text that names its process, whose end a busy parent tells late.
_NAMED_NEAR_S = 60.0
# Lines on stderr that come as close together tell of one death.
_ONE_DEATH_S = 1.0
_PIDS_KEPT = 2048
_TEXTS_KEPT = 64
_SAID_KEPT = 16
_FOREVER_S = float("inf")
_NUMBERED = re.compile(r"\((\d+)\)$")

# Signals that end nothing: a terminal sends many, and they would push out the one that did.
_END_NOTHING = frozenset(
    (
        signal.SIGCHLD,
        signal.SIGCONT,
        signal.SIGSTOP,
        signal.SIGTSTP,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGURG,
        signal.SIGWINCH,
    )
)


@dataclass(slots=True)
class Words:
    """What is said of a pid: pids are given again. `begun` has when its processes' journals began, and their start ticks."""

    ended: deque[tuple[float, ChildEnded, str]] = field(default_factory=lambda: deque(maxlen=_SAID_KEPT))
    signals: deque[tuple[float, ChildSignalled]] = field(default_factory=lambda: deque(maxlen=_SAID_KEPT))
    logged: deque[tuple[float, ChildLogged]] = field(default_factory=lambda: deque(maxlen=_SAID_KEPT))
    begun: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_SAID_KEPT))

    def of(self, process: Process) -> Words:
        """What is about this process and not about one that had its pid before, or has it since."""
        begun_s = process.monotonic_ns / 1e9
        next_s = min((other_s for other_s, _ in self.begun if other_s > begun_s), default=_FOREVER_S)
        ended = [entry for entry in self.ended if begun_s <= entry[0] < next_s][:1]
        until_s = ended[0][0] if ended else next_s
        return Words(
            deque(ended),
            deque(entry for entry in self.signals if begun_s <= entry[0] <= until_s),
            # Logged when the parent's loop gets to it.
            deque(entry for entry in self.logged if begun_s <= entry[0] < next_s),
        )


class Witnesses:
    """Collects what is said, by pid and by time."""

    def __init__(self) -> None:
        self._words: dict[int, Words] = {}
        self._texts: deque[tuple[float, StderrTold]] = deque(maxlen=_TEXTS_KEPT)
        self._memory_kills: deque[float] = deque(maxlen=_TEXTS_KEPT)

    def begun(self, process: Process) -> None:
        """A process has made a journal."""
        self._of(process.pid).begun.append((process.monotonic_ns / 1e9, process.start_ticks))

    def learn(self, record: Record) -> None:
        """Takes what a process or a supervisor says of others."""
        event, t_s = record.event, record.t_s
        if isinstance(event, ChildEnded):
            who = "its supervisor" if record.process.role == "watcher" else "its parent"
            self._of(event.pid).ended.append((t_s, event, who))
        elif isinstance(event, ChildSignalled):
            if event.signal not in _END_NOTHING:
                self._of(event.pid).signals.append((t_s, event))
        elif isinstance(event, ChildLogged):
            self._of(event.pid).logged.append((t_s, event))
        elif isinstance(event, StderrTold):
            self._texts.append((t_s, event))
        elif isinstance(event, MemoryKilled):
            self._memory_kills.extend([t_s] * min(event.count, _TEXTS_KEPT))

    def of(self, process: Process) -> Words:
        """What is said of this process."""
        return self._of(process.pid).of(process)

    def goes_on(self, process: Process) -> bool:
        """Whether the process has made another journal since: it has become another program, or was undone and armed again."""
        begun_s = process.monotonic_ns / 1e9
        later = (ticks for other_s, ticks in self._of(process.pid).begun if other_s > begun_s)
        return process.start_ticks > 0 and process.start_ticks in later

    def status(self, flight: Flight, words: Words) -> tuple[int | None, str]:
        """The exit status, and who knows it; None where nobody does."""
        if words.ended:
            return words.ended[0][1].status, words.ended[0][2]
        # `sh -c "python agent.py; ..."`: the shell is the supervisor's child, and passes the end on in its own exit status.
        process, parent = flight.process, self._of(flight.process.ppid)
        is_python = any(begun_s <= process.monotonic_ns / 1e9 for begun_s, _ in parent.begun)
        above = parent.of(process)
        if above.ended and above.ended[0][1].status > 128 and flight.exiting is None and not is_python:
            return above.ended[0][1].status, A_SHELL
        return None, ""

    def take_text(self, end_s: float, process: Process) -> StderrTold | None:
        """The text that tells most of those that may be this process's, taken out with the others of its death."""
        near = [entry for entry in self._texts if self._may_be_of(process, end_s, *entry)]
        named = [entry for entry in near if _number(entry[1]) == process.pid]
        if named:
            # It may have survived earlier ones.
            near = [entry for entry in named if named[-1][0] - entry[0] < _ONE_DEATH_S]
        if not near:
            return None
        # A panic is told twice up to 1.0.25: its own line has the place.
        taken = told_s, told = min(near, key=lambda entry: (entry[1].kind != "rust_panic", entry[0]))
        for entry in list(self._texts):
            same_death = abs(entry[0] - told_s) < _ONE_DEATH_S and not _is_anothers(entry[1], told)
            if entry is taken or (same_death and not self._names_another(process, *entry)):
                self._texts.remove(entry)
        return told

    def _may_be_of(self, process: Process, end_s: float, told_s: float, text: StderrTold) -> bool:
        """Near the end, and not of a process that it names."""
        if _number(text) == process.pid:
            return max(process.monotonic_ns / 1e9, end_s - _NAMED_NEAR_S) <= told_s <= end_s + NEAR_S
        return abs(told_s - end_s) <= NEAR_S and not self._names_another(process, told_s, text)

    def _names_another(self, process: Process, t_s: float, text: StderrTold) -> bool:
        """Whether it has the number of another process with a journal, of that time."""
        number = _number(text)
        words = self._words.get(number) if number != process.pid else None
        if words is None or not any(begun_s <= t_s for begun_s, _ in words.begun):
            return False
        return not any(ended_s < t_s - NEAR_S for ended_s, _, _ in words.ended)

    def take_memory_kill(self, end_s: float) -> bool:
        """Whether the kernel counts a kill near that time, which is then taken."""
        for t_s in self._memory_kills:
            if abs(t_s - end_s) <= NEAR_S:
                self._memory_kills.remove(t_s)
                return True
        return False

    def _of(self, pid: int) -> Words:
        known = self._words.get(pid)
        if known is None:
            if len(self._words) >= _PIDS_KEPT:
                del self._words[next(iter(self._words))]
            known = self._words[pid] = Words()
        return known


def _number(text: StderrTold) -> int:
    """That of the thread which tells, which the first thread of a process has from the process; 0 where it is not told."""
    found = _NUMBERED.search(text.thread)
    return int(found[1]) if found else 0


def _is_anothers(text: StderrTold, told: StderrTold) -> bool:
    """Whether a text must be another process's: each runtime tells of a death once, and Rust has the place in that line."""
    return text.kind == told.kind and (bool(text.place) or text.kind != "rust_panic")
