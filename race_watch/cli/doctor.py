"""`race-watch doctor`: whether an interpreter would be watched, and if not, what is in the way."""

from __future__ import annotations

import os
import subprocess
import sys

import click

from race_watch.launch import bootstrap_dir, environment, switched_off
from race_watch.settings import from_env
from race_watch.stderr import LEFT_ALONE
from race_watch.stderr.source import why_left_alone

_PROBE = """
import sys
found = sys.modules.get("_race_watch_post_import")
other = sys.modules.get("sitecustomize")
print("attached" if found is not None and getattr(found, "watching", False) else "missing")
print(sys.version.split()[0])
print(getattr(other, "__file__", None) or "")
"""


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("python", nargs=-1, type=click.UNPROCESSED)
def doctor(python: tuple[str, ...]) -> None:
    """Tell whether PYTHON (a path and its flags; default: this one) loads race_watch under `race-watch run`.

    Exits with 1 when it would not: race-watch doctor -- /app/.venv/bin/python -I
    """
    command = [*(python or (sys.executable,)), "-c", _PROBE]
    if switched_off():
        raise click.ClickException("not attached: RACE_WATCH is off in this environment")
    try:
        ended = subprocess.run(
            command, env=environment(os.environ, ""), capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise click.ClickException(f"cannot run {command[0]}: {error}") from None
    told = ended.stdout.splitlines()
    if ended.returncode or len(told) < 3:
        raise click.ClickException(f"{command[0]} failed: {(ended.stderr.strip().splitlines() or ['no output'])[-1]}")
    state, version, shadow = told[-3:]
    if state == "attached":
        click.echo(f"attached: Python {version} loads race_watch from {bootstrap_dir()}")
        why = why_left_alone(from_env().stderr)
        click.echo("stderr, as it is here: " + (f"{LEFT_ALONE}{why}" if why else "panic texts on it are seen"))
        return
    raise click.ClickException(f"not attached: {_reason(command, version, shadow)}")


def _reason(command: list[str], version: str, shadow: str) -> str:
    if tuple(int(part) for part in version.split(".")[:2]) < (3, 10):
        return f"Python {version} is older than 3.10"
    dropping = [flag for flag in command[1:-2] if flag.startswith("-") and set(flag[1:]) & set("IES") and flag[1:].isalpha()]
    if dropping:
        return f"{' '.join(dropping)} makes Python ignore PYTHONPATH or sitecustomize; call race_watch.install() in the program"
    if shadow and os.path.dirname(shadow) != bootstrap_dir():
        return f"shadowed by {shadow}: put $(race-watch bootstrap) before it on PYTHONPATH"
    return "the bootstrap did not run; RACE_WATCH_DEBUG=1 shows why"
