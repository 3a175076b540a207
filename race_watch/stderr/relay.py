"""The relay: stands between the worker's stderr and the pipe that we were given, so that the worker depends on no supervisor.

It is two processes: one that copies, and a keeper that has the same pipes open and replaces it if it is killed. They take
no signal that can be refused, hold no descriptor but the pipes', and end when the last process of the worker has closed its
stderr, or the reader has. They have a session, a parent and a name of their own: what ends the supervisor by its name, its
group or its children passes them by, and the worker with them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time

from race_watch.stderr.copying import DELIVERED, ENDED, READY
from race_watch.stderr.keeper import keep
from race_watch.stderr.lines import State
from race_watch.stderr.pipe import enlarge

MODE = "a pipe, by way of a relay"

_EVERY_SIGNAL = signal.valid_signals()
_STARTS_IN_S = 5.0
_DELIVERS_IN_S = 1.0


class Relay:
    """A running relay, as the supervisor has it. `fd` is the worker's stderr, until it is handed over.

    The caller must have one thread, and no journal yet: the relay's copy of it would say that the caller lives.

    Raises:
        OSError: None can be started.
    """

    mode = MODE

    def __init__(self, run_dir: str, stderr: int) -> None:
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            source, self.fd = os.pipe()
            theirs.callback(os.close, source)
            ours.callback(os.close, self.fd)
            self._control, control = socket.socketpair()
            theirs.callback(control.close)
            ours.callback(self._control.close)
            enlarge(self.fd)
            os.set_blocking(self.fd, os.get_blocking(stderr))
            _start(os.path.abspath(run_dir), source, stderr, control.fileno())
            theirs.close()
            self._control.settimeout(_STARTS_IN_S)
            if self._control.recv(1) != READY:
                raise OSError("the relay's process failed")
            ours.pop_all()

    def handed_over(self) -> None:
        """The worker has its end, or never will: while ours is open the pipe does not end."""
        os.close(self.fd)

    def poll(self, state: State) -> None:
        """Nothing: the relay states what it finds in a journal of its own."""

    def end(self, state: State) -> None:
        """Returns when what the ended worker wrote is delivered, or cannot be now. Processes that it left may write on."""
        until_s = time.monotonic() + _DELIVERS_IN_S
        try:
            self._control.sendall(ENDED)
            while (left_s := until_s - time.monotonic()) > 0:
                self._control.settimeout(left_s)
                word = self._control.recv(16)
                if not word or DELIVERED in word:
                    return
        except OSError:  # it has ended, all being delivered; or the time is up
            return


def _start(run_dir: str, source: int, target: int, control: int) -> None:
    supervisor = os.getpid()
    # Blocked before the fork: the relay must never be without it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _EVERY_SIGNAL)
    try:
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                if os.fork() == 0:
                    keep(run_dir, source, target, control, supervisor)
            finally:
                os._exit(0)
        with contextlib.suppress(ChildProcessError):  # SIGCHLD is ignored
            os.waitpid(pid, 0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
