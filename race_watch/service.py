"""A watcher with its outputs (metrics, incident file, lines on stderr) in a daemon thread of the supervisor, or of a worker."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from race_watch.guard import Guard
from race_watch.settings import Settings, SettingsError

Opened = TypeVar("Opened")

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
        summary: Print one at the end, unless quiet.
    """

    def __init__(
        self, run_dir: str, settings: Settings, problems: Iterable[str] = (), *, keep: bool = False, summary: bool = True
    ) -> None:
        self._run_dir = run_dir
        self._settings = settings
        self._problems = tuple(problems)
        self._keep = keep
        self._summary = summary
        self._stop = threading.Event()
        self._notes: list[str] = []
        self._thread = threading.Thread(target=self._run, name="race_watch-watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

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

    def _watch(self, guard: Guard) -> None:
        from race_watch.exporters import jsonl, prometheus, text
        from race_watch.incidents import Incident
        from race_watch.watcher import Watcher

        quiet = bool(self._settings.quiet)
        file = _open_or_warn(jsonl.IncidentFile, self._settings.incidents) if self._settings.incidents else None

        def publish(incident: Incident, again: bool) -> None:
            if not quiet and not again:
                say(text.line(incident))
            if file is not None:
                try:
                    file.write(incident)
                except OSError as error:
                    warn(f"incident file stopped: {error.strerror}")

        watcher = Watcher(self._run_dir, publish, warn, keep=self._keep, told=set(self._problems))
        host, port = self._settings.metrics_host, self._settings.metrics_port
        endpoint = _open_or_warn(prometheus.serve, host, port, lambda: watcher.totals.snapshot)
        if endpoint is not None and not quiet:
            say(f"{text.PREFIX} metrics at {endpoint.url}")
        poll = guard.wrap(watcher.poll)
        while not self._stop.wait(_POLL_S):
            poll()
        Guard("watcher", guard.on_strike).wrap(watcher.finish)()
        if self._summary and not quiet:
            notes = [*self._notes, *text.losses(watcher.totals.lost), *text.attachment(watcher.totals.attached)]
            say(text.summary(list(watcher.incidents.groups.values()), notes))
        if file is not None:
            file.close()
        if endpoint is not None:
            endpoint.stop()


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


def _open_or_warn(open_it: Callable[..., Opened], *args: object) -> Opened | None:
    try:
        return open_it(*args)
    except SettingsError as error:
        warn(str(error))
        return None
    except RuntimeError as error:
        # No more threads. At the end of a short process (from Python 3.12 on) that is no news; its journal is still read.
        if "shutdown" not in str(error):
            warn(str(error))
        return None
