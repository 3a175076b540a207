"""Why a process ended: one reason of a closed set, from what it, its parent, its stderr and the kernel said."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

from race_watch.events import StderrTold

REASONS = (
    "clean",
    "exception",
    "nonzero_exit",
    "native_abort",
    "ffi_panic",
    "supervisor_kill",
    "terminated",
    "oom_kill",
    "killed",
    "unknown",
)

# Ends that the process chose itself: what it was doing it has given up.
CHOSEN = frozenset(("clean", "exception", "nonzero_exit"))

_CRASHES = frozenset(
    (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS)
)
A_SHELL = "a shell above it"
# A shell that waits for a process in the foreground ends with 128 plus the signal that killed it.
_SHELL_SIGNALS = range(129, 129 + 64)


@dataclass(frozen=True, slots=True)
class Clues:
    """What there is to go by. `status` is an exit code, or a signal as a negative number; None where nobody has it.

    Attributes:
        told_by: Who knows the status.
        exiting: As in Flight.
        panic: What the native library reported as a panic, None if it did not.
        native_text: The line on stderr that tells of a native death, if one fits.
        sent: Signals that the parent has sent, each with the process that it passed it on for (0: its own doing).
        said: What livekit-agents said of the process.
        memory_kill: The kernel killed a process of the control group for want of memory at that time.
    """

    status: int | None = None
    told_by: str = ""
    exiting: str | None = None
    panic: str | None = None
    native_text: StderrTold | None = None
    sent: tuple[tuple[int, int], ...] = ()
    said: tuple[str, ...] = ()
    memory_kill: bool = False

    @property
    def sent_by_parent(self) -> bool:
        """Whether the parent was ending it: livekit-agents begins with SIGUSR1 and goes on to SIGKILL."""
        return any(sender == 0 for _, sender in self.sent)


@dataclass(frozen=True, slots=True)
class Death:
    """The judgement. `decided_by` says in words what it rests on."""

    reason: str
    decided_by: str
    signal: str = ""
    confidence: float = 1.0
    evidence: dict[str, str] = field(default_factory=dict)


def signal_name(number: int) -> str:
    """`SIGABRT`, or `signal 42` where it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def signal_of(status: int | None, told_by: str) -> int:
    """The signal that an exit status speaks of; 0 if none."""
    if status is None or status == 0:
        return 0
    if status < 0:
        return -status
    return status - 128 if told_by == A_SHELL and status in _SHELL_SIGNALS else 0


def may_have_crashed(status: int | None, told_by: str) -> bool:
    """Whether native code may have ended it, as far as the exit status goes."""
    return status is None or signal_of(status, told_by) in _CRASHES


def may_want_memory(status: int | None, told_by: str) -> bool:
    """Whether the kernel may have ended it for want of memory, as far as the exit status goes."""
    return status is None or signal_of(status, told_by) == signal.SIGKILL


def decide(clues: Clues) -> Death:
    """Judges one end."""
    if clues.status is None:
        return _without_status(clues)
    number = signal_of(clues.status, clues.told_by)
    if number:
        return _by_signal(clues, number, 0.8 if clues.told_by == A_SHELL else 1.0)
    return _by_code(clues, clues.status)


def _by_signal(clues: Clues, number: int, confidence: float) -> Death:
    name = signal_name(number)
    ours = [sender for sent, sender in clues.sent if sent == number]
    by = f"{clues.told_by} says {name}"
    # Watchdogs send SIGABRT for the sake of the core dump: what somebody has sent is no crash.
    if number in _CRASHES and not ours:
        return Death("native_abort", by, name, confidence)
    if number == signal.SIGTERM and clues.panic is not None:
        return Death("ffi_panic", f"{by}, and the native library reported a panic before it", name, confidence)
    if 0 in ours:
        return Death("supervisor_kill", f"{by}, which its parent had sent", name, confidence)
    if number == signal.SIGKILL and clues.sent_by_parent:
        return Death("supervisor_kill", f"{by}, and its parent was ending it", name, confidence)
    if number == signal.SIGKILL and clues.memory_kill:
        return Death("oom_kill", f"{by}, and the control group counts a kill for want of memory", name, confidence)
    if number == signal.SIGKILL:
        return Death("killed", f"{by}; its parent did not send it, and the control group counts no kill", name, confidence)
    if ours:
        return Death("terminated", f"{by}, passed on from {_sender(ours[0])}", name, confidence)
    return Death("terminated", f"{by}; its parent did not send it", name, confidence)


def _by_code(clues: Clues, code: int) -> Death:
    if clues.panic is not None:
        return Death("ffi_panic", f"{clues.told_by} says exit status {code}, after the SIGTERM of a panic was handled")
    if code == 0:
        return Death("clean", f"{clues.told_by} says exit status 0")
    if clues.exiting:
        return Death("exception", f"{clues.told_by} says exit status {code}, after {clues.exiting}")
    how = "the interpreter ended in order" if clues.exiting is not None else "without the interpreter's own exit"
    return Death("nonzero_exit", f"{clues.told_by} says exit status {code}; {how}")


def _without_status(clues: Clues) -> Death:
    """Nobody has the status: the parent died too, or is no process that race_watch is in."""
    nobody = "nobody has the exit status"
    if clues.panic is not None:
        return Death("ffi_panic", f"{nobody}; the native library reported a panic", confidence=0.8)
    if clues.exiting:
        return Death("exception", f"{nobody}; the interpreter ended after {clues.exiting}", confidence=0.8)
    if clues.exiting is not None:
        return Death("clean", f"{nobody}; the interpreter ended in order", confidence=0.9)
    if clues.sent_by_parent:
        return Death("supervisor_kill", f"{nobody}; its parent was ending it", confidence=0.8)
    if clues.native_text is not None:
        return Death("native_abort", f"{nobody}; stderr tells of a native death at that time", confidence=0.7)
    if clues.memory_kill:
        return Death("oom_kill", f"{nobody}; the control group counts a kill for want of memory", confidence=0.6)
    passed_on = [signal_name(number) for number, _ in clues.sent]
    hint = f"; {passed_on[-1]} had been passed on to it" if passed_on else ""
    return Death("unknown", f"{nobody}, and the process left no word{hint}", confidence=0.5)


def _sender(pid: int) -> str:
    return f"process {pid}" if pid > 0 else "the kernel or a process outside the pid namespace"
