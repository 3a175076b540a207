"""Ends of processes from the records of several journals: joined by pid and time, told once, called what they are."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from facts import FOREVER_S, judge, process, record
from hypothesis import given, settings
from hypothesis import strategies as st

from race_watch.detectors import process_end
from race_watch.detectors.deaths import CHOSEN, REASONS
from race_watch.detectors.process_end import END, ProcessEnd
from race_watch.events import (
    CallEnded,
    CallStarted,
    ChildEnded,
    ChildLogged,
    ChildSignalled,
    Disarmed,
    Event,
    FfiPanicked,
    HookInstalled,
    LoopBorn,
    MemoryKilled,
    ProcessExiting,
    RequestSent,
    RoomConnected,
    StderrTold,
)
from race_watch.findings import Finding
from race_watch.incidents import Incident
from race_watch.records import JournalEnded, Process, Record

HANDLE_GONE = 'called `Result::unwrap()` on an `Err` value: InvalidRequest("handle not found")'
PLACE = "livekit-ffi/src/server/requests.rs:70:77"


def begun(pid: int, t_s: float = 0.0, *, ppid: int = 10, ticks: int | None = None, role: str = "main", **other: Any) -> Process:
    """A process with that pid whose journal begins at that time."""
    made = process(f"{pid}-{t_s}", pid, role=role, **other)
    ticks = pid * 1000 + int(t_s) if ticks is None else ticks
    return dataclasses.replace(
        made, ppid=ppid, start_ticks=ticks, monotonic_ns=int(t_s * 1e9), wall_ns=made.wall_ns + int(t_s * 1e9)
    )


SUPERVISOR = begun(1, role="watcher")
RELAY = begun(2, role="stderr")
MAIN = begun(10, ppid=1)
JOB = begun(20, 5.0, role="fork")
OTHER_JOB = begun(21, 5.0, role="fork")

LOOP = LoopBorn("asyncio", "MainProcess", "MainThread")
JOB_LOOP = LoopBorn("asyncio", "job_proc", "MainThread")
ROOM = RoomConnected(1, "lobby", "RM_1", "id:agent", 1, ("id:caller",))


def of(who: Process, *events: Event, t_s: float = 6.0) -> list[Record]:
    """What a process wrote, 10 ms apart."""
    return [record(event, t_s + n * 0.01, n, who) for n, event in enumerate(events)]


def ended(who: Process, t_s: float = 10.0, *, running: int = 0) -> Record:
    return Record(who, sys.maxsize, t_s, JournalEnded(running))


def status(of_whom: Process, code: int, by: Process = MAIN, t_s: float = 10.0) -> list[Record]:
    return of(by, ChildEnded(of_whom.pid, code, 0), t_s=t_s)


def signalled(of_whom: Process, number: int, sender: int = 0, by: Process = MAIN, t_s: float = 9.9) -> list[Record]:
    return of(by, ChildSignalled(of_whom.pid, number, sender), t_s=t_s)


def panicked(
    thread: str = "tokio-rt-worker (99)", message: str = HANDLE_GONE, place: str = PLACE, t_s: float = 9.95
) -> list[Record]:
    return of(RELAY, StderrTold("rust_panic", thread, place, message), t_s=t_s)


class Detector:
    """The detector alone, and what it found."""

    def __init__(self, records: Iterable[Record], polls_s: Iterable[float] = ()) -> None:
        self.ends = ProcessEnd()
        self.findings: list[Finding] = []
        due = sorted(polls_s)
        for one in sorted(records, key=lambda r: (r.t_s, r.number)):
            while due and due[0] < one.t_s:
                self.findings += self.ends.confirm(due.pop(0))
            self.ends.observe(one)
        for now_s in [*due, FOREVER_S]:
            self.findings += self.ends.confirm(now_s)

    @property
    def reasons(self) -> dict[str, int]:
        return dict(self.ends.reasons)


def told(records: Iterable[Record]) -> Incident:
    """The only incident."""
    return judge(records).only()


# A job that had a room, its parent's word, livekit-agents' word


def test_abort_of_a_job_is_one_incident_with_everything_that_is_known() -> None:
    incident = told(
        [
            *of(JOB, JOB_LOOP, ROOM, CallStarted(3, 1, "disconnect", ""), RequestSent(1, "Disconnect"), t_s=9.0),
            *panicked(),
            *status(JOB, -6),
            *of(MAIN, ChildLogged(20, "process exited with non-zero exit code", "AJ_1", "lobby"), t_s=10.2),
            ended(JOB),
        ]
    )
    assert (incident.category, incident.verdict, incident.signature) == (
        "native_abort",
        "native",
        "disconnect-stale-handle-panic",
    )
    assert incident.process == {"pid": 20, "role": "job", "attempt": 1, "job_id": "AJ_1"}
    assert incident.room == {"name": "lobby", "sid": "RM_1"}
    assert incident.participant["identity"] == "id:caller"
    assert incident.component == "livekit-ffi/src/server/requests.rs"
    assert incident.channels == ["exit_status", "stderr", "agents_log"]
    told_of = {name: incident.evidence[name] for name in ("reason", "signal", "phase", "panic", "panic_place", "job_start")}
    assert told_of == {
        "reason": "native_abort",
        "signal": "SIGABRT",
        "phase": "disconnect",
        "panic": HANDLE_GONE,
        "panic_place": PLACE,
        "job_start": "fork",
    }
    assert incident.evidence["supervisor_said"] == "process exited with non-zero exit code"
    assert (incident.evidence["rooms_live"], incident.evidence["participants_live"]) == ("1", "1")
    assert incident.evidence["sessions_lost"] == "1"
    assert incident.evidence["decided_by"] == "its parent says SIGABRT"
    assert incident.time_unix_ns == 1_010_000_000_000


def test_kill_by_livekit_agents_names_what_it_had_against_the_job() -> None:
    incident = told(
        [
            *of(JOB, JOB_LOOP, ROOM),
            *of(MAIN, ChildLogged(20, "process exceeded memory limit", "AJ_1", "lobby"), t_s=9.8),
            *signalled(JOB, 10),
            *status(JOB, -10),
            ended(JOB),
        ]
    )
    assert (incident.category, incident.verdict) == ("process_killed", "app")
    assert incident.title == "its supervisor killed the process (SIGUSR1)"
    assert incident.evidence["supervisor_said"] == "process exceeded memory limit"
    assert incident.advice.startswith("livekit-agents gave the process up")


def test_kill_by_another_parent_is_not_said_to_be_of_livekit_agents() -> None:
    incident = told([*of(JOB, LOOP, ROOM), *signalled(JOB, 9), *status(JOB, -9), ended(JOB)])
    assert incident.evidence["reason"] == "supervisor_kill"
    assert "livekit-agents" not in incident.advice
    assert incident.advice


# What is a fault

IDLE: Sequence[Event] = (LOOP,)
AT_WORK: Sequence[Event] = (LOOP, ROOM)
CONNECTING: Sequence[Event] = (LOOP, CallStarted(1, 1, "connect", ""))
JOB_AT_WORK: Sequence[Event] = (JOB_LOOP, ROOM)

FAULTS: dict[str, tuple[Sequence[Event], int, bool]] = {
    "clean at work": (AT_WORK, 0, False),
    "exit status at work": (AT_WORK, 3, False),
    "crash, idle": (IDLE, -11, True),
    "killed, idle": (IDLE, -9, False),
    "killed at work": (AT_WORK, -9, True),
    "killed while it connects": (CONNECTING, -9, True),
    "terminated, idle": (IDLE, -15, False),
    "terminated at work": (AT_WORK, -15, False),
    "job terminated, idle": ((JOB_LOOP,), -15, False),
    "job terminated at work": (JOB_AT_WORK, -15, True),
}


@pytest.mark.parametrize(("happened", "code", "fault"), FAULTS.values(), ids=FAULTS)
def test_only_what_is_a_fault_is_an_incident_and_all_is_counted(happened: Sequence[Event], code: int, fault: bool) -> None:
    found = Detector([*of(JOB, *happened), *status(JOB, code), ended(JOB)])
    assert bool(found.findings) == fault
    assert sum(found.reasons.values()) == 1
    (reason,) = found.reasons
    lost = 1 if ROOM in happened and reason not in CHOSEN else 0
    assert found.ends.lost.total() == lost


def test_idle_process_that_agents_gave_up_is_an_incident() -> None:
    said = of(MAIN, ChildLogged(20, "process is unresponsive", "", ""), t_s=9.8)
    found = Detector([*of(JOB, JOB_LOOP), *said, *signalled(JOB, 9), *status(JOB, -9), ended(JOB)])
    assert [finding.evidence["reason"] for finding in found.findings] == ["supervisor_kill"]


# Time


def test_word_of_the_parent_that_comes_a_second_later_is_heard() -> None:
    records = [*of(JOB, LOOP, ROOM), ended(JOB), *status(JOB, -11, t_s=11.0)]
    assert Detector(records, polls_s=[10.1, 10.5, 11.1, 11.6]).reasons == {"native_abort": 1}


def test_end_is_judged_once_and_not_before_its_parent_could_speak() -> None:
    ends = Detector([*of(JOB, LOOP), ended(JOB)]).ends
    assert ends.reasons.total() == 1
    early = Detector([*of(JOB, LOOP), ended(JOB)], polls_s=[10.0, 11.4])
    assert early.reasons == {"unknown": 1}
    waiting = ProcessEnd()
    for one in [*of(JOB, LOOP), ended(JOB)]:
        waiting.observe(one)
    waiting.confirm(11.4)
    assert waiting.reasons.total() == 0
    waiting.confirm(11.5)
    waiting.confirm(99.0)
    assert waiting.reasons.total() == 1


def test_word_that_came_before_the_journal_was_let_go_of_counts() -> None:
    found = Detector([*of(JOB, LOOP, ROOM), *status(JOB, -6, t_s=9.0), ended(JOB)])
    assert [finding.t_s for finding in found.findings] == [9.0]


# Pids are given again


def test_word_about_an_earlier_process_with_the_pid_is_not_about_this_one() -> None:
    old = begun(20, 1.0, role="fork")
    records = [
        *of(old, LOOP, t_s=1.0),
        *signalled(old, 9, t_s=2.0),
        *status(old, -9, t_s=2.1),
        *of(MAIN, ChildLogged(20, "process is unresponsive", "AJ_old", ""), t_s=2.2),
        ended(old, 2.1),
        *of(JOB, LOOP, ROOM),
        ended(JOB),
    ]
    found = Detector(records)
    assert found.reasons == {"supervisor_kill": 1, "unknown": 1}
    (finding,) = [finding for finding in found.findings if finding.process is JOB]
    assert "supervisor_said" not in finding.evidence
    assert "job_id" not in finding.evidence


def test_word_about_a_later_process_with_the_pid_is_not_about_this_one() -> None:
    """As a replay sees it, which has read everything before it judges."""
    new = begun(20, 30.0, role="fork")
    records = [
        *of(JOB, LOOP, ROOM),
        ended(JOB),
        *of(new, LOOP, ROOM, t_s=30.0),
        *signalled(new, 9, t_s=31.0),
        *status(new, -9, t_s=31.1),
        ended(new, 31.1),
    ]
    assert Detector(records).reasons == Detector(records, polls_s=[12.0]).reasons == {"unknown": 1, "supervisor_kill": 1}


def test_two_processes_of_a_pid_with_a_word_each_have_their_own() -> None:
    first, second = begun(20, 1.0), begun(20, 5.0)
    records = [
        *of(first, LOOP, ROOM, t_s=1.0),
        *status(first, -11, t_s=3.0),
        ended(first, 3.0),
        *of(second, LOOP, ROOM),
        *status(second, -9),
        ended(second),
    ]
    found = Detector(records)
    assert {finding.process.monotonic_ns: finding.evidence["signal"] for finding in found.findings} == {
        1_000_000_000: "SIGSEGV",
        5_000_000_000: "SIGKILL",
    }


# Two at once


def test_two_jobs_that_abort_at_once_have_a_text_each() -> None:
    records = [
        *of(JOB, JOB_LOOP, ROOM),
        *of(OTHER_JOB, JOB_LOOP, ROOM),
        *panicked("tokio-rt-worker", "first", "a.rs:1:1", 9.90),
        *panicked("tokio-rt-worker", "second", "b.rs:2:2", 9.95),
        *status(OTHER_JOB, -6, t_s=9.92),
        *status(JOB, -6, t_s=9.97),
        ended(JOB),
        ended(OTHER_JOB),
    ]
    found = Detector(records)
    assert {finding.process.pid: finding.evidence["panic"] for finding in found.findings} == {21: "first", 20: "second"}


def test_text_of_a_main_thread_is_given_to_the_process_of_its_number() -> None:
    records = [
        *of(JOB, JOB_LOOP),
        *of(OTHER_JOB, JOB_LOOP),
        *panicked("main (20)", "of the job", t_s=9.95),
        *panicked("main (21)", "of the other job", t_s=9.90),
        *status(JOB, -6, t_s=9.92),
        *status(OTHER_JOB, -6, t_s=9.97),
        ended(JOB),
        ended(OTHER_JOB),
    ]
    found = Detector(records)
    assert {finding.process.pid: finding.evidence["panic"] for finding in found.findings} == {
        20: "of the job",
        21: "of the other job",
    }


def test_text_of_a_main_thread_is_its_process_s_however_late_the_parent_tells_the_end() -> None:
    records = [
        *of(JOB, JOB_LOOP),
        *of(OTHER_JOB, JOB_LOOP),
        *panicked("main (20)", "of the job", t_s=9.95),
        *status(OTHER_JOB, -6, t_s=10.5),
        ended(OTHER_JOB, 10.5),
        ended(JOB),
        *status(JOB, -6, t_s=24.0),
    ]
    found = Detector(records)
    assert {finding.process.pid: finding.evidence.get("panic") for finding in found.findings} == {20: "of the job", 21: None}


@pytest.mark.parametrize("survived_s", [9.0, 30.0, 7200.0])
def test_panic_that_was_survived_is_not_what_a_process_dies_of_later(survived_s: float) -> None:
    job, end_s = begun(20, 0.0, role="fork"), 10_000.0
    found = Detector(
        [
            *of(job, JOB_LOOP, t_s=0.1),
            *panicked("main (20)", "survived", t_s=end_s - survived_s),
            *panicked("main (20)", "died of", t_s=end_s - 0.05),
            *status(job, -6, t_s=end_s),
            ended(job, end_s),
        ]
    )
    assert [finding.evidence.get("panic") for finding in found.findings] == ["died of"]


def test_death_takes_no_text_that_names_another_process() -> None:
    records = [
        *of(JOB, JOB_LOOP),
        *of(OTHER_JOB, JOB_LOOP),
        *of(RELAY, StderrTold("glibc", "", "", "free(): invalid pointer"), t_s=9.5),
        *status(JOB, -6, t_s=9.6),
        ended(JOB, 9.6),
        *panicked("main (21)", "of the other job", t_s=9.9),
        *status(OTHER_JOB, -6, t_s=10.1),
        ended(OTHER_JOB, 10.1),
    ]
    found = Detector(records)
    assert {finding.process.pid: finding.evidence.get("panic") for finding in found.findings}[21] == "of the other job"


def test_text_of_an_earlier_process_with_that_pid_is_not_taken() -> None:
    later = begun(20, 12.0, role="fork")
    early = panicked("main (20)", "of the earlier one", t_s=9.95)
    found = Detector([*early, *of(later, JOB_LOOP, t_s=12.5), *status(later, -6, t_s=13.0), ended(later, 13.0)])
    assert [finding.evidence.get("panic") for finding in found.findings] == [None]


def test_lines_of_one_death_are_taken_together() -> None:
    lines = [
        StderrTold("rust_panic", "tokio-rt-worker", PLACE, HANDLE_GONE),
        StderrTold("rust_panic", "", "", "fatal runtime error: failed to initiate panic"),
        StderrTold("python_fatal", "", "", "Aborted"),
    ]
    records = [
        *of(JOB, JOB_LOOP),
        *of(OTHER_JOB, JOB_LOOP),
        *of(RELAY, *lines, t_s=9.9),
        *status(JOB, -6),
        *status(OTHER_JOB, -6, t_s=11.0),
        ended(JOB),
        ended(OTHER_JOB, 11.0),
    ]
    found = Detector(records)
    assert {finding.process.pid: finding.evidence.get("panic") for finding in found.findings} == {20: HANDLE_GONE, 21: None}


def test_text_is_not_given_to_a_neighbour_that_was_killed() -> None:
    """Their stderr is one; the kill is judged first."""
    records = [
        *of(JOB, JOB_LOOP, ROOM),
        *of(OTHER_JOB, JOB_LOOP, ROOM),
        *panicked(),
        *signalled(JOB, 9, t_s=9.94),
        *status(JOB, -9, t_s=9.95),
        *status(OTHER_JOB, -6, t_s=9.97),
        ended(JOB),
        ended(OTHER_JOB),
    ]
    by_pid = {finding.process.pid: finding for finding in Detector(records).findings}
    assert "panic" not in by_pid[20].evidence
    assert by_pid[21].evidence["panic"] == HANDLE_GONE


def test_text_is_not_given_to_a_process_of_which_nobody_knows_anything_while_another_aborted() -> None:
    records = [
        *of(JOB, JOB_LOOP, ROOM),
        *of(OTHER_JOB, JOB_LOOP, ROOM),
        *panicked(),
        *status(OTHER_JOB, -6, t_s=9.97),
        ended(JOB, 9.9),
        ended(OTHER_JOB),
    ]
    assert Detector(records).reasons == {"native_abort": 1, "unknown": 1}


def test_text_of_long_ago_is_not_of_this_death() -> None:
    (finding,) = Detector([*of(JOB, LOOP), *panicked(t_s=4.0), *status(JOB, -6), ended(JOB)]).findings
    assert "panic" not in finding.evidence
    assert (finding.verdict, finding.component) == ("unknown", "native library")


def test_memory_kill_is_of_one_process() -> None:
    records = [
        *of(JOB, LOOP, ROOM),
        *of(OTHER_JOB, LOOP, ROOM),
        *of(SUPERVISOR, MemoryKilled(1), t_s=9.9),
        *status(JOB, -9, t_s=9.92),
        *status(OTHER_JOB, -9, t_s=9.97),
        ended(JOB),
        ended(OTHER_JOB),
    ]
    assert Detector(records).reasons == {"oom_kill": 1, "killed": 1}


def test_memory_kill_is_not_taken_by_a_process_that_its_parent_killed() -> None:
    records = [
        *of(JOB, LOOP, ROOM),
        *of(OTHER_JOB, LOOP, ROOM),
        *of(SUPERVISOR, MemoryKilled(1), t_s=9.9),
        *signalled(JOB, 9, t_s=9.90),
        *status(JOB, -9, t_s=9.92),
        *status(OTHER_JOB, -9, t_s=9.97),
        ended(JOB),
        ended(OTHER_JOB),
    ]
    assert Detector(records).reasons == {"supervisor_kill": 1, "oom_kill": 1}


# Panics that are reported


def test_panic_and_the_signal_of_its_own_process_are_one_incident() -> None:
    records = [*of(MAIN, LOOP, ROOM, FfiPanicked("boom"), t_s=9.9), *status(MAIN, -15, SUPERVISOR), ended(MAIN)]
    incident = told(records)
    assert (incident.category, incident.verdict) == ("native_abort", "native")
    assert incident.evidence["reason"] == "ffi_panic"
    assert incident.evidence["panic"] == "boom"
    assert incident.channels == ["exit_status", "ffi_panic"]


def test_panic_of_a_process_that_survives_is_told_and_counted_when_it_ends() -> None:
    records = of(MAIN, LOOP, ROOM, FfiPanicked("boom"))
    judged = judge([*records, *status(MAIN, 0, SUPERVISOR, 60.0), ended(MAIN, 60.0)], polls_s=[10.0, 12.0, 30.0])
    incident = judged.only()
    assert incident.title == "a panic of the native library, which the process survives"
    assert incident.time_unix_ns == 1_011_020_000_000
    assert "lives on" in incident.evidence["decided_by"]
    assert "sessions_lost" not in judged.findings[0].evidence
    # The end that follows is the same failure.
    assert [finding.key for finding in judged.findings] == [f"{MAIN.nonce}#panic", f"{MAIN.nonce}{END}"]
    assert Detector([*records, *status(MAIN, 0, SUPERVISOR, 60.0), ended(MAIN, 60.0)], [30.0]).reasons == {"ffi_panic": 1}


@pytest.mark.parametrize("events", [(), (CallStarted(4, 1, "disconnect", ""), ProcessExiting(""))], ids=["idle", "goes on"])
def test_replay_tells_a_survived_panic_as_it_was_told_live(events: Sequence[Event]) -> None:
    records = [
        *of(MAIN, LOOP, ROOM, FfiPanicked("boom")),
        *of(MAIN, *events, t_s=20.0),
        *status(MAIN, 0, SUPERVISOR, 60.0),
    ]
    live = judge([*records, ended(MAIN, 60.0)], polls_s=[10.0, 12.0, 30.0, 62.0])
    # Nobody was there to see when it ended.
    replay = judge([*records, ended(MAIN, records[-2].t_s)])
    assert replay.only().as_dict() == live.only().as_dict()
    assert live.only().evidence["phase"] == "idle"


def test_panic_of_a_process_that_drains_is_one_incident() -> None:
    records = [
        *of(MAIN, LOOP, ROOM, FfiPanicked("boom"), t_s=9.0),
        *of(MAIN, ProcessExiting(""), t_s=20.0),
        *status(MAIN, 0, SUPERVISOR, 20.1),
        ended(MAIN, 20.1),
    ]
    incident = judge(records, polls_s=[9.5, 14.1, 15.0, 21.0]).only()
    assert incident.evidence["reason"] == "ffi_panic"


@pytest.mark.parametrize(
    ("number", "sender", "reason"),
    [(15, 4711, "terminated"), (2, -1, "terminated"), (28, -1, "ffi_panic"), (18, 4711, "ffi_panic"), (12, 4711, "ffi_panic")],
    ids=["SIGTERM", "SIGINT", "SIGWINCH", "SIGCONT", "SIGUSR2"],
)
def test_panic_counts_unless_somebody_has_asked_the_process_to_end_since(number: int, sender: int, reason: str) -> None:
    records = [
        *of(MAIN, LOOP, ROOM, FfiPanicked("boom"), t_s=9.0),
        *signalled(MAIN, number, sender, SUPERVISOR, 9.5),
        *status(MAIN, -15, SUPERVISOR),
        ended(MAIN),
    ]
    assert Detector(records).reasons == {reason: 1}


def test_panic_before_which_somebody_had_asked_counts() -> None:
    records = [
        *signalled(MAIN, 15, 4711, SUPERVISOR, 8.5),
        *of(MAIN, LOOP, ROOM, FfiPanicked("boom"), t_s=9.0),
        *status(MAIN, -15, SUPERVISOR),
        ended(MAIN),
    ]
    assert Detector(records).reasons == {"ffi_panic": 1}


def test_terminal_that_is_resized_does_not_push_out_who_asked_it_to_end() -> None:
    sizes = [one for n in range(40) for one in signalled(MAIN, 28, -1, SUPERVISOR, 9.0 + n / 100)]
    records = [
        *of(MAIN, LOOP),
        *signalled(MAIN, 15, 4711, SUPERVISOR, 8.0),
        *sizes,
        *status(MAIN, -15, SUPERVISOR),
        ended(MAIN),
    ]
    ends = ProcessEnd()
    decided: list[str] = []
    original = process_end.decide
    for one in sorted(records, key=lambda r: (r.t_s, r.number)):
        ends.observe(one)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process_end, "decide", lambda clues: (decided.append(original(clues).decided_by), original(clues))[1])
        ends.confirm(FOREVER_S)
    assert decided == ["its supervisor says SIGTERM, passed on from process 4711"]


# Not an end


def test_process_in_which_race_watch_was_undone_is_neither_told_nor_counted() -> None:
    records = [
        *of(JOB, LOOP, ROOM, FfiPanicked("boom"), Disarmed("undo")),
        *status(JOB, -11, t_s=30.0),
        ended(JOB, 7.0, running=1),
    ]
    assert (Detector(records).findings, Detector(records).reasons) == ([], {})
    gone = [*of(JOB, LOOP, ROOM, Disarmed("undo")), *status(JOB, -11), ended(JOB)]
    assert (Detector(gone).findings, Detector(gone).reasons) == ([], {})


def test_process_that_has_become_another_program_has_not_ended() -> None:
    found = Detector([*of(JOB, LOOP, ROOM), ended(JOB, running=1), *status(JOB, -9, t_s=99.0)])
    assert (found.findings, found.reasons) == ([], {})


@pytest.mark.parametrize("polls_s", [(), (12.0, 40.0)], ids=["replay", "live"])
def test_process_that_has_become_python_again_has_one_end(polls_s: Sequence[float]) -> None:
    """Its first journal has no live process any more when it is replayed."""
    again = dataclasses.replace(begun(20, 12.0, role="main"), start_ticks=JOB.start_ticks)
    records = [
        *of(JOB, LOOP, ROOM),
        *of(again, LOOP, ROOM, t_s=12.0),
        *status(again, -9, t_s=30.0),
        ended(again, 30.0),
        ended(JOB, 10.0 if not polls_s else 11.0, running=int(bool(polls_s))),
    ]
    found = Detector(records, polls_s)
    assert [finding.process for finding in found.findings] == [again]
    assert found.reasons == {"killed": 1}


def test_silent_fork_is_counted_if_its_parent_tells_of_its_end_alone() -> None:
    assert Detector([ended(JOB)]).reasons == {}
    assert Detector([ended(JOB), *status(JOB, 0)]).reasons == {"clean": 1}
    crashed = Detector([ended(JOB), *status(JOB, -11)])
    assert crashed.reasons == {"native_abort": 1}
    assert [finding.verdict for finding in crashed.findings] == ["unknown"]


def test_journals_of_watchers_have_no_end() -> None:
    found = Detector([*of(SUPERVISOR, MemoryKilled(1)), ended(SUPERVISOR), *panicked(), ended(RELAY)])
    assert (found.findings, found.reasons) == ([], {})


# Shells


def test_shell_passes_the_signal_of_its_child_on() -> None:
    shell = 9
    python = begun(11, 5.0, ppid=shell)
    records = [*of(python, LOOP, ROOM), ended(python), *of(SUPERVISOR, ChildEnded(shell, 139, 0), t_s=10.01)]
    incident = told(records)
    assert (incident.category, incident.confidence) == ("native_abort", 0.8)
    assert incident.evidence["decided_by"] == "a shell above it says SIGSEGV"


@pytest.mark.parametrize(
    ("events", "code", "reason"),
    [
        ((LOOP, ProcessExiting("")), 143, "clean"),
        ((LOOP, ProcessExiting("ValueError")), 139, "exception"),
        ((LOOP,), 3, "unknown"),
        ((LOOP,), 0, "unknown"),
        ((LOOP,), 137, "killed"),
    ],
    ids=["ended in order", "exception", "3", "0", "137"],
)
def test_shell_is_believed_about_signals_of_processes_without_a_word(events: Sequence[Event], code: int, reason: str) -> None:
    python = begun(11, 5.0, ppid=9)
    records = [*of(python, *events), ended(python), *of(SUPERVISOR, ChildEnded(9, code, 0), t_s=10.01)]
    assert Detector(records).reasons == {reason: 1}


def test_memory_kill_by_way_of_a_shell_is_one() -> None:
    python = begun(11, 5.0, ppid=9)
    records = [
        *of(python, LOOP, ROOM),
        *of(SUPERVISOR, ChildEnded(9, 137, 0), MemoryKilled(1), t_s=10.01),
        ended(python),
    ]
    assert Detector(records).reasons == {"oom_kill": 1}


def test_python_that_exits_with_143_is_no_shell_of_its_children() -> None:
    """A worker that handles SIGTERM ends with that; its job had nothing to do with it."""
    records = [*of(MAIN, LOOP), *of(JOB, LOOP, ROOM), ended(JOB), *status(MAIN, 143, SUPERVISOR, 10.5), ended(MAIN, 10.5)]
    assert Detector(records).reasons == {"unknown": 1, "nonzero_exit": 1}


# Its parent was killed as well


def test_process_whose_parent_died_with_it_is_unknown_unless_something_tells() -> None:
    gone = [*of(JOB, JOB_LOOP, ROOM), *of(MAIN, LOOP), ended(JOB), ended(MAIN), *status(MAIN, -9, SUPERVISOR)]
    assert Detector(gone).reasons == {"unknown": 1, "killed": 1}
    told_of = [*gone, *panicked()]
    assert Detector(told_of).reasons == {"native_abort": 1, "killed": 1}
    was_ending = [*gone, *signalled(JOB, 10)]
    assert Detector(was_ending).reasons == {"supervisor_kill": 1, "killed": 1}


def test_job_that_ends_in_order_after_its_parent_died_is_clean() -> None:
    records = [*of(JOB, JOB_LOOP, ROOM, ProcessExiting("")), ended(JOB), *of(MAIN, LOOP), ended(MAIN)]
    found = Detector(records)
    assert found.reasons == {"clean": 1, "unknown": 1}
    assert found.findings == []


# Any order

_MAKERS: dict[str, Callable[[], list[Record]]] = {
    "room": lambda: of(JOB, JOB_LOOP, ROOM),
    "call": lambda: of(JOB, CallStarted(3, 1, "disconnect", ""), RequestSent(1, "Disconnect"), t_s=9.0),
    "call ended": lambda: of(JOB, CallEnded(3, 1, "disconnect", "ok"), t_s=9.5),
    "panic": lambda: of(JOB, FfiPanicked("boom"), t_s=9.6),
    "exit": lambda: of(JOB, ProcessExiting(""), t_s=9.7),
    "text": panicked,
    "memory": lambda: of(SUPERVISOR, MemoryKilled(1), t_s=9.9),
    "usr1": lambda: signalled(JOB, 10),
    "kill": lambda: signalled(JOB, 9, t_s=9.95),
    "sigterm passed on": lambda: signalled(JOB, 15, 4711, SUPERVISOR, 9.8),
    "logged": lambda: of(MAIN, ChildLogged(20, "process is unresponsive", "AJ_1", "lobby"), t_s=10.4),
    "neighbour": lambda: [*of(OTHER_JOB, JOB_LOOP, ROOM), *status(OTHER_JOB, -6, t_s=9.97), ended(OTHER_JOB)],
}
_STORY = st.sets(st.sampled_from(sorted(_MAKERS)))
_POLLS = st.lists(st.sampled_from((9.0, 9.92, 10.0, 10.3, 11.0, 11.49, 11.6, 12.0, 16.0)), max_size=5)


@settings(max_examples=200)
@given(
    story=_STORY,
    code=st.sampled_from((-6, -11, -7, -9, -10, -15, 0, 1, None)),
    late_s=st.sampled_from((0.0, 0.4, 1.4)),
    polls_s=_POLLS,
    seed=st.randoms(use_true_random=False),
)
def test_crash_is_never_a_kill_and_a_kill_never_a_crash_in_whatever_order_the_words_come(
    story: set[str], code: int | None, late_s: float, polls_s: list[float], seed: Any
) -> None:
    records = [one for name in story for one in _MAKERS[name]()] + of(JOB, HookInstalled("x"), t_s=5.5)
    records += [ended(JOB), *(status(JOB, code, t_s=10.0 + late_s) if code is not None else ())]
    # Of one moment, in any order; the journals are read in that of their names.
    seed.shuffle(records)
    found = Detector(records, polls_s)
    (reason,) = [
        r for r, count in found.ends.reasons.items() for _ in range(count - (r == "native_abort" and "neighbour" in story))
    ]
    assert reason in REASONS
    if code in (-6, -11, -7):
        assert reason == "native_abort"
    if code in (-9, -10) or (code == -15 and "panic" not in story):
        assert reason not in ("native_abort", "ffi_panic")
    if (code == -9 and story & {"usr1", "kill"}) or (code == -10 and "usr1" in story):
        assert reason == "supervisor_kill"
    ours = [finding for finding in found.findings if finding.process is JOB and finding.key.endswith(END)]
    assert len(ours) <= 1
    for finding in ours:
        crashed = finding.evidence["reason"] in ("native_abort", "ffi_panic")
        assert finding.category == ("native_abort" if crashed else "process_killed")
    # A neighbour's abort keeps its own text.
    if "neighbour" in story and "text" in story and code in (-9, -10, 0, 1) and not polls_s and "panic" not in story:
        (other,) = [finding for finding in found.findings if finding.process is OTHER_JOB]
        assert other.evidence["panic"] == HANDLE_GONE


@settings(max_examples=100)
@given(story=_STORY, code=st.sampled_from((-6, -9, -10, -15, 0, 1)), polls_s=_POLLS)
def test_replay_judges_an_end_as_it_was_judged_live(story: set[str], code: int, polls_s: list[float]) -> None:
    records = [one for name in story for one in _MAKERS[name]()] + of(JOB, HookInstalled("x"), t_s=5.5)
    records += [ended(JOB), *status(JOB, code)]
    live, replay = Detector(records, [*polls_s, 12.0]), Detector(records)

    def shown(found: Detector) -> list[tuple[str, dict[str, str]]]:
        return sorted((finding.key, finding.evidence) for finding in found.findings)

    assert shown(replay) == shown(live)
    assert replay.reasons == live.reasons
