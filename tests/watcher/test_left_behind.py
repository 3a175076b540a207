"""What a kill leaves of files that were being made: the next watcher removes it, and nothing that somebody is still making."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from race_watch import watcher
from race_watch.journal import directory
from race_watch.journal.layout import PROGRESS_FILE
from race_watch.journal.writer import Journal
from race_watch.settings import JOURNAL_BYTES_MIN
from race_watch.watcher import Watcher

PATIENCE_S = 30.0
OLD_S = 60.0

# Each is killed at its first call of the function that comes first.
KILLED = """
import os, signal, sys
from race_watch.journal import directory, progress, writer
setattr(os, sys.argv[2], lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
"""
JOURNAL = "rename", 'writer.Journal(sys.argv[1] + "/a-1-1-aa.rwj", 1 << 16, bytes(8), {})'
KEY = "link", "directory.use(sys.argv[1])"
LINKED_KEY = "unlink", "directory.use(sys.argv[1])"
NOTE = "replace", 'progress.Progress(sys.argv[1]).note(9.0, ["aa"], {}, final=True)'


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    return path


def killed(run_dir: Path, at: tuple[str, str]) -> list[str]:
    """What a process leaves that is killed at that call."""
    call, source = at
    command = [sys.executable, "-c", KILLED + source, str(run_dir), call]
    ended = subprocess.run(command, timeout=PATIENCE_S, check=False)
    assert ended.returncode == -signal.SIGKILL
    return names(run_dir)


def names(run_dir: Path) -> list[str]:
    return sorted(path.name for path in run_dir.iterdir())


def age(run_dir: Path) -> None:
    for path in run_dir.iterdir():
        os.utime(path, (path.stat().st_mtime - OLD_S,) * 2)


def watch(run_dir: Path, *, keep: bool = False) -> None:
    made = Watcher(str(run_dir), lambda incident, again: None, pytest.fail, keep=keep, resume=not keep)
    made.poll()
    made.finish()


@pytest.mark.parametrize(
    ("at", "stays"), [(JOURNAL, []), (KEY, []), (LINKED_KEY, ["key"])], ids=["journal", "key", "linked key"]
)
def test_file_that_a_killed_process_was_making_is_removed_when_it_is_old(
    run_dir: Path, at: tuple[str, str], stays: list[str]
) -> None:
    left = killed(run_dir, at)
    assert len(left) == len(stays) + 1
    watch(run_dir)
    assert names(run_dir) == left
    age(run_dir)
    watch(run_dir, keep=True)
    assert names(run_dir) == left
    watch(run_dir)
    assert names(run_dir) == stays


def test_note_that_a_killed_watcher_was_writing_is_removed_by_the_next(run_dir: Path) -> None:
    assert killed(run_dir, NOTE) == [PROGRESS_FILE + ".new"]
    watch(run_dir)
    assert names(run_dir) == []


def test_journal_that_a_living_process_is_making_stays_however_old(run_dir: Path) -> None:
    path = run_dir / "a-1-1-aa.rwj"
    made = Journal(str(path), JOURNAL_BYTES_MIN, bytes(8), {})
    path.rename(str(path) + ".new")
    age(run_dir)
    watch(run_dir)
    directory.remove(str(run_dir))
    assert names(run_dir) == ["a-1-1-aa.rwj.new"]
    made.close()
    watch(run_dir)
    assert names(run_dir) == []


@pytest.mark.parametrize("at", [JOURNAL, KEY, LINKED_KEY, NOTE], ids=["journal", "key", "linked key", "note"])
def test_directory_is_removed_with_what_a_killed_process_was_making(run_dir: Path, at: tuple[str, str]) -> None:
    assert killed(run_dir, at)
    directory.remove(str(run_dir))
    assert not run_dir.exists()


# Its worker is gone, and it is about to follow.
FORKSERVER = """
import os, sys, time
from race_watch.journal.writer import Journal, file_name
made, told = os.pipe()
if os.fork() == 0:
    nonce = os.urandom(8)
    journal = Journal(os.path.join(sys.argv[1], file_name(nonce)), 1 << 16, nonce, {"role": sys.argv[2]})
    os.write(told, b".")
    time.sleep(0.5)
    os._exit(0)
os.read(made, 1)
"""


def test_forkserver_that_outlives_its_worker_for_a_moment_leaves_nothing(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "_FOLLOWS_S", PATIENCE_S)
    subprocess.run([sys.executable, "-c", FORKSERVER, str(run_dir), "forkserver"], timeout=PATIENCE_S, check=True)
    watch(run_dir)
    assert names(run_dir) == []


def test_process_that_has_no_worker_to_follow_is_not_waited_for(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    living = Journal(str(run_dir / "a-1-1-aa.rwj"), JOURNAL_BYTES_MIN, bytes(8), {"role": "forkserver"})
    subprocess.run([sys.executable, "-c", FORKSERVER, str(run_dir), "fork"], timeout=PATIENCE_S, check=True)
    monkeypatch.setattr(watcher.time, "sleep", lambda _: pytest.fail("waited"))
    watch(run_dir)
    assert (run_dir / "a-1-1-aa.rwj").exists()
    living.close()


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where private run directories are made."""
    path = tmp_path / "runtime"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    return path


def left_by(parent: Path, age_s: float) -> Path:
    """A private directory with the journal of a dead process, last used so long ago."""
    path = Path(directory.create())
    Journal(str(path / "a-1-1-aa.rwj"), JOURNAL_BYTES_MIN, bytes(8), {}).close()
    os.utime(path, (path.stat().st_mtime - age_s,) * 2)
    assert path.parent == parent
    return path


DAY_S = 24 * 3600


def test_private_directory_is_swept_after_a_day_with_what_a_killed_process_was_making(parent: Path) -> None:
    old, young = left_by(parent, 0.0), left_by(parent, DAY_S - 60)
    killed(old, JOURNAL)
    os.utime(old, (old.stat().st_mtime - DAY_S - 60,) * 2)
    made = Path(directory.create())
    assert {*parent.iterdir()} == {young, made}


def test_private_directories_of_workers_that_crash_again_and_again_are_bounded(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "_LEFT_BEHIND_MOST", 4)
    foreign = [parent / f"{directory.PREFIX}{number}" for number in range(3)]
    for path in foreign:
        path.mkdir()
        (path / "precious.txt").write_text("")
        os.utime(path, (path.stat().st_mtime - 7200,) * 2)
    left = [left_by(parent, 3600.0 - number) for number in range(12)]
    assert {*parent.iterdir()} == {*foreign, *left[8:]}


def test_private_directories_that_may_just_be_made_are_not_swept(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_LEFT_BEHIND_MOST", 1)
    made = [directory.create() for _ in range(4)]
    assert sorted(map(str, parent.iterdir())) == sorted(made)


def test_private_directory_of_a_living_worker_is_not_swept(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_LEFT_BEHIND_MOST", 0)
    living, dead = left_by(parent, 0.0), left_by(parent, 0.0)
    held = Journal(str(living / "a-2-2-bb.rwj"), JOURNAL_BYTES_MIN, bytes(8), {})
    for path in (living, dead):
        os.utime(path, (path.stat().st_mtime - 2 * DAY_S,) * 2)
    made = Path(directory.create())
    assert {*parent.iterdir()} == {living, made}
    assert len(names(living)) == 3
    held.close()


def test_journals_make_room_for_new_ones_half_made_ones_too(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "JOURNALS_KEPT", 1)
    killed(run_dir, JOURNAL)
    journal = str(run_dir / "a-2-2-bb.rwj")
    assert directory.make_room(journal, JOURNAL_BYTES_MIN) == 0
    age(run_dir)
    assert directory.make_room(journal, JOURNAL_BYTES_MIN) == 1
    assert names(run_dir) == []
