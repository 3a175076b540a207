"""Real processes for the supervisor's tests. Run as a script with a command it is the smallest `race-watch run`."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PATIENCE_S = 30.0
END = signal.SIGRTMAX
"""Ends the recorder. The highest number: the kernel hands out every other pending signal first."""

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PS1": "prompt> ", "TERM": "dumb"}

# Says "NAME SENDER" for each signal, the kernel being sender 0. Blocked and taken one by one: a signal that came both
# directly and through the supervisor shows as the direct one, whose sender is wrong, even where the two merged.
_RECORDER = """
import os, signal, sys
out, everything = int(sys.argv[1]), signal.valid_signals()
signal.pthread_sigmask(signal.SIG_BLOCK, everything)
os.write(out, b"ready %d\\n" % os.getpid())
while (info := signal.sigtimedwait(everything, 60)) and info.si_signo != signal.SIGRTMAX:
    try:
        name = signal.Signals(info.si_signo).name
    except ValueError:
        name = str(info.si_signo)
    os.write(out, b"%s %d\\n" % (name.encode(), info.si_pid))
os.write(out, b"end\\n")
"""

# What the process that starts us may have done to its signals: names to ignore, names to block, then the command.
_WITH_SIGNALS = """
import os, signal, sys
ignored, blocked = ({getattr(signal, name) for name in names.split()} for names in sys.argv[1:3])
for number in {signal.SIGPIPE, signal.SIGXFSZ, *ignored}:
    signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
os.execvp(sys.argv[3], sys.argv[3:])
"""

_IN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def python(source: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", source, *arguments]


def supervised(*command: str) -> list[str]:
    return [sys.executable, __file__, *command]


def with_signals(*command: str, ignored: str = "", blocked: str = "") -> list[str]:
    return python(_WITH_SIGNALS, ignored, blocked, *command)


def run(command: Sequence[str], **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, timeout=PATIENCE_S, env=ENVIRONMENT, check=False, **options)  # type: ignore[call-overload,no-any-return]


class Recorder:
    """A child that reports its signals over a pipe of its own, so that its three streams are free for the test."""

    def __init__(self) -> None:
        read, self.descriptor = os.pipe()
        self._lines = open(read, "rb", buffering=0)  # noqa: SIM115 - closed by `recording`
        self.pid = 0

    @property
    def command(self) -> list[str]:
        return python(_RECORDER, str(self.descriptor))

    def started(self) -> None:
        """Wait until it takes signals; from then on its end is the end of the pipe."""
        os.close(self.descriptor)
        word, pid = self._line().split()
        assert word == "ready"
        self.pid = int(pid)

    def next(self) -> str:
        """The next `NAME SENDER`."""
        return self._line()

    def rest(self) -> list[str]:
        """The lines from here to its end."""
        return list(iter(self._line, "end"))

    def _line(self) -> str:
        assert select.select([self._lines], [], [], PATIENCE_S)[0], "the recorder says nothing"
        line = self._lines.readline()
        assert line, "the recorder died"
        return line.decode().strip()

    def close(self) -> None:
        self._lines.close()
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


@contextmanager
def recording(before: Sequence[str] = ()) -> Iterator[tuple[subprocess.Popen[bytes], Recorder]]:
    """A supervised recorder, ready, in a session of its own; `before` is what starts the supervisor."""
    recorder = Recorder()
    with ExitStack() as stack:
        stack.callback(recorder.close)
        command = [*before, *supervised(*recorder.command)]
        process = stack.enter_context(
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                env=ENVIRONMENT,
                pass_fds=[recorder.descriptor],
                start_new_session=True,
            )
        )
        stack.callback(process.kill)
        recorder.started()
        yield process, recorder


class Terminal:
    """A pseudo terminal and the session leader in it."""

    def __init__(self, command: Sequence[str], keep: Sequence[int] = ()) -> None:
        self.master, slave = os.openpty()
        self.process = subprocess.Popen(
            python(_IN_TERMINAL, *command),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=ENVIRONMENT,
            pass_fds=keep,
            start_new_session=True,
        )
        os.close(slave)
        self._unread = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def resize(self) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, b"\x28\0\x64\0\0\0\0\0")

    def expect(self, pattern: str) -> re.Match[str]:
        """Read on until `pattern` matches what has not been matched yet."""
        deadline = time.monotonic() + PATIENCE_S
        while not (match := re.search(pattern, self._unread)):
            ready = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, f"no {pattern!r} in {self._unread!r}"
            self._unread += os.read(self.master, 4096).decode(errors="replace")
        self._unread = self._unread[match.end() :]
        return match

    def close(self) -> None:
        with suppress(OSError):
            os.close(self.master)  # hangs up: the session's foreground goes with it
        self.process.kill()
        self.process.wait(PATIENCE_S)


@contextmanager
def terminal(command: Sequence[str], keep: Sequence[int] = ()) -> Iterator[Terminal]:
    opened = Terminal(command, keep)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def shell() -> Iterator[Terminal]:
    """An interactive bash at its prompt."""
    with terminal(["bash", "--norc", "--noprofile", "--noediting", "-i"]) as opened:
        opened.expect("prompt> ")
        yield opened


def typed(command: Sequence[str]) -> str:
    """The command as one types it."""
    return shlex.join(command)


def main() -> None:
    from race_watch.supervisor import CommandError, leave, spawn

    try:
        child = spawn(sys.argv[1:])
    except CommandError as error:
        print(error, file=sys.stderr)
        sys.exit(error.status)
    leave(child.wait())


if __name__ == "__main__":
    main()
