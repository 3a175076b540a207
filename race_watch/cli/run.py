"""`race-watch run`: a transparent parent that watches."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from race_watch.cli.options import merged, with_outputs
from race_watch.events import ChildEnded, ChildSignalled
from race_watch.journal import directory
from race_watch.launch import environment, switched_off
from race_watch.service import WatcherThread, warn
from race_watch.settings import Settings
from race_watch.stderr.source import open_stderr
from race_watch.supervisor import CommandError, leave, spawn


@click.command(context_settings={"allow_interspersed_args": False})
@with_outputs
@click.option("--run-dir", metavar="DIR", help="Directory of the journals [a new private one].")
@click.option("--keep", is_flag=True, help="Keep the journals, for `race-watch report DIR`.")
@click.option("--also-default-registry", is_flag=True, help="Show the metrics in the worker's own /metrics too.")
@click.option("--no-stderr", is_flag=True, help="Leave the command's stderr alone: panic texts on it are not seen.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    command: tuple[str, ...],
    quiet: bool,
    run_dir: str | None,
    keep: bool,
    also_default_registry: bool,
    no_stderr: bool,
    **outputs: Any,
) -> None:
    """Run COMMAND and watch it: race-watch run -- python agent.py start

    Signals, stdin, the terminal and the exit status pass through. Incidents go to stderr, one line each, and to
    --incidents; metrics are served while it runs. 127 means that COMMAND was not found, 126 that it cannot run.
    """
    watched_elsewhere = os.environ.get("RACE_WATCH_WATCHER") == "none" and bool(os.environ.get("RACE_WATCH_RUN_DIR"))
    if switched_off() or watched_elsewhere:
        if not switched_off() and not quiet:
            warn("RACE_WATCH_WATCHER=none and RACE_WATCH_RUN_DIR are set, so another one watches; its options are in force")
        _become(command)
    settings = merged(quiet=1 if quiet else None, run_dir=run_dir, stderr="off" if no_stderr else None, **outputs)
    made, problems = _run_dir(settings)
    if not made:
        warn(problems[-1] + "; running unwatched")
        _become(command)
    stderr = open_stderr(made, settings.stderr)
    asked = {"RACE_WATCH_ALSO_DEFAULT_REGISTRY": "1"} if also_default_registry else {}
    try:
        child = spawn(command, environment({**os.environ, **asked}, made), stderr.fd)
    except CommandError as error:
        if made != settings.run_dir:
            directory.remove(made)
        warn(str(error))
        sys.exit(error.status)
    finally:
        stderr.handed_over()
    told = (*settings.problems, *problems)
    watcher = WatcherThread(made, settings, told, keep=keep, stderr=stderr.mode, command=child.pid)
    watcher.start()
    ended = child.wait(
        lambda: stderr.poll(watcher.state),
        on_signal=lambda number, sender: watcher.state(ChildSignalled, child.pid, number, sender),
    )
    watcher.state(ChildEnded, child.pid, ended.code if ended.signal is None else -ended.signal, int(ended.core_dumped))
    stderr.end(watcher.state)
    notes = [f"{os.path.basename(command[0])} ended: {ended.describe()}"]
    if keep:
        notes.append(f"journals kept: race-watch report {made}")
    watcher.stop(*notes)
    if not keep and made != settings.run_dir:
        directory.remove(made)
    leave(ended)


def _run_dir(settings: Settings) -> tuple[str, list[str]]:
    """The directory to use, empty if none can be had, and what to say about it."""
    problems: list[str] = []
    if settings.run_dir:
        try:
            path = directory.use(settings.run_dir)
            directory.claim(path)  # held until we end
            return path, problems
        except OSError as error:
            problems.append(f"cannot use run directory {settings.run_dir}: {error.strerror or error}; using a new private one")
    try:
        return directory.create(), problems
    except OSError as error:
        return "", [f"no directory for the journals can be made: {error.strerror or error}"]


def _become(command: tuple[str, ...]) -> None:
    """Runs the command in our place: nothing of ours is left."""
    try:
        child = spawn(command, None)
    except CommandError as error:
        warn(str(error))
        sys.exit(error.status)
    leave(child.wait())
