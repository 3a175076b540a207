"""Durations stay right where a host's test replaces the clock."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from arming import Armed, arming

from race_watch import clock
from race_watch.events import ExceptionSeen, LoopBorn
from race_watch.hooks.rooms import Where
from race_watch.journal.layout import SUFFIX
from race_watch.journal.reader import JournalReader

CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")


@contextmanager
def frozen() -> Iterator[None]:
    """As freezegun does it: `time`'s functions are replaced wherever a loaded module has them as an attribute."""
    real: dict[Any, Callable[[], int]] = {getattr(time, name): lambda: 1 for name in CLOCKS}
    replaced = []
    for module in list(sys.modules.values()):
        for name, value in list(vars(module).items()) if hasattr(module, "__dict__") else ():
            if type(value) is type(len) and value in real:
                replaced.append((module, name, value))
                setattr(module, name, real[value])
    try:
        yield
    finally:
        for module, name, value in replaced:
            setattr(module, name, value)


def times(run_dir: Path) -> list[float]:
    (path,) = run_dir.glob(f"*{SUFFIX}")
    reader = JournalReader(str(path))
    try:
        return [record.t_s for record in reader.read(final=True)]
    finally:
        reader.close()


def test_frozen_clock_does_not_stop_ours() -> None:
    before = time.monotonic()
    with frozen():
        assert time.monotonic() == time.time_ns() == 1
        assert clock.MONOTONIC_NS() > 1
        assert clock.WALL_NS() > 10**18
        inside = clock.monotonic_s()
    assert before <= inside <= time.monotonic()


def test_records_keep_their_times_and_minutes_pass(armed: Armed, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = time.monotonic()
    with frozen():
        for _ in range(3):
            armed.context.exceptions.see(ValueError("x"), "here", Where())
            armed.context.resources.sample(now=True)
    assert all(before - 60 < at <= time.monotonic() for at in times(run_dir))
    assert len(armed.seen(ExceptionSeen)) == 3
    (minute,) = armed.context.exceptions._sites.values()
    assert minute[0] >= before * 1e9


def test_journal_made_while_time_stands_still_keeps_time(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = time.monotonic()
    with frozen(), arming(run_dir, monkeypatch.setenv) as armed:
        armed.context.recorder.state(LoopBorn, "kind", "name", "thread")
        found = times(run_dir)
    assert found
    assert all(before <= at <= time.monotonic() for at in found)
