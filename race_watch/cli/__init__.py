"""The command line; one file a command."""

from __future__ import annotations

import click

from race_watch import __version__
from race_watch.cli.bootstrap import bootstrap
from race_watch.cli.demo import demo
from race_watch.cli.doctor import doctor
from race_watch.cli.install import install, uninstall
from race_watch.cli.one_line import OneLineErrors
from race_watch.cli.report import report
from race_watch.cli.run import run
from race_watch.cli.signatures import signatures
from race_watch.cli.watch import watch


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="race-watch")
def main() -> None:
    """Detects lifecycle races in LiveKit Python workers and names them."""


for command in (run, watch, report, signatures, doctor, bootstrap, install, uninstall, demo):
    main.add_command(command)
