"""Why a process ended: each reason from what there is to go by, and no kill taken for a crash nor a crash for a kill."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from race_watch.detectors.deaths import A_SHELL, CHOSEN, REASONS, Clues, decide, signal_of
from race_watch.events import StderrTold

PANIC = "task 7 panicked"
TEXT = StderrTold("rust_panic", "tokio-rt-worker (42)", "livekit-ffi/src/server/requests.rs:70:77", "handle not found")
UNRESPONSIVE = ("process is unresponsive",)
PARENT = "its parent"
SUPERVISOR = "its supervisor"
OWN, OUTSIDER, KERNEL = 0, 4711, -1


@dataclass(frozen=True)
class Row:
    clues: Clues
    reason: str
    signal: str = ""
    confidence: float = 1.0
    says: str = ""


def by_parent(status: int, **other: object) -> Clues:
    return Clues(status=status, told_by=PARENT, **other)  # type: ignore[arg-type]


TABLE = {
    # By exit code
    "exit status 0": Row(by_parent(0, exiting=""), "clean"),
    "exit status 0 by _exit": Row(by_parent(0), "clean"),
    "exit status 0 after an exception that was printed": Row(by_parent(0, exiting="ValueError"), "clean"),
    "exit status 1 after an exception": Row(by_parent(1, exiting="ValueError"), "exception", says="after ValueError"),
    "exit status 3 in order": Row(by_parent(3, exiting=""), "nonzero_exit", says="in order"),
    "exit status 3 by _exit": Row(by_parent(3), "nonzero_exit", says="without the interpreter's own exit"),
    "exit status 143 of a handled SIGTERM": Row(by_parent(143, exiting="", sent=((15, OUTSIDER),)), "nonzero_exit"),
    "exit status 137 that the process chose": Row(by_parent(137), "nonzero_exit"),
    "exit status 0 after a panic that was drained": Row(by_parent(0, exiting="", panic=PANIC), "ffi_panic"),
    "exit status 1 after a panic and an exception": Row(by_parent(1, exiting="Exit", panic=PANIC), "ffi_panic"),
    # Native
    "SIGABRT": Row(by_parent(-6), "native_abort", "SIGABRT"),
    "SIGSEGV": Row(by_parent(-11), "native_abort", "SIGSEGV"),
    "SIGBUS": Row(by_parent(-7), "native_abort", "SIGBUS"),
    "SIGILL": Row(by_parent(-4), "native_abort", "SIGILL"),
    "SIGFPE": Row(by_parent(-8), "native_abort", "SIGFPE"),
    "SIGTRAP": Row(by_parent(-5), "native_abort", "SIGTRAP"),
    "SIGABRT with a panic on stderr": Row(by_parent(-6, native_text=TEXT), "native_abort", "SIGABRT"),
    "SIGSEGV while the interpreter ended": Row(by_parent(-11, exiting=""), "native_abort", "SIGSEGV"),
    "SIGSEGV after its parent began to end it": Row(by_parent(-11, sent=((10, OWN),)), "native_abort", "SIGSEGV"),
    "SIGABRT after SIGTERM was passed on": Row(by_parent(-6, sent=((15, OUTSIDER),)), "native_abort", "SIGABRT"),
    "SIGABRT while memory was short": Row(by_parent(-6, memory_kill=True), "native_abort", "SIGABRT"),
    "SIGABRT of a job that agents speaks of": Row(
        by_parent(-6, said=("process exited with non-zero exit code",)), "native_abort", "SIGABRT"
    ),
    # A panic that was reported
    "SIGTERM after a panic": Row(by_parent(-15, panic=PANIC), "ffi_panic", "SIGTERM", says="reported a panic"),
    "SIGTERM after a panic without a message": Row(by_parent(-15, panic=""), "ffi_panic", "SIGTERM"),
    "SIGABRT after a panic": Row(by_parent(-6, panic=PANIC), "native_abort", "SIGABRT"),
    "SIGKILL after a panic": Row(by_parent(-9, panic=PANIC), "killed", "SIGKILL"),
    # Its supervisor
    "SIGKILL by its parent": Row(by_parent(-9, sent=((9, OWN),)), "supervisor_kill", "SIGKILL", says="had sent"),
    "SIGTERM by its parent": Row(by_parent(-15, sent=((15, OWN),)), "supervisor_kill", "SIGTERM"),
    "SIGUSR1 by livekit-agents": Row(by_parent(-10, sent=((10, OWN),), said=UNRESPONSIVE), "supervisor_kill", "SIGUSR1"),
    "SIGKILL half a second after SIGUSR1": Row(
        by_parent(-9, sent=((10, OWN),)), "supervisor_kill", "SIGKILL", says="was ending"
    ),
    "SIGKILL by its parent for its memory": Row(
        by_parent(-9, sent=((10, OWN), (9, OWN)), said=("process exceeded memory limit",), memory_kill=True),
        "supervisor_kill",
        "SIGKILL",
    ),
    "SIGABRT that its parent sent": Row(by_parent(-6, sent=((6, OWN),)), "supervisor_kill", "SIGABRT"),
    # Outside
    "SIGTERM passed on": Row(
        by_parent(-15, sent=((15, OUTSIDER),)), "terminated", "SIGTERM", says="passed on from process 4711"
    ),
    "SIGTERM passed on from another pid namespace": Row(
        by_parent(-15, sent=((15, KERNEL),)), "terminated", "SIGTERM", says="outside the pid namespace"
    ),
    "SIGINT passed on": Row(by_parent(-2, exiting="KeyboardInterrupt", sent=((2, KERNEL),)), "terminated", "SIGINT"),
    "SIGTERM straight to it": Row(by_parent(-15), "terminated", "SIGTERM", says="did not send it"),
    "SIGUSR1 straight to it": Row(by_parent(-10), "terminated", "SIGUSR1"),
    "SIGHUP straight to it": Row(by_parent(-1), "terminated", "SIGHUP"),
    "SIGABRT of a watchdog, passed on": Row(by_parent(-6, sent=((6, OUTSIDER),)), "terminated", "SIGABRT"),
    "a signal without a name": Row(by_parent(-42), "terminated", "signal 42"),
    "SIGKILL from outside": Row(by_parent(-9), "killed", "SIGKILL", says="counts no kill"),
    "SIGKILL after SIGTERM was passed on": Row(by_parent(-9, sent=((15, OUTSIDER),)), "killed", "SIGKILL"),
    "SIGKILL for want of memory": Row(by_parent(-9, memory_kill=True), "oom_kill", "SIGKILL", says="control group"),
    # By way of a shell
    "a shell says 139": Row(Clues(status=139, told_by=A_SHELL), "native_abort", "SIGSEGV", 0.8, says="a shell"),
    "a shell says 143": Row(Clues(status=143, told_by=A_SHELL), "terminated", "SIGTERM", 0.8),
    "a shell says 137 while memory was short": Row(
        Clues(status=137, told_by=A_SHELL, memory_kill=True), "oom_kill", "SIGKILL", 0.8
    ),
    "a shell says 3": Row(Clues(status=3, told_by=A_SHELL), "nonzero_exit"),
    "a shell says 255": Row(Clues(status=255, told_by=A_SHELL), "nonzero_exit"),
    # Nobody has the status
    "no status, in order": Row(Clues(exiting=""), "clean", confidence=0.9),
    "no status, after an exception": Row(Clues(exiting="ValueError"), "exception", confidence=0.8),
    "no status, after a panic": Row(Clues(panic=PANIC, exiting=""), "ffi_panic", confidence=0.8),
    "no status, its parent was ending it": Row(Clues(sent=((10, OWN),)), "supervisor_kill", confidence=0.8),
    "no status, and a text on stderr": Row(Clues(native_text=TEXT), "native_abort", confidence=0.7),
    "no status, and memory was short": Row(Clues(memory_kill=True), "oom_kill", confidence=0.6),
    "no status, SIGTERM was passed on": Row(
        Clues(sent=((15, OUTSIDER),)), "unknown", confidence=0.5, says="SIGTERM had been passed on"
    ),
    "no word at all": Row(Clues(), "unknown", confidence=0.5, says="left no word"),
}


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_reason_is_what_there_is_to_go_by(row: Row) -> None:
    death = decide(row.clues)
    assert (death.reason, death.signal, death.confidence) == (row.reason, row.signal, row.confidence)
    assert row.says in death.decided_by
    assert (row.clues.told_by or "nobody has the exit status") in death.decided_by


def test_table_has_every_reason() -> None:
    assert {row.reason for row in TABLE.values()} == set(REASONS)
    assert set(REASONS) > CHOSEN


# Any clues

_SENT = st.lists(st.tuples(st.sampled_from((1, 2, 6, 9, 10, 11, 15)), st.sampled_from((OWN, OUTSIDER, KERNEL))), max_size=4)
_OTHER = st.fixed_dictionaries(
    {
        "exiting": st.sampled_from((None, "", "ValueError")),
        "panic": st.sampled_from((None, "", PANIC)),
        "native_text": st.sampled_from((None, TEXT)),
        "sent": _SENT.map(tuple),
        "said": st.sampled_from(((), UNRESPONSIVE)),
        "memory_kill": st.booleans(),
    }
)
_STATUS = st.one_of(st.none(), st.integers(-64, 255))
_CRASHES = (-4, -5, -6, -7, -8, -11, -31)


@given(status=_STATUS, told_by=st.sampled_from((PARENT, SUPERVISOR, A_SHELL)), other=_OTHER)
def test_any_clues_have_a_reason_of_the_closed_set_and_a_word_on_it(status: int | None, told_by: str, other: object) -> None:
    death = decide(Clues(status=status, told_by=told_by if status is not None else "", **other))  # type: ignore[arg-type]
    assert death.reason in REASONS
    assert death.decided_by
    assert 0.0 < death.confidence <= 1.0
    # A signal is named if and only if the status speaks of one.
    assert bool(death.signal) == bool(signal_of(status, told_by))


@given(status=st.sampled_from(_CRASHES), other=_OTHER)
def test_crash_is_never_called_a_kill(status: int, other: dict[str, object]) -> None:
    sent = [number for number, _ in other["sent"]]  # type: ignore[attr-defined]
    if -status not in sent:
        assert decide(by_parent(status, **other)).reason == "native_abort"


@given(status=st.sampled_from((-9, -10, -15)), other=_OTHER)
def test_kill_by_its_parent_is_never_called_a_crash(status: int, other: dict[str, object]) -> None:
    reason = decide(by_parent(status, **{**other, "panic": None, "sent": ((-status, OWN), *other["sent"])})).reason  # type: ignore[misc]
    assert reason == "supervisor_kill"


@given(status=st.sampled_from((-9, -10)), other=_OTHER)
def test_signal_that_native_code_does_not_raise_is_never_called_a_crash(status: int, other: dict[str, object]) -> None:
    assert decide(by_parent(status, **other)).reason not in ("native_abort", "ffi_panic")


def test_signals_of_a_status() -> None:
    assert [signal_of(status, PARENT) for status in (None, 0, 3, 139, -11)] == [0, 0, 0, 0, 11]
    assert [signal_of(status, A_SHELL) for status in (None, 0, 3, 128, 129, 139, 192, 193, -9)] == [0, 0, 0, 0, 1, 11, 64, 0, 9]
