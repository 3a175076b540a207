"""Environments of the lab: created once, honestly named, never half-built."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from race_watch.lab.errors import LabError
from race_watch.lab.wheels import CACHE_VARIABLE, default_cache, environment

# Pure Python, without dependencies, and among the lab's own: small enough to install in a test.
pytestmark = pytest.mark.one_python

SMALL = ["attrs==25.3.0"]


def creations(stderr: str) -> int:
    return stderr.count("lab: creating environment")


@pytest.mark.wheels
def test_second_call_creates_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = environment(SMALL, cache=tmp_path)
    assert creations(capfd.readouterr().err) == 1
    assert environment(SMALL, cache=tmp_path) == first
    assert capfd.readouterr().err == ""
    version = subprocess.run([first, "-c", "import attr; print(attr.__version__)"], capture_output=True, text=True, check=True)
    assert version.stdout == "25.3.0\n"


@pytest.mark.wheels
def test_callers_at_the_same_time_create_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with ThreadPoolExecutor(3) as pool:
        made = set(pool.map(lambda _: environment(SMALL, cache=tmp_path), range(3)))
    assert len(made) == 1
    assert creations(capfd.readouterr().err) == 1


@pytest.mark.wheels
def test_half_built_environment_is_built_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    interpreter = environment(SMALL, cache=tmp_path)
    (interpreter.parents[1] / "race-watch-lab-finished").unlink()
    interpreter.unlink()
    assert environment(SMALL, cache=tmp_path) == interpreter
    assert interpreter.exists()
    assert creations(capfd.readouterr().err) == 2


@pytest.mark.wheels
def test_requirement_that_does_not_exist_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"^cannot install attrs==0\.0\.0 for python 3\.\d+: ERROR: .+$") as raised:
        environment(["attrs==0.0.0"], cache=tmp_path)
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_interpreter_that_does_not_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"^cannot run /no/such/python: .+$"):
        environment(SMALL, python="/no/such/python", cache=tmp_path)


def test_cache_is_the_variable_else_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv(CACHE_VARIABLE)
    assert default_cache() == Path(__file__).parents[2] / ".cache" / "envs"
