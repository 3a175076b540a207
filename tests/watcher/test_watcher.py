"""The watcher on directories of real journals: live, ended, foreign, gone, many; and a replay of them."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest
from facts import again, seen
from journals import TEXT, journal, write

from race_watch import events, watcher
from race_watch.clock import monotonic_s
from race_watch.incidents import Incident
from race_watch.journal import layout
from race_watch.journal.writer import Journal
from race_watch.watcher import Watcher

PATIENCE_S = 30.0


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    return path


@dataclass
class Watching:
    """A watcher and what it said."""

    watcher: Watcher
    published: list[tuple[str, int, bool]] = field(default_factory=list)
    last: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def shown(self, metric: str) -> float:
        return sum(self.watcher.totals.snapshot[metric].values())


def watching(run_dir: Path, *, keep: bool = False) -> Watching:
    def publish(incident: Incident, again: bool) -> None:
        made.published.append((incident.id, incident.count, again))
        made.last[incident.id] = json.loads(json.dumps(incident.as_dict()))

    made = Watching(Watcher(str(run_dir), publish, lambda line: made.warnings.append(line), keep=keep))
    return made


def emit(made: Journal, event: events.Event) -> None:
    values = [getattr(event, f.name) for f in fields(event)]  # type: ignore[arg-type]
    made.emit(event.code, event.body(*(events.LIST_SEP.join(v) if isinstance(v, tuple) else v for v in values)))


def race(made: Journal, number: int, room: int = 1, **other: Any) -> None:
    """A registry race, seen by two channels."""
    fact = f"{made.nonce.hex()}:{number}"
    emit(made, seen("room_event", fact, room=room, **other))
    emit(made, again("log_room", fact))


def until(poll: Callable[[], None], condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        poll()
        time.sleep(0.02)


_WRITER = """
import dataclasses, os, sys
from race_watch import events
from race_watch.journal.writer import Journal, file_name
nonce = os.urandom(8)
made = Journal(os.path.join(sys.argv[1], file_name(nonce)), 1 << 16, nonce, {"role": "main", "sdk": {"livekit": "1.1.8"}})
frames = "livekit/rtc/room.py:_listen_task:675\\x1elivekit/rtc/room.py:_on_room_event:732"
for number, line in enumerate(sys.stdin, 1):
    word = line.strip()
    if word == "race":
        fact = f"{nonce.hex()}:{number}"
        made.count(0)
        made.emit(events.ExceptionSeen.code, events.Event.body(
            fact, "room_event", "KeyError", "TR_1", frames, 1, "local_track_unpublished", "", "TR_1", *[""] * 9))
    elif word == "room":
        made.emit(events.RoomConnected.code, events.Event.body(1, "lobby", "RM_1", "id:me", 0, ""))
        counts = {"open_fds": 11, "ffi_handles": 5, "rooms": 1}
        specs = dataclasses.fields(events.ResourcesSampled)
        made.emit(events.ResourcesSampled.code, events.Event.body(
            *[counts.get(spec.name, 0) if spec.type == "int" else "" for spec in specs]))
    print(word, flush=True)
"""


@contextmanager
def worker(run_dir: Path) -> Iterator[Callable[[str], None]]:
    """A real process that writes what it is told to; the call returns when it has been written."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(run_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def tell(word: str) -> None:
        if word == "die":
            process.kill()
            process.wait(PATIENCE_S)
            return
        process.stdin.write(word + "\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        assert process.stdout.readline() == word + "\n"  # type: ignore[union-attr]

    try:
        yield tell
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def test_live_process_is_followed_and_folded_once_when_it_dies(run_dir: Path) -> None:
    made = watching(run_dir)
    with worker(run_dir) as tell:
        tell("room")
        made.watcher.poll()
        assert (made.shown("race_watch_processes"), made.shown("race_watch_rooms"), made.shown("race_watch_open_fds")) == (
            1,
            1,
            11,
        )
        tell("race")
        until(made.watcher.poll, lambda: bool(made.published), "the incident while its process lives")
        (incident,) = made.last.values()
        assert (incident["signature"], incident["room"]["name"]) == ("local-unpublish-keyerror", "lobby")
        assert made.shown("race_watch_room_events") == 1
        tell("race")
        tell("die")
        made.watcher.poll()
        assert len(os.listdir(run_dir)) == 1, "until its end is judged"
        made.watcher.poll(monotonic_s() + 10.0)
        assert os.listdir(run_dir) == []
        for _ in range(3):
            made.watcher.poll()
            assert (made.shown("race_watch_processes"), made.shown("race_watch_rooms"), made.shown("race_watch_open_fds")) == (
                0,
                0,
                0,
            )
            assert (made.shown("race_watch_room_events"), made.shown("race_watch_processes_attached")) == (2, 1)
    made.watcher.finish()
    incident, death = made.last.values()
    assert incident["count"] == 2
    assert (death["category"], death["evidence"]["reason"], death["room"]["name"]) == ("process_killed", "unknown", "lobby")
    assert made.shown("race_watch_room_events") == 2
    assert made.warnings == []


def test_end_reads_what_a_living_process_has_written_and_leaves_its_file(run_dir: Path) -> None:
    made = watching(run_dir)
    with worker(run_dir) as tell:
        tell("race")
        made.watcher.finish()
        assert [(count, again) for _, count, again in made.published] == [(1, False)]
        assert len(os.listdir(run_dir)) == 1


def test_kept_journals_of_ended_processes_are_read_once_and_stay(run_dir: Path) -> None:
    with journal(run_dir / "a.rwj", sdk={"livekit": "1.1.8"}) as one:
        race(one, 1)
    made = watching(run_dir, keep=True)
    for _ in range(3):
        made.watcher.poll()
    made.watcher.finish()
    assert os.listdir(run_dir) == ["a.rwj"]
    assert (made.shown("race_watch_processes_attached"), made.shown("race_watch_events")) == (1, 2)
    assert [count for _, count, _ in made.published] == [1]


def test_what_is_no_journal_is_left_alone_and_said_once(run_dir: Path) -> None:
    (run_dir / "key").write_bytes(b"k" * 16)
    (run_dir / "notes.txt").write_text("mine")
    (run_dir / "half.rwj.new").write_bytes(b"\0" * 9000)
    (run_dir / "folder.rwj").mkdir()
    (run_dir / "foreign.rwj").write_bytes(b"x" * 9000)
    (run_dir / "empty.rwj").touch()
    (run_dir / "link.rwj").symlink_to(run_dir / "notes.txt")
    write(run_dir / "good.rwj", ["room_events"])
    names = sorted(os.listdir(run_dir))
    made = watching(run_dir, keep=True)
    for _ in range(3):
        made.watcher.poll()
    made.watcher.finish()
    assert made.shown("race_watch_processes_attached") == 1
    assert sorted(os.listdir(run_dir)) == names
    assert len(made.warnings) == 4
    for name in ("folder.rwj", "foreign.rwj", "empty.rwj", "link.rwj"):
        assert [name in warning and warning.startswith("skipped a journal: ") for warning in made.warnings].count(True) == 1


def test_directory_that_vanishes_ends_nothing(run_dir: Path) -> None:
    made = watching(run_dir)
    with worker(run_dir) as tell:
        tell("race")
        made.watcher.poll()
        (path,) = run_dir.iterdir()
        path.unlink()
        run_dir.rmdir()
        tell("race")
        made.watcher.poll()
        tell("die")
        made.watcher.poll()
    made.watcher.finish()
    (incident,) = made.last.values()
    assert incident["count"] == 2
    assert made.shown("race_watch_processes") == 0
    assert made.warnings == []


def test_directory_that_was_never_there_is_no_error(tmp_path: Path) -> None:
    made = watching(tmp_path / "nowhere")
    made.watcher.poll()
    made.watcher.finish()
    assert (made.published, made.warnings) == ([], [])


def test_losses_are_counted_by_reason(run_dir: Path) -> None:
    write(run_dir / "lapped.rwj", [f"hook {n}" for n in range(100)], slots=16)
    with journal(run_dir / "odd.rwj", nonce=b"nonce-09") as made:
        made.emit(0x7F, "unknown")
        made.emit(TEXT, "known")
    made_of = watching(run_dir)
    made_of.watcher.finish()
    lost = made_of.watcher.totals.snapshot["race_watch_events_lost"]
    assert lost == {("overwritten",): 84, ("torn",): 0, ("malformed",): 1, ("cut",): 0}
    assert made_of.shown("race_watch_events") == 17


def test_replay_has_the_incidents_that_were_seen_live(run_dir: Path) -> None:
    live = watching(run_dir, keep=True)
    now_s = time.monotonic()
    with journal(run_dir / "a.rwj", nonce=b"nonce-0a", sdk={"livekit": "1.1.8"}) as one:
        emit(one, events.RoomConnected(1, "lobby", "RM_1", "id:me", 0, ()))
        race(one, 1)
        live.watcher.poll()
        race(one, 2)
        emit(one, seen("ffi_request", f"{one.nonce.hex()}:3", request="Disconnect", type="AssertionError", event=""))
        live.watcher.poll(now_s + 10)
        emit(one, events.FfiErrorLogged("Disconnect", "handle not found"))
        race(one, 4, room=2)
        emit(one, events.RoomConnected(2, "late", "RM_2", "id:me", 0, ()))
    with journal(run_dir / "b.rwj", slots=512, nonce=b"nonce-0b", sdk={"livekit": "1.1.21"}) as two:
        live.watcher.poll(now_s + 12)
        for number in range(50):
            race(two, number, room=number + 1, event="participant_disconnected")
        live.watcher.poll(now_s + 14)
    live.watcher.poll(now_s + 30)
    live.watcher.finish()
    replay = watching(run_dir, keep=True)
    replay.watcher.finish()
    assert len(replay.last) > 30
    assert replay.last.keys() == live.last.keys()
    for id, incident in live.last.items():
        # How the process was numbered and what it was told when are the same; only the pairing of an assertion that was
        # judged before its native record had come may differ.
        if incident["category"] != "use_after_dispose":
            assert replay.last[id] == incident


def test_replay_of_many_ended_processes_opens_a_bounded_number_and_forgets_them(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "_OPEN_AT_ONCE", 20)
    count = 90
    for number in range(count):
        with journal(run_dir / f"{number}.rwj", slots=8, nonce=number.to_bytes(8, "big")) as one:
            race(one, 1)
    before = len(os.listdir("/proc/self/fd"))
    made = watching(run_dir, keep=True)
    made.watcher.poll()
    # This process has let go of them and lives on: they are waited for.
    made.watcher.poll(monotonic_s() + 2.0)
    assert made.shown("race_watch_processes_attached") == 20
    assert made.shown("race_watch_processes") == 0
    made.watcher.finish()
    assert made.shown("race_watch_processes_attached") == count
    assert made.shown("race_watch_processes") == 0
    assert made.shown("race_watch_events") == 2 * count
    assert {incident["process"]["attempt"] for incident in made.last.values()} <= set(range(1, count + 1))
    assert len(os.listdir("/proc/self/fd")) == before


def test_journals_that_cannot_be_opened_for_want_of_descriptors_are_read_later(run_dir: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in range(40):
        with journal(run_dir / f"{number:02}.rwj", slots=8, nonce=number.to_bytes(8, "big")) as one:
            race(one, 1)
    made = watching(run_dir)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 12, hard))
    try:
        made.watcher.poll()
        few = made.shown("race_watch_processes_attached")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    made.watcher.finish()
    assert few < 40
    assert made.shown("race_watch_processes_attached") == 40
    assert os.listdir(run_dir) == []
    assert made.warnings == []


def test_file_that_cannot_be_removed_is_said_and_not_counted_twice(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with journal(run_dir / "a.rwj") as one:
        one.count(layout.COUNTER_INDEX["room_events"])

    def refuse(path: str) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr(os, "unlink", refuse)
    made = watching(run_dir)
    for _ in range(3):
        made.watcher.poll()
    made.watcher.finish()
    assert made.shown("race_watch_room_events") == 1
    assert [warning.endswith("Operation not permitted") for warning in made.warnings] == [True]
