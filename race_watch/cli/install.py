"""`race-watch install` and `uninstall`: a `.pth` file, for launchers that drop PYTHONPATH and agents that do not chain."""

from __future__ import annotations

import os
import sys
import sysconfig

import click

FILE = "race_watch.pth"
GATE = "RACE_WATCH"
# One line, for `site` runs each by itself. Behind the gate nothing is imported; past it nothing may end the interpreter.
LINE = (
    f"import os; os.environ.get({GATE!r}) == '1' and exec("
    '"try:\\n    from race_watch import post_import\\n    post_import.watch()\\nexcept BaseException:\\n    pass")\n'
)


def _path() -> str:
    return os.path.join(sysconfig.get_paths()["purelib"], FILE)


@click.command()
def install() -> None:
    """Let every Python of this environment load race_watch where RACE_WATCH=1 is set. `race-watch uninstall` undoes it.

    Not needed under `race-watch run`, nor with $(race-watch bootstrap) on PYTHONPATH.
    """
    path = _path()
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(LINE)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}; run it as the owner of the environment") from None
    click.echo(f"installed {path}; start programs of {sys.prefix} with RACE_WATCH=1")


@click.command()
def uninstall() -> None:
    """Undo `race-watch install` in this environment."""
    path = _path()
    try:
        os.unlink(path)
    except FileNotFoundError:
        click.echo(f"nothing to undo: no {path}")
        return
    except OSError as error:
        raise click.ClickException(f"cannot remove {path}: {error.strerror}") from None
    click.echo(f"removed {path}")
