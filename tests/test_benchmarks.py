"""The benchmarks run and print what they say; how long anything takes is not asserted anywhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.one_python

ROOT = Path(__file__).parents[1]
NUMBER = r"\d+\.\d+ us"


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_table_has_a_line_a_row_with_cost_budget_and_verdict() -> None:
    done = benchmarks("--quick", "journal", "startup.modules")
    assert done.returncode == 0, done.stdout + done.stderr
    about, header, *lines = done.stdout.splitlines()
    assert about.startswith("Python 3.")
    assert header.split() == ["row", "what", "bare", "watched", "cost", "middle", "half", "budget"]
    event, modules = lines
    assert re.fullmatch(
        rf"journal\.event +lifecycle event .*? +- +{NUMBER} +{NUMBER} +{NUMBER} to {NUMBER} +<= 0\.60 us +(within|OVER)", event
    )
    assert re.fullmatch(r"startup\.modules +modules .*? +\d+ +\d+ +\+\d+ +\+\d+ to \+\d+ +<= \+5 +(within|OVER)", modules)


def test_rows_are_chosen_by_the_beginning_of_their_names() -> None:
    names = [line.split()[0] for line in benchmarks("--list", "task", "log.info").stdout.splitlines()]
    assert names == ["task.other", "task.sdk", "task.other.uvloop", "task.sdk.uvloop", "log.info"]


def test_unknown_row_is_refused_with_the_names_there_are() -> None:
    done = benchmarks("tusk")
    assert done.returncode == 2
    assert "no row starts with 'tusk'; the rows are task.other," in done.stderr


def test_program_that_fails_is_a_failed_row_and_a_failed_run(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho Python 0\necho no such luck >&2\n")
    broken.chmod(0o755)
    done = benchmarks("--quick", "--python", str(broken), "journal")
    assert done.returncode == 1
    assert re.search(r"^journal\.event .*FAILED: .*no such luck$", done.stdout, re.MULTILINE)
