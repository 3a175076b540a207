"""The `.pth` route, in environments of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from race_watch.cli.install import FILE

ROOT = Path(__file__).parents[2]
PROBE = "import sys; print(bool(getattr(sys.modules.get('_race_watch_post_import'), 'watching', False)))"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment without pip that sees this checkout and what this interpreter has, through a `.pth` of its own."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    purelib = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], text=True, timeout=30
    ).strip()
    paths = [str(ROOT), *(p for p in sys.path if p.endswith("site-packages"))]
    Path(purelib, "zz_paths.pth").write_text("\n".join(paths) + "\n")
    return python


def run(python: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RACE_WATCH", "PYTHON"))}
    return subprocess.run(
        [str(python), *arguments], env={**env, **variables}, capture_output=True, text=True, timeout=30, check=False
    )


def attached(python: Path, *flags: str, **variables: str) -> bool:
    ended = run(python, *flags, "-c", PROBE, **variables)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.strip() == "True"


def test_pth_attaches_where_the_gate_is_open_and_uninstall_undoes_it(environment: Path, tmp_path: Path) -> None:
    assert not attached(environment, RACE_WATCH="1")
    installed = run(environment, "-m", "race_watch", "install")
    assert installed.returncode == 0, installed.stderr
    assert FILE in installed.stdout
    try:
        assert attached(environment, RACE_WATCH="1")
        assert attached(environment, "-I", RACE_WATCH="1")
        assert attached(environment, "-E", "-s", RACE_WATCH="1")
        assert not attached(environment)
        assert not attached(environment, RACE_WATCH="0")
        assert not attached(environment, "-S", RACE_WATCH="1")
        # An agent that does not chain has the name sitecustomize to itself: this route does not need it.
        (tmp_path / "sitecustomize.py").write_text("")
        assert attached(environment, RACE_WATCH="1", PYTHONPATH=str(tmp_path))
    finally:
        removed = run(environment, "-m", "race_watch", "uninstall")
    assert removed.returncode == 0, removed.stderr
    assert not attached(environment, RACE_WATCH="1")
    assert "nothing to undo" in run(environment, "-m", "race_watch", "uninstall").stdout


def test_pth_of_an_environment_that_lost_race_watch_is_silent(environment: Path) -> None:
    assert run(environment, "-m", "race_watch", "install").returncode == 0
    (paths,) = environment.parents[1].rglob("zz_paths.pth")
    hidden = paths.rename(paths.with_suffix(".hidden"))
    try:
        broken = run(environment, "-c", "print('host')", RACE_WATCH="1")
        assert (broken.stdout, broken.stderr, broken.returncode) == ("host\n", "", 0)
        assert not attached(environment, RACE_WATCH="1")
    finally:
        hidden.rename(paths)
        run(environment, "-m", "race_watch", "uninstall")
