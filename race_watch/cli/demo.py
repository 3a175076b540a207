"""`race-watch demo`: real races on the real SDK, detected as they happen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

LIVEKIT = "livekit==1.1.8"
AGENTS = "livekit-agents==1.8.9"


@click.command()
@click.option("--hold", is_flag=True, help="Keep the last worker and /metrics up until Ctrl-C.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), default=9464, show_default=True, help="0 takes a free one.")
@click.option("--incidents", type=click.Path(dir_okay=False), help="Append the incidents to this file, as JSON lines.")
def demo(hold: bool, metrics_port: int, incidents: str | None) -> None:
    """Make known races happen, in published LiveKit versions that have them, and watch.

    Starts a scripted LiveKit server on the loopback interface, and under `race-watch run` two workers with the real
    livekit wheels, each in an environment of its own that is made once. Needs `pip install 'race-watch[lab]'`.
    """
    try:
        from race_watch.lab.background import background_sfu
        from race_watch.lab.errors import LabError
        from race_watch.lab.wheels import environment
    except ImportError as error:
        raise click.ClickException(f"{error.name} is missing; the demo needs: pip install 'race-watch[lab]'") from None
    try:
        click.echo("demo: environments with the LiveKit versions that race (made once, reused afterwards)")
        python, agents_python = environment([LIVEKIT]), environment([AGENTS])
        workers = (
            (f"a worker on {AGENTS} starts a session before its room is connected", agents_python, "roomio_preconnect"),
            (f"a worker on {LIVEKIT} with six rooms", python, "demo_worker"),
        )
        with background_sfu() as url:
            click.echo(f"demo: scripted LiveKit server at {url}")
            sys.exit(_run(url, workers, hold, metrics_port, incidents))
    except LabError as error:
        raise click.ClickException(str(error)) from None


def _run(url: str, workers: Sequence[tuple[str, Path, str]], hold: bool, metrics_port: int, incidents: str | None) -> int:
    from race_watch.lab import fleet

    command = [sys.executable, "-m", "race_watch", "run", "--metrics-port", str(metrics_port)]
    if incidents:
        command += ["--incidents", incidents]
    command += ["--", sys.executable, fleet.__file__, "--url", url]
    for title, python, scenario in workers:
        command += ["--worker", title, str(python), scenario]
    if hold:
        command.append("--hold")
        click.echo("demo: holding; Ctrl-C ends it")
    # Ctrl-C is for the supervised workers; the supervisor ends when they have.
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue
