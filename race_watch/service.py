"""A watcher with its outputs (metrics, incident file, lines on stderr) in a daemon thread of the supervisor, or of a worker."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from race_watch.clock import monotonic_s
from race_watch.events import Event, MemoryKilled
from race_watch.guard import Guard
from race_watch.memory_kills import MemoryKills
from race_watch.own_journal import OwnJournal
from race_watch.settings import Settings
from race_watch.stderr import NOT_HERE

if TYPE_CHECKING:
    from race_watch.outside import Outside

_POLL_S = 0.25
# What a stop may take: the last poll of 50 jobs takes 0.2 s here.
_STOP_S = 5.0


class WatcherThread:
    """Starts with `start()`, ends with `stop()`. Everything heavy is imported in the thread.

    Args:
        run_dir: Where the journals are.
        settings: What to serve and write, and whether to be quiet.
        problems: Lines to print first, whether quiet or not.
        keep: Leave the journals of ended processes in place.
        in_worker: This process is the worker's: no summary at its end.
        stderr: How the worker's stderr is seen, in words.
        command: The pid of the command that is supervised: what is not watched there is measured from outside.
    """

    def __init__(
        self,
        run_dir: str,
        settings: Settings,
        problems: Iterable[str] = (),
        *,
        keep: bool = False,
        in_worker: bool = False,
        stderr: str = NOT_HERE,
        command: int | None = None,
    ) -> None:
        self._run_dir = run_dir
        self._settings = settings
        self._problems = tuple(problems)
        self._keep = keep
        self._in_worker = in_worker
        self._stderr = stderr
        self._command = command
        self._stop = threading.Event()
        self._notes: list[str] = []
        self._own = OwnJournal(run_dir)
        self._measured: OwnJournal | None = None
        self._thread = threading.Thread(target=self._run, name="race_watch-watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def state(self, event: type[Event], *values: object) -> None:
        """States what the caller sees of the worker, its fields in order, for the detectors to judge. Any thread may."""
        self._own.state(event, *values)

    def forked(self) -> None:
        """In the child of a fork of this process."""
        self._own.close()

    def stop(self, *notes: str) -> None:
        """Reads to the end, prints the summary with these notes, frees the port; returns when that is done."""
        self._notes = list(notes)
        self._stop.set()
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        for problem in self._problems:
            warn(problem)
        # A failure of ours is said, and after three of them the watcher stands still: the worker runs on.
        guard = Guard("watcher", lambda _, error, off: warn(f"watcher failed: {error}" + (" and gave up" if off else "")))
        guard.wrap(self._watch)(guard)

    def _look_for_kills(self, kills: MemoryKills) -> None:
        count = kills.new()
        if count:
            self._own.state(MemoryKilled, count)

    def _outside(self) -> Outside | None:
        """Who measures what nothing watches, where the command is known."""
        if self._command is None:
            return None
        try:
            from race_watch.outside import Outside
        except ImportError:
            warn("processes in other languages are not measured: psutil is not installed here")
            return None
        return Outside(self._command, self._state_measured)

    def _state_measured(self, event: type[Event], *values: object) -> None:
        if self._measured is None or not self._measured.made:
            first, self._measured = self._measured is None, OwnJournal(self._run_dir, size=self._settings.journal_bytes)
            if first and not self._measured.made:
                warn(f"processes in other languages are not measured yet: no space for a journal in {self._run_dir}")
        self._measured.state(event, *values)

    def _watch(self, guard: Guard) -> None:
        from race_watch.exporters import text
        from race_watch.outputs import Outputs, otlp_of
        from race_watch.totals import Totals
        from race_watch.watcher import Watcher

        totals = Totals()
        otlp = otlp_of(self._settings, self._run_dir, totals, warn)
        watcher = Watcher(
            self._run_dir,
            lambda incident, again: outputs.publish(incident, again),
            warn,
            keep=self._keep,
            resume=True,
            told=set(self._problems),
            totals=totals,
            sessions=otlp.sessions if otlp is not None else None,
        )
        outputs = Outputs(self._settings, self._run_dir, watcher.fleet, totals, say, warn, otlp, stderr=self._stderr)

        def struck(hook: str, error: str, off: bool) -> None:
            warn(f"{hook} failed: {error}" + (" and gave up" if off else ""))
            outputs.failed(f"{hook} failed: {error}")

        guard.on_strike = struck
        outside = self._outside()

        def measure() -> None:
            if outside is not None:
                outside.look([facts.process.pid for facts in watcher.fleet.live()], monotonic_s())

        measured = Guard("measuring from outside", struck).wrap(measure)
        look = Guard("count of memory kills", struck).wrap(partial(self._look_for_kills, MemoryKills()))
        poll, polled = guard.wrap(watcher.poll), Guard("watcher's outputs", struck).wrap(outputs.polled)
        while not self._stop.wait(_POLL_S):
            look()
            poll()
            measured()
            polled(guard.off)
        look()
        # From here on it is a journal like any other that has ended: read to its end, and removed.
        self._own.close()
        if self._measured is not None:
            self._measured.close()
        Guard("watcher", struck).wrap(watcher.finish)()
        if not self._in_worker and not self._settings.quiet:
            unread = text.unread(self._stderr, totals.ended)
            notes = [*self._notes, *text.losses(totals.lost), *unread, *text.attachment(totals.attached, totals.measured)]
            say(text.summary(list(watcher.incidents.groups.values()), notes))
        outputs.stop()


def say(line: str) -> None:
    """One line to stderr, without colours where it is no terminal; a stderr that is gone is no reason to fail."""
    import click

    try:
        click.echo(line, err=True)
    except (OSError, ValueError, AttributeError):
        return


def warn(line: str) -> None:
    """A problem: one line, also when quiet."""
    if sys.stderr is None:
        return
    try:
        print(f"race-watch: {line}", file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        return
