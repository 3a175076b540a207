"""The host half, wired: opens this process's journal, installs the hooks, follows forks, and undoes it all.

Everything here runs a few times in a process's life. Nothing raises into the host.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from typing import Any

from race_watch import post_import
from race_watch.events import Disarmed, HookInstalled, HookStruck, ProblemStated, SdkLoaded, clean
from race_watch.guard import Guard
from race_watch.hooks import HOOKS, default_registry
from race_watch.hooks.context import Context, set_armed
from race_watch.hooks.counting import Counting
from race_watch.hooks.exceptions import Exceptions
from race_watch.hooks.patching import Patches
from race_watch.hooks.recorder import Recorder
from race_watch.hooks.resources import Resources
from race_watch.hooks.rooms import Rooms
from race_watch.hooks.tasks import Tasks
from race_watch.journal import directory
from race_watch.journal.writer import Journal, file_name
from race_watch.settings import PREFIX, Settings, from_env

RUN_DIR = PREFIX + "RUN_DIR"
WATCHER = PREFIX + "WATCHER"

# Distribution -> module whose import tells that it is in use; its `.version` module has the version.
SDKS = {"livekit": "livekit.rtc", "livekit-agents": "livekit.agents"}

_NO_ROOM = (
    "the oldest journals of ended processes were removed to make room for new ones: the directory holds "
    f"{directory.JOURNALS_KEPT} or {directory.JOURNALS_KEPT_BYTES // 2**30} GiB of them; is a watcher running?"
)


class Agent:
    """race_watch in one process.

    Attributes:
        problems: Lines for the operator, which the watcher half prints.
        is_root: Nobody watches yet: this process is the first of its worker and its journals need a watcher.
        shows_metrics: It is to have the watcher's numbers in its default registry: a main process, and that was asked for.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.problems = list(settings.problems)
        self.run_dir = ""
        self.path = ""
        self.is_root = settings.watcher == "auto"
        self.shows_metrics = False
        self.journal: Journal | None = None
        recorder, rooms = Recorder(), Rooms()
        tasks, resources = Tasks(recorder, rooms), Resources(recorder, rooms)
        if settings.referrers:
            resources.handles.objects = {}
        self.context = Context(
            recorder=recorder,
            exceptions=Exceptions(recorder, settings.exceptions_per_minute),
            rooms=rooms,
            tasks=tasks,
            resources=resources,
            counting=Counting(recorder, rooms, tasks, resources, settings.count_every_s),
        )
        self._installed: dict[tuple[str, str], tuple[Patches, Guard]] = {}
        # What a fork hook raises is printed into the host's stderr.
        self.forked = recorder.guard("forks").wrap(self._follow_fork)

    def open_journal(self, role: str) -> None:
        """Makes this process's journal; without one the hooks stay silent and `problems` says why."""
        try:
            if not self.run_dir:
                self.run_dir = directory.use(self.settings.run_dir) if self.settings.run_dir else directory.create()
            nonce = os.urandom(8)
            python = ".".join(map(str, sys.version_info[:3]))
            self.shows_metrics = bool(self.settings.also_default_registry) and (self.is_root or role == "main")
            who: dict[str, object] = {"role": role, "python": python, "sdk": _sdk_versions()}
            if self.shows_metrics:
                who["shows_metrics"] = True
            path = os.path.join(self.run_dir, file_name(nonce))
            self.path = path
            removed = directory.make_room(path, self.settings.journal_bytes)
            self.journal = Journal(path, self.settings.journal_bytes, nonce, who)
            self.context.pid, self.context.run_dir = os.getpid(), os.path.abspath(self.run_dir)
            key, plain = directory.key(self.run_dir), self.settings.identity == "plain"
            self.context.recorder.attach(self.journal.emit, self.journal.count, nonce.hex(), key, plain=plain)
            for problem in self.settings.problems:
                self.context.recorder.state(ProblemStated, clean(problem))
            if removed:
                self.context.recorder.state(ProblemStated, _NO_ROOM)
        except OSError as error:
            self.journal = None
            self.context.recorder.detach()
            self.problems.append(f"no journal in {self.run_dir or 'any directory'}: {error.strerror or error}")

    def install_hooks(self) -> None:
        """Installs each hook, now or when its module is imported."""
        finder = post_import.finder()
        # Under one of our wraps the bootstrap's trap would stay, and arm again after an undo.
        finder.release_traps()
        for hook in HOOKS:
            for target in (hook.TARGET, *getattr(hook, "ALSO", ())):
                finder.when_imported(target, partial(self._install, hook))
        for package, name in SDKS.items():
            finder.when_imported(name, partial(self._sdk_loaded, package))

    def _install(self, hook: Any, module: Any) -> None:
        """A target that is missing switches off that hook alone."""
        key = (hook.NAME, module.__name__)
        if key in self._installed or self.journal is None:
            return
        # Asked now: this may be a fork by the time its target is imported.
        if hook is default_registry and not self.shows_metrics:
            return
        patches, guard = Patches(), self.context.recorder.guard(hook.NAME)
        try:
            hook.install(self.context, module, patches, guard)
        except Exception as error:  # noqa: BLE001 - a foreign library that has changed must not end its host
            patches.undo()
            self.context.recorder.state(HookStruck, hook.NAME, type(error).__name__, 1)
            return
        self._installed[key] = patches, guard
        self.context.recorder.state(HookInstalled, hook.NAME)

    def _sdk_loaded(self, package: str, module: Any) -> None:
        version = _sdk_versions().get(package)
        if version is not None:
            self.context.recorder.state(SdkLoaded, package, version)

    def _follow_fork(self) -> None:
        """In the child: a journal of its own before its first write. No lock, no log record, no import, no thread."""
        if self.context.when_forked is not None:
            self.context.when_forked()
            self.context.when_forked = None
        if self.journal is not None and self.journal.pid != os.getpid():
            self.journal.close()
            self.is_root = False
            self.context.tasks.constructing.stack.clear()
            self.context.rooms.forked()
            self.context.resources.handles.forked()
            self.context.counting.forked()
            self.open_journal("fork")

    def disarm(self) -> list[str]:
        """Takes everything out again.

        Returns:
            Attributes that somebody else has wrapped since; ours stay underneath, doing nothing.
        """
        self.context.recorder.state(Disarmed, "undo")
        left: list[str] = []
        for patches, guard in reversed(self._installed.values()):
            left += patches.undo()
            guard.off = True
        self._installed.clear()
        self.context.recorder.detach()
        if self.journal is not None:
            self.journal.close()
            self.journal = None
        return left


_agent: Agent | None = None
_arming = threading.Lock()
_follows_forks = False


def arm() -> Agent:
    """Arms this process; a second call gives the agent of the first."""
    global _agent, _follows_forks
    if not _follows_forks:
        # Before the lock is taken: a child of a fork meanwhile would find it taken for ever. Cannot be undone, so it is one
        # function of the module, which asks for the agent of the day.
        _follows_forks = True
        os.register_at_fork(after_in_child=_after_fork)
    with _arming:
        if _agent is not None:
            return _agent
        agent = Agent(from_env())
        agent.open_journal(_role())
        _agent = agent
        set_armed(agent.context)
    agent.install_hooks()
    return agent


def disarm() -> list[str]:
    """Undoes `arm`; see `Agent.disarm`. The watcher's finder and the directory are its caller's."""
    global _agent
    agent, _agent = _agent, None
    set_armed(None)
    post_import.finder().stop()
    return agent.disarm() if agent is not None else []


def current() -> Agent | None:
    """The agent of this process, or None."""
    return _agent


def _after_fork() -> None:
    global _arming
    _arming = threading.Lock()
    if _agent is not None:
        _agent.forked()


def _role() -> str:
    """`fork`, `forkserver`, `spawn` or `main`; the latter by the command line that multiprocessing gives its children."""
    arguments = getattr(sys, "orig_argv", [])
    if os.getpid() != post_import.finder().pid:
        return "fork"
    if "--multiprocessing-fork" in arguments:
        return "spawn"
    if any("multiprocessing.forkserver" in argument for argument in arguments):
        # Its children have its command line, but a name of their own.
        processes = sys.modules.get("multiprocessing.process")
        return "fork" if processes is not None and processes.current_process().name != "MainProcess" else "forkserver"
    return "main"


def _sdk_versions() -> dict[str, str]:
    versions = {}
    for package, name in SDKS.items():
        version = getattr(sys.modules.get(f"{name}.version"), "__version__", None)
        if type(version) is str:
            versions[package] = version
    return versions
