"""The run directory and the journals in it: private, refused where they would not be, and dispensable."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from interpreters import LOOP, bare_environment, checked, fake_livekit, outcome, python, read_journals, run, watched_environment

from race_watch.events import ProblemStated
from race_watch.journal import directory, layout
from race_watch.journal.writer import Journal, boot_id, file_name
from race_watch.settings import JOURNAL_BYTES_MIN
from race_watch.watcher import Watcher

AS_ROOT = os.geteuid() == 0
PROBLEMS = LOOP + "from race_watch import agent; print(agent.current().problems)"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_directory_and_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    place = tmp_path / "made" / "here"
    host = "import os; os.umask(0)\n" + LOOP
    checked(python(host, watched_environment(place)))
    assert mode(place) == 0o700
    assert {mode(path) for path in place.iterdir()} == {0o600}
    assert sorted(path.suffix for path in place.iterdir()) == ["", ".rwj"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_new_directory_is_private_whatever_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    before = os.umask(umask)
    try:
        made = Path(directory.create())
    finally:
        os.umask(before)
    assert made.parent == tmp_path
    assert mode(made) == 0o700
    assert len(directory.key(str(made))) == directory.KEY_BYTES
    directory.remove(str(made))
    assert not made.exists()


@pytest.mark.parametrize("open_to_others", [0o777, 0o1777, 0o755, 0o710])
def test_directory_that_is_open_to_others_is_refused_and_left_as_it_is(run_dir: Path, open_to_others: int) -> None:
    run_dir.chmod(open_to_others)
    with pytest.raises(PermissionError, match="open to others"):
        directory.use(str(run_dir))
    assert mode(run_dir) == open_to_others
    assert list(run_dir.iterdir()) == []


def test_directory_is_claimed_by_one_watcher_at_a_time(run_dir: Path) -> None:
    directory.use(str(run_dir))
    held = directory.claim(str(run_dir))
    with pytest.raises(BlockingIOError, match="watched by another"):
        directory.claim(str(run_dir))
    os.close(held)
    os.close(directory.claim(str(run_dir)))


@pytest.mark.parametrize("spelling", ["{}", "{}/", "{}//"])
def test_planted_link_is_refused(tmp_path: Path, spelling: str) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.mkdir(mode=0o755)
    link.symlink_to(victim)
    with pytest.raises(NotADirectoryError, match="links are refused"):
        directory.use(spelling.format(link))
    assert list(victim.iterdir()) == []
    assert mode(victim) == 0o755


def test_planted_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        directory.use(str(tmp_path / "file"))


@pytest.mark.skipif(not AS_ROOT, reason="only root can make a directory of somebody else's")
def test_directory_of_another_user_is_refused(run_dir: Path) -> None:
    os.chown(run_dir, 65532, 65532)
    with pytest.raises(PermissionError, match="belongs to user 65532"):
        directory.use(str(run_dir))
    assert list(run_dir.iterdir()) == []


def test_planted_link_in_place_of_a_journal_is_not_followed(run_dir: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = run_dir / "journal.rwj"
    (run_dir / "journal.rwj.new").symlink_to(victim)
    with pytest.raises(FileExistsError):
        Journal(str(path), 65536, b"8 bytes!", {})
    assert victim.read_text() == "precious"


def test_processes_that_start_together_share_one_whole_key(run_dir: Path) -> None:
    source = (
        "import sys; from race_watch.journal import directory; d = directory.use(sys.argv[1]); print(directory.key(d).hex())"
    )
    command = [sys.executable, "-c", source, str(run_dir)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=bare_environment()) for _ in range(8)]
    keys = {process.communicate(timeout=60)[0].strip() for process in started}
    assert len(keys) == 1
    assert len(keys.pop()) == 2 * directory.KEY_BYTES
    assert [path.name for path in run_dir.iterdir()] == [directory.KEY_FILE]


def test_two_processes_of_one_pid_and_start_time_have_two_names() -> None:
    names = {file_name(os.urandom(8)) for _ in range(100)}
    assert len(names) == 100
    assert {name.rsplit("-", 1)[0] for name in names} == {file_name(bytes(8)).rsplit("-", 1)[0]}


HOST = LOOP + "import livekit.rtc; print('ran')"


@pytest.fixture
def livekit(tmp_path: Path) -> Path:
    return fake_livekit(tmp_path / "fake")


def told_and_ran(ended: subprocess.CompletedProcess[str], reason: str) -> None:
    assert (ended.returncode, ended.stdout) == (0, "ran\n")
    [line] = ended.stderr.splitlines()
    assert line.startswith("race-watch: no journal in ")
    assert reason in line


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Path]:
    """256 KiB."""
    place = tmp_path / "tmpfs"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "none", str(place)]
    if not AS_ROOT or shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.one_python
def test_full_file_system_leaves_the_host_alive_and_is_told(small_tmpfs: Path, livekit: Path) -> None:
    told_and_ran(python(HOST, watched_environment(small_tmpfs, after=[livekit])), "No space left on device")
    assert list(small_tmpfs.glob("*.rwj*")) == []
    assert checked(python(PROBLEMS, watched_environment(small_tmpfs, RACE_WATCH_JOURNAL_BYTES="65536"))) == "[]\n"


@pytest.mark.one_python
def test_file_system_that_fills_up_while_we_write_does_not_kill_the_host(small_tmpfs: Path) -> None:
    host = (
        LOOP
        + """
import sys
from race_watch import agent
from race_watch.events import RoomNamed
try:
    with open(sys.argv[1] + "/filler", "wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
except OSError as error:
    print(error.strerror)
for number in range(2000):
    agent.current().context.recorder.state(RoomNamed, number, "")
print("ran")
"""
    )
    environment = watched_environment(small_tmpfs, RACE_WATCH_JOURNAL_BYTES="65536")
    assert checked(python(host, environment, arguments=[str(small_tmpfs)])) == "No space left on device\nran\n"


@pytest.mark.one_python
def test_watcher_tells_and_clears_a_full_file_system(small_tmpfs: Path) -> None:
    started(small_tmpfs, 1).close()
    dead = started(small_tmpfs, 2)
    dead.emit(ProblemStated.code, "careful")
    filler = os.open(small_tmpfs / "filler", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="No space left"):
        os.posix_fallocate(filler, 0, 1024 * 1024)
    os.posix_fallocate(filler, 0, os.statvfs(small_tmpfs).f_bavail * os.statvfs(small_tmpfs).f_frsize)
    os.close(filler)
    told: list[str] = []
    watcher = Watcher(str(small_tmpfs), lambda incident, again: None, told.append, resume=True)
    # What it notes for the next watcher finds no space.
    watcher.poll()
    dead.close()
    watcher.finish()
    assert told == ["careful"]
    assert [path.name for path in small_tmpfs.iterdir()] == ["filler"]


@pytest.mark.one_python
@pytest.mark.parametrize("kind", ["read-only", "file", "link", "foreign"])
def test_directory_that_cannot_be_used_leaves_the_host_alive_and_is_told(
    tmp_path: Path, livekit: Path, small_tmpfs: Path, kind: str
) -> None:
    place = tmp_path / "place"
    if kind == "read-only":
        place = small_tmpfs
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    elif kind == "file":
        place.write_text("")
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.mkdir()
        os.chown(place, 65532, 65532)
    reason = {"read-only": "cannot be written", "file": "File exists", "link": "links are refused", "foreign": "65532"}[kind]
    told_and_ran(python(HOST, watched_environment(place, after=[livekit])), reason)


@pytest.mark.skipif(not AS_ROOT, reason="only root can become another user")
def test_user_who_may_not_write_there_runs_unwatched_and_is_told(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o700)
    host = """
import asyncio, os, race_watch.auto, race_watch.agent
os.setgroups([])
os.setgid(65532)
os.setuid(65532)
asyncio.new_event_loop().close()
print(race_watch.agent.current().problems)
"""
    told = checked(python(host, watched_environment(locked / "run")))
    assert told.startswith("['no journal in ")
    assert "Permission denied" in told


def test_host_that_never_imports_livekit_hears_nothing_of_a_missing_journal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert outcome(python(LOOP, watched_environment(tmp_path / "file"))) == (0, "", "")


def test_candidates_are_tried_in_turn_and_the_temporary_directory_stays_the_hosts_to_choose(
    tmp_path: Path, livekit: Path
) -> None:
    for name in ("first", "later"):
        (tmp_path / name).mkdir()
    host = f"""
import asyncio, os, tempfile
asyncio.new_event_loop().close()
from race_watch import agent
print(agent.current().run_dir.startswith(("/dev/shm/", {str(tmp_path / "first")!r})))
os.environ["TMPDIR"] = {str(tmp_path / "later")!r}
print(tempfile.gettempdir() == os.environ["TMPDIR"])
"""
    environment = bare_environment(
        PYTHONPATH=watched_environment(tmp_path)["PYTHONPATH"],
        XDG_RUNTIME_DIR="/no/such/directory",
        TMPDIR=str(tmp_path / "first"),
    )
    assert checked(python(host, environment)) == "True\nTrue\n"


def test_no_place_at_all_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_candidates", lambda: ["/no/such/directory", "/proc"])
    with pytest.raises(OSError, match="proc"):
        directory.create()
    monkeypatch.setattr(directory, "_candidates", list)
    with pytest.raises(OSError, match="no directory to write to"):
        directory.create()


@pytest.mark.parametrize("how", ["unlink", "rename"])
def test_journal_that_a_cleaner_takes_away_does_no_harm(run_dir: Path, how: str) -> None:
    host = (
        LOOP
        + """
import glob, os, sys
[path] = glob.glob(sys.argv[1] + "/*.rwj")
os.unlink(path) if sys.argv[2] == "unlink" else os.rename(path, path + ".old")
asyncio.new_event_loop().close()
pid = os.fork()
if pid == 0:
    asyncio.new_event_loop().close()
    os._exit(0)
os.waitpid(pid, 0)
"""
    )
    checked(python(host, watched_environment(run_dir), arguments=[str(run_dir), how]))
    assert [journal.role for journal in read_journals(run_dir)] == ["fork"]


def test_living_journal_is_locked_and_closed_one_is_not(run_dir: Path) -> None:
    path = run_dir / "journal.rwj"
    journal = Journal(str(path), 65536, b"8 bytes!", {"role": "main"})
    assert [found.alive for found in read_journals(run_dir)] == [True]
    journal.close()
    assert [found.alive for found in read_journals(run_dir)] == [False]
    journal.emit(1, "after the end")
    journal.count(0)
    assert mode(path) == 0o600


def test_journal_takes_one_descriptor_which_programs_it_starts_do_not_get(run_dir: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    journal = Journal(str(run_dir / "journal.rwj"), 65536, b"8 bytes!", {})
    new = [fd for fd in set(os.listdir("/proc/self/fd")) - before if os.path.exists(f"/proc/self/fd/{fd}")]
    assert [os.get_inheritable(int(fd)) for fd in new] == [False]
    journal.close()
    assert run(["true"], bare_environment()).returncode == 0


# Room for new ones where nobody watches


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """As many journals as a directory holds in these tests."""
    monkeypatch.setattr(directory, "JOURNALS_KEPT", 8)
    return 8


def started(run_dir: Path, ticks: int, boot: str = boot_id().hex()[:8]) -> Journal:
    """A journal whose process began so many clock ticks after that boot."""
    nonce = os.urandom(8)
    path = run_dir / f"{boot}-{ticks}-{os.getpid()}-{nonce.hex()}{layout.SUFFIX}"
    return Journal(str(path), JOURNAL_BYTES_MIN, nonce, {"role": "main"})


def make_room(run_dir: Path, journal_bytes: int = JOURNAL_BYTES_MIN) -> int:
    return directory.make_room(str(run_dir / file_name(bytes(8))), journal_bytes)


def ticks_in(run_dir: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in run_dir.iterdir())


def test_journals_of_processes_that_began_first_make_room_first(run_dir: Path, few: int) -> None:
    for ticks in (30, 200, 1000, 4, 100, 5, 2000, 40):
        started(run_dir, ticks).close()
    assert make_room(run_dir) == 1
    assert ticks_in(run_dir) == [5, 30, 40, 100, 200, 1000, 2000]
    assert make_room(run_dir) == 0


def test_journals_of_an_earlier_boot_make_room_before_all_of_this_one(run_dir: Path, few: int) -> None:
    started(run_dir, 9_000_000, boot="feedbeef").close()
    for ticks in range(few - 1):
        started(run_dir, ticks).close()
    assert make_room(run_dir) == 1
    assert ticks_in(run_dir) == list(range(few - 1))


def test_journals_of_living_processes_never_make_room(run_dir: Path, few: int) -> None:
    living = [started(run_dir, ticks) for ticks in range(few + 2)]
    started(run_dir, few + 2).close()
    assert make_room(run_dir) == 1
    assert make_room(run_dir) == 0
    assert ticks_in(run_dir) == list(range(few + 2))
    living[4].close()
    living[5].close()
    assert make_room(run_dir) == 2
    assert ticks_in(run_dir) == [0, 1, 2, 3, *range(6, few + 2)]
    for journal in living[:4] + living[6:]:
        journal.close()


def test_what_a_start_does_to_make_room_is_bounded_and_the_next_ones_go_on(run_dir: Path, few: int) -> None:
    for ticks in range(40):
        started(run_dir, ticks).close()
    assert [make_room(run_dir) for _ in range(4)] == [16, 16, 40 - 32 - few + 1, 0]
    assert ticks_in(run_dir) == list(range(40 - few + 1, 40))


def test_large_journals_make_room_by_their_bytes(run_dir: Path, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "JOURNALS_KEPT_BYTES", 4 * JOURNAL_BYTES_MIN)
    for ticks in range(4):
        started(run_dir, ticks).close()
    assert make_room(run_dir) == 1
    assert make_room(run_dir, 4 * JOURNAL_BYTES_MIN) == 3
    assert ticks_in(run_dir) == []


def test_what_is_no_journal_is_left_alone(run_dir: Path, few: int) -> None:
    for number in range(few):
        (run_dir / f"{number}.txt").write_text("precious")
        (run_dir / f"{number}.rwj").mkdir()
    (run_dir / "link.rwj").symlink_to("/no/such/file")
    before = sorted(path.name for path in run_dir.iterdir())
    assert make_room(run_dir) == 0
    assert sorted(path.name for path in run_dir.iterdir()) == before


@pytest.mark.timeout(30)
def test_pipe_in_place_of_a_journal_is_not_waited_for(run_dir: Path, few: int) -> None:
    for number in range(few):
        os.mkfifo(run_dir / f"{number}.rwj")
    assert make_room(run_dir) == 1


def test_directory_that_cannot_be_listed_is_no_error(run_dir: Path, few: int) -> None:
    (run_dir / "file").write_text("")
    assert make_room(run_dir / "gone") == 0
    assert make_room(run_dir / "file") == 0


def test_workers_that_nobody_watches_leave_a_bounded_number_of_journals_and_say_so(run_dir: Path) -> None:
    host = (
        """
from race_watch.journal import directory
directory.JOURNALS_KEPT = 10
"""
        + LOOP
        + """
import os, sys
most = 0
for _ in range(30):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    most = max(most, len([name for name in os.listdir(sys.argv[1]) if name.endswith(".rwj")]))
print(most)
"""
    )
    assert checked(python(host, watched_environment(run_dir), arguments=[str(run_dir)])) == "10\n"
    journals = read_journals(run_dir)
    assert [journal.role for journal in journals] == ["main"] + ["fork"] * 9
    said = {event.text for journal in journals for event in journal.events if isinstance(event, ProblemStated)}
    assert len(said) == 1
    assert "is a watcher running?" in said.pop()
