"""`race-watch watch`: a watcher beside a worker, in another container that shares the run directory."""

from __future__ import annotations

import os
import signal
from typing import Any

import click

from race_watch.cli.options import merged, with_outputs
from race_watch.journal import directory
from race_watch.service import WatcherThread


@click.command()
@with_outputs
@click.option("--run-dir", required=True, metavar="DIR", help="Directory of the journals (RACE_WATCH_RUN_DIR of the worker).")
@click.option("--keep", is_flag=True, help="Keep the journals of ended processes.")
def watch(quiet: bool, run_dir: str, keep: bool, **outputs: Any) -> None:
    """Watch the journals of DIR until SIGINT or SIGTERM. The worker runs with RACE_WATCH_WATCHER=none."""
    settings = merged(quiet=1 if quiet else None, **outputs)
    try:
        directory.claim(directory.use(run_dir))
    except OSError as error:
        raise click.ClickException(f"cannot use {run_dir}: {error.strerror or error}") from None
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    watcher = WatcherThread(os.path.abspath(run_dir), settings, settings.problems, keep=keep)
    watcher.start()
    received = signal.sigwait(ends)
    watcher.stop(f"stopped by {signal.Signals(received).name}")
