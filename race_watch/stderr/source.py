"""How a worker's stderr can be seen: what it is decides, and where nothing can be promised it is left alone."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from typing import Protocol

from race_watch.stderr import LEFT_ALONE
from race_watch.stderr.file import FileBeside
from race_watch.stderr.lines import State

STDERR = 2


class WorkerStderr(Protocol):
    """Used by the supervisor's main thread, in this order.

    Attributes:
        mode: How it is seen, or why it is not, in words.
    """

    mode: str

    @property
    def fd(self) -> int | None:
        """What the worker gets as its stderr; None is ours, as it is."""

    def handed_over(self) -> None:
        """The worker was started, or cannot be."""

    def poll(self, state: State) -> None:
        """Some times a second while it runs."""

    def end(self, state: State) -> None:
        """It has ended: what it wrote is delivered and looked at when this returns, if that can be had in a second."""


class LeftAlone:
    """The worker's stderr is ours, and nobody looks."""

    fd: int | None = None

    def __init__(self, why: str) -> None:
        self.mode = LEFT_ALONE + why

    def handed_over(self) -> None: ...
    def poll(self, state: State) -> None: ...
    def end(self, state: State) -> None: ...


def open_stderr(run_dir: str, setting: str = "auto") -> WorkerStderr:
    """Decides, and starts what is needed; before the worker and any other thread.

    Args:
        run_dir: Where the relay states what it finds.
        setting: `auto` or `off`.
    """
    why = why_left_alone(setting)
    if why:
        return LeftAlone(why)
    try:
        if stat.S_ISREG(os.fstat(STDERR).st_mode):
            return FileBeside(STDERR)
        from race_watch.stderr.relay import Relay

        return Relay(run_dir, STDERR)
    except ImportError:
        return LeftAlone("this Python was built without ctypes")
    except OSError as error:
        return LeftAlone(error.strerror or str(error))


def why_left_alone(setting: str = "auto") -> str:
    """Why a worker that is started with the stderr of this process keeps it unseen; empty where it need not."""
    if setting == "off":
        return "switched off"
    try:
        found = os.fstat(STDERR)
    except OSError:
        return "it is closed"
    try:
        return "" if stat.S_ISREG(found.st_mode) else _why_not_relayed(found)
    except OSError as error:
        return error.strerror or str(error)


def _why_not_relayed(found: os.stat_result) -> str:
    if not stat.S_ISFIFO(found.st_mode):
        if stat.S_ISSOCK(found.st_mode):
            return "a socket"
        return "a terminal" if os.isatty(STDERR) else "a device"
    if sys.platform != "linux" or not hasattr(os, "splice"):
        return "there is no splice(2) here"
    if not os.readlink(f"/proc/self/fd/{STDERR}").startswith("pipe:"):
        return "a named pipe"  # which may get another reader when one has gone
    flags = fcntl.fcntl(STDERR, fcntl.F_GETFL)
    if flags & os.O_ACCMODE == os.O_RDONLY:
        return "it is not open for writing"
    if flags & os.O_DIRECT:
        return "a pipe of packets"
    others = [name for name in map(int, os.listdir("/proc/self/fd")) if name != STDERR and _is_passed_on(name, found)]
    # What is written to the one and to the other would change its order.
    return f"the same pipe as {'stdout' if others[0] == 1 else f'descriptor {others[0]}'}" if others else ""


def _is_passed_on(descriptor: int, as_what: os.stat_result) -> bool:
    """Whether the worker inherits this descriptor, and it is the same file."""
    try:
        return os.get_inheritable(descriptor) and os.path.samestat(os.fstat(descriptor), as_what)
    except OSError:  # that of the listing itself
        return False
