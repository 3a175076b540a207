"""What `race-watch run` and the bootstrap directory do to PYTHONPATH."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interpreters import BOOTSTRAP, LOOP, bare_environment, checked, python, read_journals

from race_watch.launch import bootstrap_dir, environment, python_path, switched_off

OURS = bootstrap_dir()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", OURS, id="empty"),
        pytest.param("/app", f"{OURS}:/app", id="set"),
        pytest.param("/app:", f"{OURS}:/app:", id="trailing colon"),
        pytest.param(":/app", f"{OURS}::/app", id="leading colon"),
        pytest.param(":", f"{OURS}::", id="colon"),
        pytest.param(OURS, OURS, id="ours"),
        pytest.param(f"{OURS}/", OURS, id="ours with a slash"),
        pytest.param(f"{OURS}/../bootstrap", OURS, id="ours by a detour"),
        pytest.param(f"/app:{OURS}:/lib", f"{OURS}:/app:/lib", id="ours in the middle"),
        pytest.param(f"{OURS}:{OURS}", OURS, id="ours twice"),
    ],
)
def test_bootstrap_stands_first_and_once(before: str, after: str) -> None:
    assert python_path(before) == after


def test_bootstrap_behind_a_link_is_recognised(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(BOOTSTRAP)
    assert python_path(f"/app:{link}") == f"{OURS}:/app"


SPELLINGS = st.sampled_from([OURS, f"{OURS}/", f"{OURS}//", f"{OURS}/.", f"{OURS}/../bootstrap"])
ENTRIES = st.sampled_from(["", "/app", "/app/", "lib", ".", "/no/such", "/with space"])


@given(st.lists(st.one_of(SPELLINGS, ENTRIES)))
def test_merging_keeps_every_other_entry_in_order_and_is_stable(entries: list[str]) -> None:
    before = os.pathsep.join(entries)
    merged = python_path(before)
    kept = before.split(os.pathsep) if before else []
    assert merged.split(os.pathsep) == [OURS, *(entry for entry in kept if not entry.startswith(OURS))]
    assert python_path(python_path(merged)) == merged


def test_relative_entries_of_a_working_directory_that_is_gone_are_kept(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    source = "import os; os.rmdir(os.getcwd()); from race_watch.launch import python_path; print(python_path('lib:'))"
    environment = bare_environment(PYTHONPATH=str(BOOTSTRAP.parents[1]))
    assert checked(python(source, environment, cwd=gone)) == f"{OURS}:lib:\n"


def test_environment_of_a_supervised_command_nests_without_growing(run_dir: Path) -> None:
    once = environment({"PATH": "/bin", "PYTHONPATH": "/app"}, str(run_dir))
    thrice = environment(environment(once, str(run_dir)), str(run_dir))
    assert thrice == once
    assert once["PYTHONPATH"] == f"{OURS}:/app"
    assert (once["RACE_WATCH_RUN_DIR"], once["RACE_WATCH_WATCHER"]) == (str(run_dir), "none")


def test_processes_three_deep_have_one_entry_and_one_journal_each(run_dir: Path) -> None:
    nested = (
        LOOP
        + """
import os, subprocess, sys
from race_watch.launch import environment
depth = int(sys.argv[1])
print(depth, os.environ["PYTHONPATH"].count("bootstrap"), flush=True)
if depth > 1:
    env = environment(os.environ, os.environ["RACE_WATCH_RUN_DIR"])
    subprocess.run([sys.executable, "-c", sys.argv[2], str(depth - 1), sys.argv[2]], env=env, check=True)
"""
    )
    told = checked(python(nested, environment(bare_environment(), str(run_dir)), arguments=["3", nested]))
    assert told == "3 1\n2 1\n1 1\n"
    assert [journal.role for journal in read_journals(run_dir)] == ["main"] * 3


@pytest.mark.parametrize(
    ("value", "off"), [("0", True), ("No", True), (" off", True), ("false", True), ("", False), ("1", False)]
)
def test_the_switch(value: str, off: bool) -> None:
    assert switched_off({"RACE_WATCH": value}) is off


def test_the_switch_is_on_when_unset() -> None:
    assert not switched_off({})
