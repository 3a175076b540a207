"""`race-watch report`: replays the journals of a run directory."""

from __future__ import annotations

import io
import json
import os
import sys

import click

from race_watch.exporters import text
from race_watch.incidents import Incident
from race_watch.service import warn
from race_watch.watcher import Watcher


@click.command()
@click.argument("run_dir", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="One JSON line an incident, nothing else.")
def report(run_dir: str, as_json: bool) -> None:
    """Show the incidents in the journals of RUN_DIR, also those of processes that were killed. Changes nothing there."""
    if not os.path.isdir(run_dir):
        raise click.ClickException(f"{run_dir} is not a directory; `race-watch run --keep` says which one it kept")
    found: dict[str, Incident] = {}
    watcher = Watcher(run_dir, lambda incident, again: found.update({incident.id: incident}), warn, keep=True)
    watcher.finish()
    if not watcher.totals.attached and not watcher.totals.measured:
        raise click.ClickException(f"no journals in {run_dir}; they are kept there with `race-watch run --keep`")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names are anybody's, the terminal's encoding may not have them.
        sys.stdout.reconfigure(errors="replace")
    for incident in found.values():
        click.echo(json.dumps(incident.as_dict()) if as_json else text.line(incident))
    if not as_json:
        notes = [*text.losses(watcher.totals.lost), *text.attachment(watcher.totals.attached, watcher.totals.measured)]
        click.echo(text.summary(list(watcher.incidents.groups.values()), notes))
