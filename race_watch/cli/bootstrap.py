"""`race-watch bootstrap`: the way in for images whose command cannot change."""

from __future__ import annotations

import click

from race_watch.launch import bootstrap_dir


@click.command()
def bootstrap() -> None:
    """Print the directory to put first on PYTHONPATH: PYTHONPATH=$(race-watch bootstrap) python agent.py start"""
    click.echo(bootstrap_dir())
