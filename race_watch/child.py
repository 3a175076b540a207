"""The supervised command: how it is started, how it ended, and how to end like it."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

_UNKNOWN_COMMAND = 127
_CANNOT_RUN = 126
_PR_SET_DUMPABLE = 4

_WHY = {
    errno.ENOENT: "its interpreter does not exist; correct the first line (#!) or install that interpreter",
    errno.EACCES: "permission denied; make it executable (chmod +x) and check that the mount is not noexec",
    errno.ENOEXEC: "exec format error; start a script with a #! line, or use a program built for this machine",
}


@dataclass(frozen=True, slots=True)
class Exit:
    """How the child ended: exactly one of `code` (0-255) and `signal` (its number) is set."""

    code: int | None
    signal: int | None
    core_dumped: bool

    @classmethod
    def from_wait_status(cls, status: int) -> Exit:
        """Read the status `os.waitpid` gave for a child that ended."""
        if os.WIFSIGNALED(status):
            return cls(None, os.WTERMSIG(status), os.WCOREDUMP(status))
        return cls(os.WEXITSTATUS(status), None, False)

    @property
    def shell_status(self) -> int:
        """What a shell shows as `$?`: the code, or 128 plus the signal."""
        if self.signal is not None:
            return 128 + self.signal
        return self.code or 0

    def describe(self) -> str:
        """Say it in words: `exit status 3`, `killed by SIGABRT`."""
        if self.signal is None:
            return f"exit status {self.code}"
        try:
            return f"killed by {signal.Signals(self.signal).name}"
        except ValueError:  # the real-time signals between SIGRTMIN and SIGRTMAX have no names
            return f"killed by signal {self.signal}"


class CommandError(Exception):
    """The command could not be started. `status` is what a shell would exit with: 127 unknown, 126 cannot run."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def start(argv: Sequence[str], env: Mapping[str, str] | None, prepare: Callable[[], None]) -> int:
    """Fork and exec; returns the pid once the exec has succeeded.

    The calling process must have one thread: `prepare` and the exec run Python code in the forked child, where a
    lock held by another thread would never be released.

    Args:
        env: None inherits. Its PATH is the one searched.
        prepare: Runs in the child just before the exec.

    Raises:
        CommandError: No process, or no program, could be started. Nothing is left to wait for.
    """
    if not argv or not argv[0]:
        raise CommandError("no command given; write it after --", _UNKNOWN_COMMAND)
    environment = dict(os.environ if env is None else env)
    report_read, report_write = os.pipe()  # close-on-exec: end of file without a word means the exec succeeded
    try:
        pid = os.fork()
    except OSError as error:
        os.close(report_read)
        os.close(report_write)
        message = f"cannot start a process for {argv[0]!r}: {error.strerror}; check the process and memory limits"
        raise CommandError(message, _CANNOT_RUN) from error
    if pid == 0:
        _become(argv, environment, prepare, report_write)
    os.close(report_write)
    with open(report_read, "rb") as report:
        failure = report.read()
    if not failure:
        return pid
    os.waitpid(pid, 0)
    raise _explain(argv[0], environment, int(failure))


def _become(argv: Sequence[str], env: Mapping[str, str], prepare: Callable[[], None], report: int) -> NoReturn:
    failure = errno.EINVAL  # what execve would say to a ValueError: a NUL in an argument, "=" in a variable's name
    try:
        prepare()
        os.execvpe(argv[0], list(argv), env)
    except OSError as error:
        failure = error.errno or failure
    except ValueError:
        pass
    finally:  # whatever happened, the copy of the parent must not return into the parent's code
        os.write(report, str(failure).encode())
        os._exit(_UNKNOWN_COMMAND)


def _explain(name: str, env: Mapping[str, str], failure: int) -> CommandError:
    found = _locate(name, env)
    # execvp says EACCES, not ENOENT, when a directory of PATH cannot be searched; shells call that unknown too.
    searched_in_vain = found is None and (failure != errno.EACCES or "/" not in name)
    if searched_in_vain and failure in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
        where = "no such file; check the path" if "/" in name else "command not found; check its spelling and PATH"
        return CommandError(f"{name!r}: {where}", _UNKNOWN_COMMAND)
    if found is not None and os.path.isdir(found):
        return CommandError(f"cannot run {found!r}: it is a directory; name a program in it", _CANNOT_RUN)
    return CommandError(f"cannot run {found or name!r}: {_WHY.get(failure) or os.strerror(failure)}", _CANNOT_RUN)


def _locate(name: str, env: Mapping[str, str]) -> str | None:
    candidates = [name] if "/" in name else [os.path.join(place, name) for place in os.get_exec_path(env)]
    return next(filter(os.path.exists, candidates), None)


def leave(exit: Exit) -> NoReturn:
    """End as the child did: with its code, or of its signal (128 plus the signal where that cannot kill us, as PID 1).

    Standard streams are flushed; `atexit` handlers do not run and threads are cut off.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or a broken pipe: the child's status matters more
            stream.flush()
    if exit.signal is not None:
        _die_of(exit.signal)
    os._exit(exit.shell_status)


def _die_of(number: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":
        # A core pattern that pipes to a program disregards the limit, but not this.
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
