"""A process has ended: by itself, or by native code, its supervisor, the kernel or somebody else; and what it was doing.

Three journals tell of one end: its own (the flight record), its parent's (exit status, signals sent, what livekit-agents
logged) and the supervisor's (the same for the main process, the panic text on stderr, kills for want of memory). They are
joined by pid and time, once everybody had the time to speak.
"""

from __future__ import annotations

import signal
from collections import Counter
from dataclasses import replace

from race_watch.detectors.deaths import CHOSEN, Clues, Death, decide, may_have_crashed, may_want_memory
from race_watch.detectors.flight import Flight
from race_watch.detectors.witnesses import NEAR_S, Witnesses, Words
from race_watch.events import ChildLogged, FfiPanicked, StderrTold
from race_watch.findings import Finding
from race_watch.records import JournalEnded, Process, Record

NAME = "process_end"
SUMMARY = "A process was ended by native code, by its supervisor, or from outside while it was at work"
CATEGORIES = {"native_abort": ("native", "unknown"), "process_killed": ("app", "sdk", "unknown")}

# The roles of journals that are no worker's process.
WATCHERS = frozenset(("watcher", "stderr"))

# The parent's word comes with its next poll; livekit-agents kills half a second after it has begun to.
_HOLD_S = 1.5
# A panic that was reported to a process which lives on: its SIGTERM is ignored, or handled by a drain.
_LIVES_ON_S = 5.0
# Signals by which a supervisor is asked to end, and which it passes on.
_ASK_TO_END = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT))

# The key of an end is its process's nonce with this behind it; that of a panic which it survives has the other.
END = "#end"
_PANIC = "#panic"

_CRASHED = frozenset(("native_abort", "ffi_panic"))
_KILLED = frozenset(("supervisor_kill", "oom_kill", "killed", "unknown"))
_TITLES = {
    "native_abort": "native code ended the process",
    "ffi_panic": "a panic of the native library ended the process",
    "supervisor_kill": "its supervisor killed the process",
    "oom_kill": "the kernel killed the process for want of memory",
    "killed": "SIGKILL from outside ended the process",
    "terminated": "a signal from outside ended the job's process",
    "unknown": "the process ended and left no word",
}
_SURVIVED = "a panic of the native library, which the process survives"
_ADVICE = {
    "supervisor_kill": "livekit-agents gave the process up: look for what blocks its loop, holds its memory or its shutdown.",
    "oom_kill": "Raise the container's memory limit, or find what grows: see the handles and descriptors per participant.",
    "killed": "Somebody sent SIGKILL: a grace period that ran out, as a rule. Give the worker the time that its drain takes.",
    "unknown": "Start the worker under `race-watch run`, which learns how it ends; without a parent nobody can tell.",
}
_MEMORY = "process exceeded memory limit"


class ProcessEnd:
    """One judgement a process, one finding where it is a fault.

    Attributes:
        reasons: Ends by reason, those without a fault too.
        lost: Rooms that were connected when their process ended otherwise than by itself, by reason.
    """

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self._flights: dict[str, Flight] = {}
        self._ended: dict[str, float] = {}
        self._panicked: dict[str, float] = {}
        self._survived: list[Finding] = []
        self._witnesses = Witnesses()

    def observe(self, record: Record) -> None:
        process, event, t_s = record.process, record.event, record.t_s
        self._witnesses.learn(record)
        if process.role in WATCHERS:
            return
        flight = self._flight(process)
        if isinstance(event, JournalEnded):
            # Undone, or another program by now: it is not ours to follow any more.
            if event.running or flight.disarmed:
                del self._flights[process.nonce]
            else:
                self._ended[process.nonce] = t_s
            return
        # Told of the state before this record, so that a replay, which sees all records first, tells the same.
        self._look_for_survival(flight, t_s)
        flight.observe(record)
        if isinstance(event, FfiPanicked):
            self._panicked.setdefault(process.nonce, t_s)

    def confirm(self, now_s: float) -> list[Finding]:
        ends = []
        for flight, words, end_s in self._due(now_s):
            if words.ended:
                self._look_for_survival(flight, end_s)
            self._panicked.pop(flight.process.nonce, None)
            ends.append(self._judge(flight, words, end_s))
        for nonce in list(self._panicked):
            if nonce in self._flights and nonce not in self._ended:
                self._look_for_survival(self._flights[nonce], now_s)
        survived, self._survived = self._survived, []
        return survived + [finding for finding in ends if finding is not None]

    def _look_for_survival(self, flight: Flight, now_s: float) -> None:
        t_s = self._panicked.get(flight.process.nonce)
        if t_s is not None and now_s - t_s >= _LIVES_ON_S:
            del self._panicked[flight.process.nonce]
            if not flight.disarmed:
                self._survived.append(self._lives_on(flight, t_s))

    def _due(self, now_s: float) -> list[tuple[Flight, Words, float]]:
        """The ends that everybody has had the time to speak of, in the order in which they get what is said of no pid."""
        due = []
        for nonce, t_s in list(self._ended.items()):
            if now_s - t_s >= _HOLD_S:
                del self._ended[nonce]
                flight = self._flights.pop(nonce)
                words = self._witnesses.of(flight.process)
                due.append((flight, words, words.ended[0][0] if words.ended else t_s))
        return sorted(due, key=lambda entry: (not entry[1].ended, entry[2]))

    def _flight(self, process: Process) -> Flight:
        known = self._flights.get(process.nonce)
        if known is None:
            known = self._flights[process.nonce] = Flight(process)
            self._witnesses.begun(process)
        return known

    def _judge(self, flight: Flight, words: Words, end_s: float) -> Finding | None:
        # A fork that has said nothing and whose end nobody tells has become another program, as a rule.
        if self._witnesses.goes_on(flight.process) or (flight.silent and not words.ended):
            return None
        clues = self._clues(flight, words, end_s)
        death = decide(clues)
        self.reasons[death.reason] += 1
        if death.reason not in CHOSEN:
            self.lost[death.reason] += len(flight.sessions)
        if not _is_fault(death, flight, clues):
            return None
        return _finding(flight, death, clues, end_s, words.logged[-1][1] if words.logged else None)

    def _clues(self, flight: Flight, words: Words, end_s: float) -> Clues:
        status, told_by = self._witnesses.status(flight, words)
        sent = tuple((event.signal, event.sender) for _, event in words.signals)
        panic = flight.panic
        asked_to_end = panic is not None and any(
            event.sender and event.signal in _ASK_TO_END and t_s > panic[0] for t_s, event in words.signals
        )
        # Of several processes that share a stderr, only one that native code may have ended takes a text.
        told_s = end_s if may_have_crashed(status, told_by) else panic[0] if panic is not None else None
        parents = any(sender == 0 for _, sender in sent)
        return Clues(
            status=status,
            told_by=told_by,
            exiting=flight.exiting,
            panic=panic[1] if panic is not None and not asked_to_end else None,
            native_text=self._witnesses.take_text(told_s, flight.process) if told_s is not None else None,
            sent=sent,
            said=tuple(event.text for _, event in words.logged),
            memory_kill=not parents and may_want_memory(status, told_by) and self._witnesses.take_memory_kill(end_s),
        )

    def _lives_on(self, flight: Flight, t_s: float) -> Finding:
        text = self._witnesses.take_text(t_s, flight.process)
        clues = Clues(panic=flight.panic[1] if flight.panic else "", native_text=text)
        by = "the native library reported a panic; the process lives on, its SIGTERM is ignored or it drains"
        # Said of the moment that shows it, so that a watcher which takes over knows whether it was told.
        told = _finding(flight, Death("ffi_panic", by), clues, t_s + _LIVES_ON_S, None)
        evidence = {name: value for name, value in told.evidence.items() if name != "sessions_lost"}
        nonce = flight.process.nonce
        return replace(told, key=nonce + _PANIC, claims=(nonce + END,), title=_SURVIVED, evidence=evidence)


def _is_fault(death: Death, flight: Flight, clues: Clues) -> bool:
    if death.reason in _CRASHED:
        return True
    at_work = bool(flight.sessions or flight.calls)
    if death.reason in _KILLED:
        return at_work or bool(clues.said)
    # A job of livekit-agents is meant to ignore SIGTERM, and to take SIGUSR1 for a dump of its stacks.
    return death.reason == "terminated" and _is_job(flight) and at_work


def _is_job(flight: Flight) -> bool:
    return flight.process_name.startswith("job_proc")


def _finding(flight: Flight, death: Death, clues: Clues, end_s: float, logged: ChildLogged | None) -> Finding:
    crashed = death.reason in _CRASHED
    evidence = {"reason": death.reason, "decided_by": death.decided_by, **flight.describe(end_s)}
    if death.signal:
        evidence["signal"] = death.signal
    if clues.said:
        evidence["supervisor_said"] = clues.said[0]
    if logged is not None and logged.job_id:
        evidence["job_id"] = logged.job_id
    if flight.cancelled_connects:
        evidence["cancelled_connects"] = str(flight.cancelled_connects)
    if _is_job(flight):
        evidence["job_start"] = flight.process.role
    elif flight.job_threads:
        evidence["executor"] = "thread"
    text = clues.native_text
    if text is not None:
        evidence["panic"], evidence["panic_thread"], evidence["panic_place"] = text.message, text.thread, text.place
        if text.kind == "glibc":
            evidence["glibc"] = text.message
    elif clues.panic:
        evidence["panic"] = clues.panic
    evidence["sessions_lost"] = evidence["rooms_live"]
    request = flight.request[1] if crashed and flight.request is not None and end_s - flight.request[0] < NEAR_S else ""
    return Finding(
        key=flight.process.nonce + END,
        category="native_abort" if crashed else "process_killed",
        verdict=_verdict(death, flight, clues),
        component=_component(flight, text, crashed),
        process=flight.process,
        t_s=end_s,
        confidence=death.confidence,
        room=flight.room(),
        identity=flight.participant(),
        request=request,
        channels=_channels(clues),
        evidence={name: value for name, value in evidence.items() if value},
        title=_TITLES[death.reason] + (f" ({death.signal})" if death.signal else ""),
        advice=_advice(death, clues),
    )


def _advice(death: Death, clues: Clues) -> str:
    # Another parent than livekit-agents' has its own reasons.
    return "" if death.reason == "supervisor_kill" and not clues.said else _ADVICE.get(death.reason, "")


def _verdict(death: Death, flight: Flight, clues: Clues) -> str:
    if death.reason == "ffi_panic" or (death.reason == "native_abort" and clues.native_text is not None):
        return "native"
    if death.reason == "native_abort":
        # Any extension module can abort; the SDK's library is the one to name where it was at work for us.
        return "native" if flight.calls else "unknown"
    return "app" if _MEMORY in clues.said else "unknown"


def _component(flight: Flight, text: StderrTold | None, crashed: bool) -> str:
    if crashed and text is not None and text.place:
        return text.place.split(":")[0]
    return "native library" if crashed else "job process" if _is_job(flight) else "worker process"


def _channels(clues: Clues) -> tuple[str, ...]:
    said = {
        "exit_status": clues.status is not None,
        "ffi_panic": clues.panic is not None,
        "stderr": clues.native_text is not None,
        "agents_log": bool(clues.said),
        "journal_end": clues.status is None,
    }
    return tuple(name for name, there in said.items() if there)
