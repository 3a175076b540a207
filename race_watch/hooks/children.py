"""What a parent knows of its multiprocessing children: the signals it sends, how they ended, what livekit-agents says of them.

A child that native code has ended cannot say anything; its parent has the exit status. Both are stated with the child's pid,
and the watcher joins them with the child's own journal.
Source: CPython 3.10 to 3.14 `multiprocessing/popen_fork.py:Popen.poll, _send_signal`, `popen_forkserver.py:Popen.poll`;
livekit-agents 1.5 to 1.8 `ipc/supervised_proc.py:SupervisedProc._send_kill_signal, _supervise_task`.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import Any

from race_watch.events import ChildEnded, ChildLogged, ChildSignalled, clean
from race_watch.guard import Guard
from race_watch.hooks.context import Context
from race_watch.hooks.patching import Patches

NAME = "children"
TARGET = "multiprocessing.popen_fork"
ALSO = ("multiprocessing.popen_forkserver", "livekit.agents.ipc.supervised_proc")
SUPPORTED = "CPython 3.10 to 3.14, livekit-agents 1.5 to 1.8"

AGENTS_LOGGER = "livekit.agents"
# What livekit-agents says of a process it gives up, and of one that has ended by itself. Some texts go on with numbers.
_TEXTS = (
    "process is unresponsive",
    "process exceeded memory limit",
    "process did not ack shutdown in time",
    "process did not exit in time",
    "process exited with non-zero exit code",
)
_TEXT_KEPT = 128
# What the forkserver's Popen says where the server has died: nobody knows how the child ended.
_UNKNOWN = 255


def install(context: Context, module: Any, patches: Patches, guard: Guard) -> None:
    """Wraps `Popen.poll` and `Popen._send_signal`, or the kill of livekit-agents."""
    if hasattr(module, "SupervisedProc"):
        _wrap_agents(context, module.SupervisedProc, patches, guard)
        return
    cannot_know = module.__name__.endswith("forkserver")
    ended = guard.wrap(lambda child, status: _ended(context, child, status, cannot_know))

    def wrap_poll(original: Callable[..., Any]) -> Callable[..., Any]:
        def poll(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self.returncode is not None:
                return original(self, *args, **kwargs)
            status = original(self, *args, **kwargs)
            if status is not None:
                ended(self, status)
            return status

        return poll

    patches.replace(module.Popen, "poll", wrap_poll)
    if "_send_signal" not in vars(module.Popen):
        return
    signalled = guard.wrap(lambda child, number: _signalled(context, child.pid, number))

    def wrap_signal(original: Callable[..., Any]) -> Callable[..., Any]:
        def _send_signal(self: Any, sig: int) -> Any:
            if self.returncode is None:
                signalled(self, sig)
            return original(self, sig)

        return _send_signal

    patches.replace(module.Popen, "_send_signal", wrap_signal)


def _wrap_agents(context: Context, supervised: type, patches: Patches, guard: Guard) -> None:
    """The kill begins with SIGUSR1 by `os.kill`, half a second before the SIGKILL that multiprocessing sends."""
    killing = guard.wrap(lambda process: _killing(context, process))

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        async def _send_kill_signal(self: Any) -> Any:
            killing(self)
            return await original(self)

        return _send_kill_signal

    patches.replace(supervised, "_send_kill_signal", wrap)


def _killing(context: Context, process: Any) -> None:
    child = getattr(process, "_proc", None)
    # Closed, it has no Popen any more, and nothing will be sent.
    popen = getattr(child, "_popen", None)
    if popen is not None and popen.returncode is None:
        _signalled(context, popen.pid, signal.SIGUSR1)


def _signalled(context: Context, pid: int, number: int) -> None:
    context.recorder.state(ChildSignalled, pid, int(number), 0)


def _ended(context: Context, child: Any, status: int, cannot_know: bool) -> None:
    if not (cannot_know and status == _UNKNOWN):
        context.recorder.state(ChildEnded, child.pid, status, 0)


def agents_said(context: Context, record: logging.LogRecord, template: str) -> None:
    """States what livekit-agents says of a job process; its record has the pid, and the job's id and room, as attributes."""
    text = next((known for known in _TEXTS if known in template), None)
    pid = vars(record).get("pid")
    # It warns in the same words of an answer that came late, and gives nothing up.
    if text is None or type(pid) is not int or record.levelno < logging.ERROR:
        return
    job_id, room = (_text(vars(record).get(name)) for name in ("job_id", "room"))
    context.recorder.state(ChildLogged, pid, text, job_id, room)


def _text(value: Any) -> str:
    return clean(value)[:_TEXT_KEPT] if type(value) is str else ""
