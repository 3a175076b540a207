"""What one watcher of a directory leaves to the next: everything is told once, whoever was killed, and when."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from facts import seen
from hypothesis import given
from hypothesis import strategies as st
from writers import Writer, writing

from race_watch.clock import monotonic_s
from race_watch.events import ChildEnded, Event, FfiPanicked, HookInstalled, LoopBorn, ProcessExiting, RoomConnected
from race_watch.incidents import Incident
from race_watch.journal import layout, progress
from race_watch.journal.progress import Progress
from race_watch.watcher import Watcher

ROOM = RoomConnected(1, "lobby", "RM_1", "id:agent", 1, ("id:caller",))
LOOP = LoopBorn("asyncio", "MainProcess", "MainThread")
ROOM_EVENTS = layout.COUNTER_INDEX["room_events"]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    return path


@dataclass
class Watching:
    """A watcher, and what it was the first to tell: (category, room) -> how many times."""

    run_dir: Path
    keep: bool = False
    told: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    last: list[Incident] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watcher = Watcher(str(self.run_dir), self._publish, pytest.fail, keep=self.keep, resume=True)

    def _publish(self, incident: Incident, again: bool) -> None:
        if not again:
            self.told[incident.category, incident.room["name"]] += 1
            self.last.append(incident)

    def poll(self, *later_s: float) -> Watching:
        """Looks so many seconds later than now, each time; without any, now."""
        now_s = monotonic_s()
        for seconds in later_s or (0.0,):
            self.watcher.poll(now_s + seconds)
        return self

    def finish(self) -> Watching:
        self.watcher.finish()
        return self

    def shown(self, metric: str, *labels: str) -> float:
        return self.watcher.totals.snapshot[f"race_watch_{metric}"][labels]

    @property
    def ended(self) -> dict[str, float]:
        found = self.watcher.totals.snapshot["race_watch_process_ended"]
        return {reason: count for (reason,), count in found.items() if count}


@pytest.fixture
def worker(run_dir: Path) -> Iterator[Writer]:
    with writing(run_dir) as made:
        yield made


def race(worker: Writer, number: int, room: int = 1) -> Event:
    """A registry race, as `worker` would state it."""
    return seen("room_event", f"{Path(worker.path).stem.rpartition('-')[2]}:{number}", room=room)


RACE = ("registry_race", "lobby")
DEATH = ("process_killed", "lobby")
PANIC = ("native_abort", "lobby")


# While the worker lives


def test_incident_that_was_told_is_not_told_by_the_next_watcher(run_dir: Path, worker: Writer) -> None:
    worker.state(LOOP, ROOM, race(worker, 1))
    first = Watching(run_dir).poll(0.0, 1.0, 3.0, 4.1)
    assert first.told == {RACE: 1}
    # The first one is killed: it says nothing any more.
    second = Watching(run_dir).poll(1.0, 3.0)
    assert second.told == {}
    assert second.shown("rooms") == 0
    assert second.watcher.fleet.live()[0].rooms[1].name == "lobby", "it knows the worker all the same"


def test_incident_that_the_killed_watcher_had_no_time_to_tell_is_told_by_the_next(run_dir: Path, worker: Writer) -> None:
    worker.state(LOOP, ROOM)
    first = Watching(run_dir).poll(-5.0, -3.0, -1.5)
    worker.state(race(worker, 1))
    assert first.poll().told == {}
    assert Watching(run_dir).poll(0.0, 1.0, 3.0).told == {RACE: 1}


def test_watchers_that_live_a_moment_each_tell_once_what_is_long_over(run_dir: Path, worker: Writer) -> None:
    """A container that crashes in a loop."""
    worker.state(LOOP, ROOM, race(worker, 1))
    worker.kill()
    assert Watching(run_dir).poll(30.0).told == {RACE: 1, DEATH: 1}
    assert not os.path.exists(worker.path)
    assert Watching(run_dir).poll(30.5).told == {}


def test_watchers_that_live_a_moment_each_do_not_hide_what_they_have_not_told(run_dir: Path, worker: Writer) -> None:
    worker.state(LOOP, ROOM, race(worker, 1))
    worker.kill()
    for later_s in (0.0, 0.2, 0.4):
        assert Watching(run_dir).poll(later_s).told == {}
    assert Watching(run_dir).poll(0.6, 1.7).told == {RACE: 1, DEATH: 1}


def test_incident_after_the_restart_is_told(run_dir: Path, worker: Writer) -> None:
    worker.state(LOOP, ROOM, race(worker, 1))
    Watching(run_dir).poll(1.0).finish()
    worker.state(race(worker, 2, room=2), RoomConnected(2, "late", "RM_2", "id:agent", 0, ()))
    assert Watching(run_dir).poll(1.0, 3.0).told == {("registry_race", "late"): 1}


@pytest.mark.parametrize("later_s", [(), (0.5,)])
def test_watcher_that_is_stopped_has_told_everything(run_dir: Path, worker: Writer, later_s: tuple[float, ...]) -> None:
    worker.state(LOOP, ROOM, race(worker, 1))
    assert Watching(run_dir).poll(*later_s).finish().told == {RACE: 1}
    assert Watching(run_dir).poll(1.0, 3.0).finish().told == {}


def test_panic_that_a_worker_survives_is_told_once(run_dir: Path, worker: Writer) -> None:
    worker.state(LOOP, ROOM, FfiPanicked("boom"))
    first = Watching(run_dir).poll(0.0, 1.0, 4.0, 5.5, 8.0)
    assert first.told == {PANIC: 1}
    assert Watching(run_dir).poll(9.0, 20.0).told == {}


def test_panic_of_which_the_killed_watcher_knew_not_yet_that_it_was_survived_is_told_by_the_next(
    run_dir: Path, worker: Writer
) -> None:
    worker.state(LOOP, ROOM, FfiPanicked("boom"))
    assert Watching(run_dir).poll(0.0, 1.0, 4.0).told == {}
    assert Watching(run_dir).poll(4.1, 5.5).told == {PANIC: 1}


# Its end


def test_end_is_told_and_counted_once_and_its_journal_goes(run_dir: Path, worker: Writer) -> None:
    worker.state(LOOP, ROOM)
    first = Watching(run_dir).poll()
    worker.kill()
    first.poll(0.0, 1.0, 2.1)
    assert (first.told, first.ended) == ({DEATH: 1}, {"unknown": 1})
    assert os.path.exists(worker.path), "a watcher that is killed now leaves it to the next"
    second = Watching(run_dir).poll(3.0, 6.0).finish()
    assert (second.told, second.ended) == ({}, {})
    assert not os.path.exists(worker.path)


def test_end_that_nobody_saw_is_told_by_the_next_start_and_not_by_the_one_after(run_dir: Path, worker: Writer) -> None:
    """Watcher and worker are killed together, as a container is."""
    with writing(run_dir, "watcher") as supervisor:
        worker.state(LOOP, ROOM, race(worker, 1))
        first = Watching(run_dir).poll(0.0, 1.0, 3.0, 4.1)
        assert (first.told, first.ended) == ({RACE: 1}, {})
        worker.kill()
        supervisor.kill()
    second = Watching(run_dir).poll(0.0, 2.0, 6.0)
    assert (second.told, second.ended) == ({DEATH: 1}, {"unknown": 1})
    (incident,) = second.last
    assert (incident.evidence["rooms_live"], incident.participant["identity"]) == ("1", "id:caller")
    assert set(os.listdir(run_dir)) <= {layout.PROGRESS_FILE}
    third = Watching(run_dir).poll(7.0, 12.0).finish()
    assert (third.told, third.ended) == ({}, {})
    assert os.listdir(run_dir) == []


def test_what_a_supervisor_said_before_it_was_killed_is_heard_by_the_next(run_dir: Path, worker: Writer) -> None:
    with writing(run_dir, "watcher") as supervisor:
        worker.state(LOOP, ROOM)
        worker.kill(11)
        supervisor.state(ChildEnded(worker.pid, -11, 0))
        supervisor.kill()
    found = Watching(run_dir).poll(0.0, 2.0)
    assert (found.told, found.ended) == ({PANIC: 1}, {"native_abort": 1})


def test_clean_end_that_nobody_saw_is_no_incident(run_dir: Path, worker: Writer) -> None:
    worker.state(LOOP, ROOM, ProcessExiting(""))
    worker.kill()
    found = Watching(run_dir).poll(0.0, 2.0)
    assert (found.told, found.ended) == ({}, {"clean": 1})


def test_zombie_waits_for_its_parent_to_ask(run_dir: Path, worker: Writer) -> None:
    """Its parent's word comes then; a parent that never asks is waited for five seconds."""
    worker.state(LOOP, ROOM)
    found = Watching(run_dir).poll()
    worker.die()
    found.poll(0.0, 1.1, 2.7, 4.0)
    assert found.ended == {}
    with writing(run_dir) as parent:
        parent.state(ChildEnded(worker.pid, -11, 0))
        worker.reap()
        found.poll(4.5, 6.5)
        assert found.ended == {"native_abort": 1}


def test_zombie_that_nobody_asks_for_is_judged_all_the_same(run_dir: Path, worker: Writer) -> None:
    worker.state(LOOP, ROOM)
    found = Watching(run_dir).poll()
    worker.die()
    found.poll(0.0, 4.5, 5.5)
    assert found.ended == {}
    found.poll(7.1)
    assert found.ended == {"unknown": 1}


def test_process_that_lets_go_of_its_journal_and_lives_has_not_ended(run_dir: Path, worker: Writer) -> None:
    worker.state(LOOP, ROOM)
    found = Watching(run_dir).poll()
    worker.let_go()
    found.poll(0.0, 0.5)
    assert os.path.exists(worker.path)
    found.poll(1.5, 3.5, 9.0)
    assert (found.told, found.ended) == ({}, {})
    assert not os.path.exists(worker.path)


def test_process_that_becomes_another_program_has_not_ended(run_dir: Path, worker: Writer) -> None:
    worker.state(LOOP, ROOM)
    found = Watching(run_dir).poll()
    worker.become()
    deadline_s = monotonic_s() + 30.0
    while b"input()" not in Path(f"/proc/{worker.pid}/cmdline").read_bytes() and monotonic_s() < deadline_s:
        found.poll()
    found.poll(1.5, 3.5, 9.0)
    assert (found.told, found.ended) == ({}, {})


# Numbers


def test_counters_go_on_where_the_watcher_before_left_them(run_dir: Path, worker: Writer) -> None:
    worker.state(LOOP)
    for _ in range(5):
        worker.count(ROOM_EVENTS)
    first = Watching(run_dir).poll(0.0, 3.0)
    assert first.shown("room_events") == 5
    second = Watching(run_dir).poll()
    counted = [second.shown("room_events")]
    for _ in range(2):
        worker.count(ROOM_EVENTS)
    second.poll()
    counted.append(second.shown("room_events"))
    worker.kill()
    for later_s in (0.0, 1.0, 4.0):
        second.poll(later_s)
        counted.append(second.shown("room_events"))
    assert counted == [0, 2, 2, 2, 2]


def test_numbers_of_a_process_that_no_watcher_has_seen_are_taken_whole(run_dir: Path, worker: Writer) -> None:
    worker.state(LOOP)
    worker.count(ROOM_EVENTS)
    worker.kill()
    found = Watching(run_dir).poll()
    assert found.shown("room_events") == 1
    found.poll(4.0)
    assert found.shown("room_events") == 1


def test_records_that_were_overwritten_since_a_watcher_read_them_are_not_lost(run_dir: Path) -> None:
    with writing(run_dir, slots=8) as worker:
        first = Watching(run_dir)
        for number in range(40):
            worker.state(HookInstalled(f"hook {number}"))
            first.poll()
        first.poll(0.0, 3.0)
        assert first.shown("events_lost", "overwritten") == 0
        second = Watching(run_dir).poll()
        assert second.shown("events_lost", "overwritten") == 0
        for number in range(40):
            worker.state(HookInstalled(f"hook {number}"))
        second.poll()
        assert second.shown("events_lost", "overwritten") > 0
    assert Watching(run_dir).shown("events_lost", "overwritten") == 0


def test_records_that_no_watcher_has_read_are_lost(run_dir: Path) -> None:
    with writing(run_dir, slots=8) as worker:
        worker.state(*(HookInstalled(f"hook {number}") for number in range(40)))
        assert Watching(run_dir).poll().shown("events_lost", "overwritten") == 32


# Kept


def test_kept_journals_are_told_once_and_are_there_for_a_report(run_dir: Path, worker: Writer) -> None:
    worker.state(LOOP, ROOM, race(worker, 1))
    worker.kill()
    first = Watching(run_dir, keep=True).poll(0.0, 2.0, 4.0)
    assert (first.told, first.ended) == ({RACE: 1, DEATH: 1}, {"unknown": 1})
    second = Watching(run_dir, keep=True).poll(2.0, 6.0).finish()
    assert (second.told, second.ended) == ({}, {})
    third = Watching(run_dir).poll(2.0, 6.0).finish()
    assert (third.told, third.ended) == ({}, {})
    assert os.path.exists(worker.path)
    replayed: list[str] = []
    report = Watcher(str(run_dir), lambda incident, again: replayed.append(incident.id), pytest.fail, keep=True)
    report.finish()
    assert sorted(set(replayed)) == sorted(incident.id for incident in first.last)


def test_replay_leaves_no_note_and_heeds_none(run_dir: Path, worker: Writer) -> None:
    worker.state(LOOP, ROOM, race(worker, 1))
    Watching(run_dir).poll(0.0, 1.0, 3.0)
    noted = (run_dir / layout.PROGRESS_FILE).read_bytes()
    replayed: list[str] = []
    report = Watcher(str(run_dir), lambda incident, again: replayed.append(incident.category), pytest.fail, keep=True)
    report.finish()
    assert replayed == ["registry_race"]
    assert (run_dir / layout.PROGRESS_FILE).read_bytes() == noted


# The file

DAMAGED = {
    "empty": b"",
    "cut": b'{"aa": 1',
    "a list": b"[1]",
    "a text": b'"aa"',
    "no UTF-8": b'{"\xff": 1}',
    "nested": b"[" * 100_000,
    "a huge number": b'{"aa": ' + b"9" * 400 + b"}",
    "values of all kinds": b'{"aa": "x", "ab": [], "ac": {}, "ad": true, "ae": NaN, "af": 1e999, "ag": -5}',
    "zeros": bytes(4096),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_note_that_is_damaged_costs_a_repetition_at_most(run_dir: Path, worker: Writer, content: bytes) -> None:
    worker.state(LOOP, ROOM, race(worker, 1))
    (run_dir / layout.PROGRESS_FILE).write_bytes(content)
    assert Watching(run_dir).poll(0.0, 1.0, 3.0).told == {RACE: 1}
    assert list(json.loads((run_dir / layout.PROGRESS_FILE).read_text())) == [Path(worker.path).stem.rpartition("-")[2]]


def test_note_goes_with_the_last_journal(run_dir: Path, worker: Writer) -> None:
    worker.state(LOOP)
    found = Watching(run_dir).poll()
    assert (run_dir / layout.PROGRESS_FILE).exists()
    worker.kill()
    found.poll(0.0, 2.0, 4.0, 8.0)
    assert os.listdir(run_dir) == []


def test_note_that_cannot_be_written_ends_nothing(run_dir: Path, worker: Writer) -> None:
    worker.state(LOOP, ROOM, race(worker, 1))
    (run_dir / layout.PROGRESS_FILE).mkdir()
    assert Watching(run_dir).poll(0.0, 1.0, 3.0).finish().told == {RACE: 1}


def test_note_is_written_about_once_a_second(run_dir: Path) -> None:
    noted = Progress(str(run_dir))
    path = run_dir / layout.PROGRESS_FILE
    written = []
    for tenth in range(41):
        noted.note(100.0 + tenth / 10, ["aa"], {})
        written += [path.read_text()] if path.exists() else []
        path.unlink(missing_ok=True)
    assert written == [f'{{"aa": {until}.0}}' for until in (98, 99, 100, 101, 102)]


def test_note_says_of_each_process_how_far_it_was_told(run_dir: Path) -> None:
    first = Progress(str(run_dir))
    first.keep("kept")
    first.note(100.0, ["lives", "dies"], {})
    first.note(103.0, ["lives", "new"], {"dies": 102.5, "dead": 100.5})
    assert json.loads((run_dir / layout.PROGRESS_FILE).read_text()) == {
        "kept": -1.0,
        "lives": 101.0,
        "new": 101.0,
        "dies": 101.0,
        "dead": None,
    }
    second = Progress(str(run_dir))
    path = "x-1-2-{}" + layout.SUFFIX
    assert [second.is_kept(path.format(nonce)) for nonce in ("kept", "lives", "dead", "other")] == [True, False, False, False]
    assert [second.is_done(path.format(nonce)) for nonce in ("kept", "lives", "dead", "other")] == [False, False, True, False]
    assert [second.is_told("lives", t_s) for t_s in (100.9, 101.0, 101.1)] == [True, True, False]
    assert (second.is_told("other", 0.0), second.is_told("dead", 1e9)) == (False, True)
    assert [second.is_counted(nonce) for nonce in ("lives", "dead", "other")] == [True, True, False]
    second.note(113.0, ["lives"], {"dies": 112.9}, final=True)
    assert json.loads((run_dir / layout.PROGRESS_FILE).read_text()) == {"kept": -1.0, "lives": 113.0, "dies": 113.0}


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda x: st.dictionaries(st.text(), x))
)
def test_any_note_is_heeded_or_passed_over(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / layout.PROGRESS_FILE).write_text(json.dumps(content))
    noted = Progress(str(folder))
    for nonce in content if isinstance(content, dict) else ("aa",):
        assert noted.is_told(nonce, 5.0) in (True, False)
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(progress, "_NOTE_EVERY_S", 0.0)
        noted.note(5.0, ["zz"], {})
