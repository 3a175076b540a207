"""`race-watch watch`: a watcher beside a worker, in another container that shares the run directory."""

from __future__ import annotations

import os
import signal

import click

from race_watch.cli.options import merged, outputs
from race_watch.journal import directory
from race_watch.service import WatcherThread


@click.command()
@outputs
@click.option("--run-dir", required=True, metavar="DIR", help="Directory of the journals (RACE_WATCH_RUN_DIR of the worker).")
@click.option("--keep", is_flag=True, help="Keep the journals of ended processes.")
def watch(
    metrics_host: str | None, metrics_port: int | None, incidents: str | None, quiet: bool, run_dir: str, keep: bool
) -> None:
    """Watch the journals of DIR until SIGINT or SIGTERM. The worker runs with RACE_WATCH_WATCHER=none."""
    settings = merged(metrics_host=metrics_host, metrics_port=metrics_port, incidents=incidents, quiet=1 if quiet else None)
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
