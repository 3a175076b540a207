"""The parent of `race-watch run`: the command behaves as if it had been started without us.

All signals are blocked before the fork and taken one at a time by `Child.wait`, so none is lost and none runs a
handler; each is sent on to the child once. The child has a process group of its own: a signal for our whole group
(`timeout`, `kill -TERM -PGID`) would otherwise reach it twice, and a second SIGTERM ends a LiveKit worker at once.
It keeps the session, the descriptors and the signal state we were started with, and outlives us if we are killed.

What cannot be equal: a signal sent to every process of a service or of a name (systemd's KillMode=control-group,
`pkill -f`) reaches the child directly and through us; the value of a queued signal (`sigqueue`) is not passed on; and
Python hides whether SIGPIPE and SIGXFSZ were ignored when we were started, so the child gets their default.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from race_watch import signal_wait
from race_watch.child import CommandError, Exit, leave, start

__all__ = ["Child", "CommandError", "Exit", "leave", "spawn"]

_EVERY_SIGNAL = frozenset(int(number) for number in signal.valid_signals())
# The kernel sends these to the whole foreground group, so a child that is not in it needs them for its whole group.
_FROM_TERMINAL = frozenset(
    {signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGHUP, signal.SIGWINCH}
)
_WANTS_TERMINAL = frozenset({signal.SIGTTIN, signal.SIGTTOU})
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_FIRST_REAL_TIME: int = getattr(signal, "SIGRTMIN", signal.NSIG)
_REPEAT_S = 0.01
_POLL_S = 0.02


def spawn(argv: Sequence[str], env: Mapping[str, str] | None = None, stderr: int | None = None) -> Child:
    """Start the command.

    Call it from the main thread while it is the only one. From here on every signal stays blocked, in threads started
    later and in processes they start too, until `leave`: what the caller does after `Child.wait` has to be bounded.

    Args:
        env: None inherits. Its PATH is the one searched.
        stderr: A descriptor that becomes the command's stderr; None inherits.

    Raises:
        CommandError: The command could not be started. Signals and the terminal are as before.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _EVERY_SIGNAL)
    sigchld = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # were it ignored, the kernel would discard exit statuses
    terminal = _Terminal.open()
    hand_over = terminal is not None and terminal.is_ours_alone()

    def prepare() -> None:
        os.setpgid(0, 0)
        if terminal is not None and hand_over:
            terminal.give(os.getpid())
        if stderr is not None:
            os.dup2(stderr, 2)
        for number in _EVERY_SIGNAL:
            # exec resets handlers as well, but a signal caught between here and there would be lost with them
            if callable(signal.getsignal(number)) or number in _IGNORED_BY_PYTHON:
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN if sigchld is signal.SIG_IGN else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    try:
        return Child(start(argv, env, prepare), terminal, hand_over)
    except BaseException:
        if terminal is not None:
            if hand_over:
                terminal.give(os.getpgrp())
            terminal.close()
        signal.signal(signal.SIGCHLD, sigchld)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise


class Child:
    """A running command. Only the main thread may use it.

    Attributes:
        tick_error: What `on_tick` raised, or None. After its first error it is not called again and the wait goes on.
    """

    __slots__ = ("_exit", "_handed_over", "_terminal", "pid", "tick_error")

    def __init__(self, pid: int, terminal: _Terminal | None, handed_over: bool) -> None:
        self.pid = pid
        self.tick_error: Exception | None = None
        self._terminal = terminal
        self._handed_over = handed_over
        self._exit: Exit | None = None

    def wait(
        self,
        on_tick: Callable[[], None] | None = None,
        tick_s: float = 0.25,
        on_signal: Callable[[int, int], None] | None = None,
    ) -> Exit:
        """Forward signals until the child has ended; as PID 1, reap orphans too (and the caller's own children).

        Args:
            on_tick: Called about every `tick_s`. Signals wait while it runs.
            on_signal: Called with each signal before it is forwarded, and its sender's pid: -1 for the kernel, or
                for a process outside this pid namespace (`docker stop`).
        """
        due = time.monotonic() + tick_s
        while self._exit is None:
            status = self._reap()
            if status is not None:
                self._exit = Exit.from_wait_status(status)
                self._release_terminal()
                break
            received = _next_signal(_EVERY_SIGNAL, max(0.0, due - time.monotonic()))
            if received is not None:
                self._forward(received, on_signal)
            if time.monotonic() >= due:
                self._tick(on_tick)
                due = time.monotonic() + tick_s
        return self._exit

    def _tick(self, on_tick: Callable[[], None] | None) -> None:
        if on_tick is None or self.tick_error is not None:
            return
        try:
            on_tick()
        except Exception as error:  # noqa: BLE001 - leaving the loop would leave the child without its signals
            self.tick_error = error

    def _reap(self) -> int | None:
        whom = -1 if os.getpid() == 1 else self.pid
        while True:
            pid, status = os.waitpid(whom, os.WNOHANG | os.WUNTRACED)
            if pid == 0:
                return None
            if pid != self.pid:
                continue
            if not os.WIFSTOPPED(status):
                return status
            self._stop_like_child(os.WSTOPSIG(status))

    def _forward(self, received: _Received, on_signal: Callable[[int, int], None] | None) -> None:
        number = received.number
        if number == signal.SIGCHLD or received.is_about_us:
            return
        if not received.from_kernel and number < _FIRST_REAL_TIME:
            # GNU timeout signals its command, then its group, so we get both. The kernel merges what is still pending:
            # be slow enough for that, which unlike dropping a repeat cannot lose the news of a later one.
            time.sleep(_REPEAT_S)
            _next_signal(frozenset({number}), 0.0)
        if number == signal.SIGCONT:
            self._hand_over_again()
        if on_signal is not None:
            on_signal(number, received.sender if not received.from_kernel and received.sender else -1)
        send = os.killpg if received.from_kernel and number in _FROM_TERMINAL else os.kill
        # It is not reaped yet, so the pid is still its own; PermissionError: it runs as another user (sudo).
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(self.pid, number)

    def _stop_like_child(self, number: int) -> None:
        """Pass a stop of the child on to the shell above us, which watches us alone, and continue with it."""
        terminal, ours = self._terminal, os.getpgrp()
        if terminal is None:
            return
        foreground = terminal.foreground()
        if number in _WANTS_TERMINAL and foreground == ours:
            self._handed_over = True
            self._continue()
            return
        if number == signal.SIGSTOP and foreground not in (ours, self.pid):
            return  # someone's `kill -STOP`, and no prompt to give back: their `kill -CONT` will not reach us
        everyone = foreground == self.pid  # without us the terminal's stop would have come for all of our group
        if everyone:
            terminal.give(ours)
        stopped = _stop_ourselves(number, everyone)
        if not stopped and number == signal.SIGSTOP:
            return  # as PID 1
        if not stopped and number in _WANTS_TERMINAL:
            time.sleep(_POLL_S)  # it will ask again at once
        # Not stopped: no shell could continue us (orphaned group), and without us the child would not have stopped.
        self._continue()

    def _continue(self) -> None:
        self._hand_over_again()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGCONT)

    def _hand_over_again(self) -> None:
        """After `fg` the shell has put our group in the foreground; after `bg` it has not."""
        if self._terminal is not None and self._handed_over and self._terminal.foreground() == os.getpgrp():
            self._terminal.give(self.pid)

    def _release_terminal(self) -> None:
        if self._terminal is None:
            return
        if self._terminal.foreground() == self.pid:
            self._terminal.give(os.getpgrp())
        self._terminal.close()
        self._terminal = None


class _Terminal:
    """The controlling terminal. With SIGTTOU blocked, a background process may change its foreground group too."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def open(cls) -> _Terminal | None:
        try:
            return cls(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        except OSError:
            return None

    def is_ours_alone(self) -> bool:
        """Whether no other process of our group can miss the foreground.

        Otherwise (a script that called us, a pager we write to) our group keeps it, terminal signals are forwarded,
        and the child gets the foreground when it first asks: it is stopped by SIGTTIN or SIGTTOU.
        """
        ours = os.getpgrp()
        if self.foreground() != ours or os.getpid() != ours:
            return False
        try:
            return not stat.S_ISFIFO(os.fstat(1).st_mode)
        except OSError:
            return True

    def foreground(self) -> int:
        try:
            return os.tcgetpgrp(self._fd)
        except OSError:  # hung up
            return -1

    def give(self, group: int) -> None:
        with contextlib.suppress(OSError):  # hung up, or the group is gone
            os.tcsetpgrp(self._fd, group)

    def close(self) -> None:
        os.close(self._fd)


class _Received(NamedTuple):
    """A signal. `sender` is a pid; 0 where the platform does not tell, or the sender is of another pid namespace."""

    number: int
    from_kernel: bool
    is_about_us: bool
    sender: int


def _next_signal(numbers: frozenset[int], timeout_s: float) -> _Received | None:
    """Take one pending signal of the blocked `numbers`, lowest number first."""
    if hasattr(signal, "sigtimedwait"):
        taken = signal_wait.take(numbers, timeout_s)
        if taken is None:
            return None
        from_kernel = taken.code > 0
        # SIGPIPE and SIGXFSZ for a write of ours look like a kill by ourselves; SIGXCPU is our own processor time.
        ours = taken.number == signal.SIGXCPU if from_kernel else taken.pid == os.getpid()
        return _Received(taken.number, from_kernel, ours, taken.pid)
    deadline = time.monotonic() + timeout_s  # macOS: sigwait only, without a time limit or an origin
    while not (pending := signal.sigpending() & numbers):
        if time.monotonic() >= deadline:
            return None
        time.sleep(_POLL_S)
    return _Received(int(signal.sigwait(pending)), False, False, 0)


def _stop_ourselves(number: int, everyone: bool) -> bool:
    """Stop as the child did, until continued; `everyone` stops our group (a script that waits for us) too.

    Returns False when the kernel would not stop us: PID 1, or an orphaned group.
    """
    only = frozenset({number})
    _next_signal(only, 0.0)  # one that came for us meanwhile would stop us a second time
    if number != signal.SIGSTOP:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, only)
    os.kill(0 if everyone else os.getpid(), number)  # taken before it returns: no other thread has it unblocked
    signal.pthread_sigmask(signal.SIG_BLOCK, only)
    # Stop signals discard a pending SIGCONT, so one that is there now is what woke us.
    return _next_signal(frozenset({signal.SIGCONT}), 0.0) is not None
