"""What a process, its parent and its supervisor say of it: what is loaded, what is hooked, how it ends."""

from __future__ import annotations

from dataclasses import dataclass

from race_watch.events.encoding import Event


@dataclass(frozen=True, slots=True)
class SdkLoaded(Event):
    """A package we watch was imported. `package` is a distribution name."""

    package: str
    version: str


@dataclass(frozen=True, slots=True)
class HookInstalled(Event):
    hook: str


@dataclass(frozen=True, slots=True)
class HookStruck(Event):
    """The body of one of our hooks raised `error`, or its patch target is missing; `off` is 1 when the hook is now off."""

    hook: str
    error: str
    off: int


@dataclass(frozen=True, slots=True)
class LoopBorn(Event):
    """`process_name` is multiprocessing's, at that moment (a livekit job is `job_proc`); `thread` the name of the thread."""

    kind: str
    process_name: str
    thread: str


@dataclass(frozen=True, slots=True)
class LoopClosed(Event):
    kind: str


@dataclass(frozen=True, slots=True)
class ProblemStated(Event):
    """A line for the operator: a setting of this process that cannot be used."""

    text: str


@dataclass(frozen=True, slots=True)
class Disarmed(Event):
    """`install()` was undone in this process."""

    reason: str


@dataclass(frozen=True, slots=True)
class ProcessExiting(Event):
    """The interpreter began to end in order; `error` is the type of the exception that ended it, empty for none."""

    error: str


@dataclass(frozen=True, slots=True)
class ChildEnded(Event):
    """A child of this process has ended: `status` is its exit code, or its signal as a negative number."""

    pid: int
    status: int
    core_dumped: int


@dataclass(frozen=True, slots=True)
class ChildSignalled(Event):
    """This process sends a signal to its child.

    `sender` is the process that it passes it on for, -1 if that is the kernel or unknown; 0 if it is its own doing.
    """

    pid: int
    signal: int
    sender: int


@dataclass(frozen=True, slots=True)
class ChildLogged(Event):
    """livekit-agents logged something about a job process: `text` is what it says, without its numbers."""

    pid: int
    text: str
    job_id: str
    room: str


@dataclass(frozen=True, slots=True)
class MemoryKilled(Event):
    """The kernel killed `count` processes of this control group for want of memory since it was last looked at."""

    count: int
