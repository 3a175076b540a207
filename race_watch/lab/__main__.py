"""`python -m race_watch.lab SCENARIO`: run one scenario with one LiveKit version and show what it shows."""

from __future__ import annotations

import sys

import click

from .errors import LabError
from .runner import DEFAULT_LIVEKIT, run_scenario, scenarios


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("scenario", required=False)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("--livekit", default=DEFAULT_LIVEKIT, show_default=True, help="livekit version from the package index.")
@click.option("--agents", help="livekit-agents version instead; it brings the livekit it pins.")
@click.option("--python", "python", default=sys.executable, help="Interpreter of the environment.")
@click.option("--url", help="A running server; without it a scripted one is started.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds.")
@click.option("--list", "list_", is_flag=True, help="Name the scenarios and end.")
def main(
    scenario: str | None,
    args: tuple[str, ...],
    livekit: str,
    agents: str | None,
    python: str,
    url: str | None,
    timeout: float,
    list_: bool,
) -> None:
    """Run SCENARIO; ARGS after `--` are its own. Its exit code, 128 + signal if a signal ended it, is handed on."""
    if list_:
        for name, title in scenarios().items():
            click.echo(f"{name}  {title}")
        return
    if scenario is None:
        raise click.UsageError("name a scenario, or see --list")
    try:
        done = run_scenario(scenario, args, livekit, agents, python, sfu_url=url, timeout=timeout)
    except LabError as error:
        raise click.ClickException(str(error)) from None
    click.echo(done.stdout, nl=False)
    click.echo(done.stderr, nl=False, err=True)
    sys.exit(done.returncode if done.returncode >= 0 else 128 - done.returncode)


if __name__ == "__main__":
    main()
