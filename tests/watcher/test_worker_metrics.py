"""What the watcher leaves for the worker's own /metrics: where a process shows it, whole, private, and not for ever."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from facts import MAIN, process
from prometheus_client import CollectorRegistry, generate_latest

from race_watch.exporters import worker_metrics
from race_watch.exporters.prometheus import SnapshotCollector
from race_watch.exporters.worker_metrics import WorkerMetrics
from race_watch.fleet import Fleet
from race_watch.journal import directory
from race_watch.journal.layout import METRICS_FILE, UNFINISHED
from race_watch.totals import Totals

SHOWS = dataclasses.replace(MAIN, identity={**MAIN.identity, "shows_metrics": True})


class Leaving:
    """A watcher of a directory, by a clock that the test moves."""

    def __init__(self, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run_dir, self.totals, self.fleet = run_dir, Totals(), Fleet()
        self.warned: list[str] = []
        self.now_s = 100.0
        monkeypatch.setattr(worker_metrics, "monotonic_s", lambda: self.now_s)
        self.metrics = WorkerMetrics(str(run_dir), self.totals, self.warned.append)

    def poll(self, after_s: float = 0.25) -> None:
        self.now_s += after_s
        self.metrics.polled(self.fleet)

    def left(self) -> Any:
        path = self.run_dir / METRICS_FILE
        return json.loads(path.read_text()) if path.exists() else None

    def files(self) -> list[str]:
        return sorted(os.listdir(self.run_dir))


@pytest.fixture
def leaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leaving:
    return Leaving(Path(directory.use(str(tmp_path / "run"))), monkeypatch)


def test_nothing_is_left_where_no_live_process_shows_it(leaving: Leaving) -> None:
    leaving.fleet.of(process("bb", role="fork"))
    leaving.fleet.of(SHOWS)
    leaving.fleet.ended(SHOWS)
    leaving.poll()
    assert leaving.files() == [directory.KEY_FILE]


def test_numbers_are_left_at_once_and_then_every_five_seconds(leaving: Leaving) -> None:
    leaving.poll()
    leaving.fleet.of(SHOWS)
    leaving.poll()
    times = [leaving.left()["made_s"]]
    for _ in range(60):
        leaving.poll()
        times.append(leaving.left()["made_s"])
    assert sorted(set(times)) == [100.5, 105.5, 110.5, 115.5]


def test_what_is_left_is_whole_and_for_its_owner(leaving: Leaving) -> None:
    leaving.fleet.of(SHOWS)
    before = os.umask(0)
    try:
        leaving.poll()
    finally:
        os.umask(before)
    assert stat.S_IMODE((leaving.run_dir / METRICS_FILE).stat().st_mode) == 0o600
    assert leaving.files() == [directory.KEY_FILE, METRICS_FILE]
    own = CollectorRegistry()
    own.register(SnapshotCollector(leaving.totals))
    series = sum(len(samples) for _, _, _, samples in leaving.left()["families"])
    assert series == sum(not line.startswith("#") for line in generate_latest(own).decode().splitlines())


def test_link_in_the_place_of_the_file_is_not_followed(leaving: Leaving, tmp_path: Path) -> None:
    (leaving.run_dir / (METRICS_FILE + UNFINISHED)).symlink_to(tmp_path / "elsewhere")
    leaving.fleet.of(SHOWS)
    leaving.poll()
    assert not (tmp_path / "elsewhere").exists()
    assert len(leaving.warned) == 1


def test_file_that_cannot_be_written_is_told_once_and_tried_again(leaving: Leaving) -> None:
    leaving.fleet.of(SHOWS)
    obstacle = leaving.run_dir / (METRICS_FILE + UNFINISHED)
    obstacle.mkdir()
    for _ in range(3):
        leaving.poll(5.0)
    assert leaving.warned == ["metrics for the worker's own /metrics cannot be left in its run directory: Is a directory"]
    assert leaving.left() is None
    obstacle.rmdir()
    leaving.poll(5.0)
    assert leaving.left()["made_s"] == leaving.now_s
    obstacle.mkdir()
    leaving.poll(5.0)
    assert len(leaving.warned) == 2, "it is another failure"


def test_stop_takes_it_away_with_what_a_kill_left(leaving: Leaving) -> None:
    leaving.metrics.stop()
    leaving.fleet.of(SHOWS)
    leaving.poll()
    (leaving.run_dir / (METRICS_FILE + UNFINISHED)).write_text("{")
    leaving.metrics.stop()
    assert leaving.files() == [directory.KEY_FILE]


_KILLED = """
import os, signal, sys
from race_watch.exporters import worker_metrics
from race_watch.totals import Totals
if sys.argv[2] == "half":
    os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
worker_metrics.WorkerMetrics(sys.argv[1], Totals(), print)._store(1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("when", "left"), [("half", METRICS_FILE + UNFINISHED), ("whole", METRICS_FILE)])
def test_directory_goes_although_a_killed_watcher_left_it(tmp_path: Path, when: str, left: str) -> None:
    run_dir = directory.use(str(tmp_path / "run"))
    subprocess.run([sys.executable, "-c", _KILLED, run_dir, when], timeout=60, check=False)
    assert left in os.listdir(run_dir)
    directory.remove(run_dir)
    assert not os.path.exists(run_dir)
