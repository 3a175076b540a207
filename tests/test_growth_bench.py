"""The bench of the growth detector runs and prints what it says; its bound and its traffic are what they claim."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.growth_bench import lab
from tests.growth_bench.bound import at_most, least_departures
from tests.growth_bench.measure import KINDS, clean, leaking, samples_of
from tests.growth_bench.worker import Leak

pytestmark = pytest.mark.one_python


def test_bench_prints_every_traffic_the_bound_and_its_seed() -> None:
    command = [sys.executable, "-m", "tests.growth_bench", "--departures", "100", "--runs", "1", "--limit", "30", "--seed", "s"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("seed 's'")
    for kind in KINDS:
        assert done.stdout.count(f"\n{kind} ") == 3
    assert "no test can" in done.stdout
    assert "with 95 % confidence fewer than" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_is_the_same_traffic(kind: str) -> None:
    leak = Leak("handles", 0.25)
    assert list(samples_of(kind, "s", leak, 60)) == list(samples_of(kind, "s", leak, 60))
    assert list(samples_of(kind, "s", leak, 60)) != list(samples_of(kind, "t", leak, 60))


@pytest.mark.parametrize("kind", KINDS)
def test_traffic_counts_every_departure_and_what_each_leaves(kind: str) -> None:
    last = [sample for _, sample in samples_of(kind, "s", Leak("handles", 1.0), 300)][-1]
    clean_last = [sample for _, sample in samples_of(kind, "s", Leak(), 300)][-1]
    assert last.participants_departed >= 295, "the last of a burst come between two samples"
    assert last.ffi_handles - clean_last.ffi_handles >= 285


def test_recording_is_of_a_clean_room_and_ends_empty() -> None:
    recorded = lab.read()
    assert len(recorded) > 400
    assert recorded[-1][1].participants_departed == 240
    assert recorded[-1][1].participants == recorded[0][1].participants == 0
    assert recorded[-1][1].ffi_handles == recorded[0][1].ffi_handles == 2
    times = [t_s for t_s, _ in recorded]
    assert times == sorted(times)


def test_leak_in_recorded_traffic_is_found_and_clean_traffic_is_not_one() -> None:
    found = leaking("lab, recorded", "s", Leak("handles", 1.0), 200)
    assert found.departures is not None
    assert found.departures < 60
    assert clean("lab, recorded", "s", 300).resources == ()


def test_bound_is_lorden_s() -> None:
    assert least_departures(1.0, 1 / 1000, 1_000_000) == pytest.approx(math.log(1e6) / math.log(1000))
    assert least_departures(0.05, 1 / 1000, 1_000_000) > least_departures(0.25, 1 / 1000, 1_000_000)
    assert least_departures(1.0, 1e-9, 10) == 1


@pytest.mark.parametrize(("events", "mean"), [(0, 3.0), (1, 4.74), (10, 16.96)])
def test_upper_bound_of_a_poisson_mean(events: int, mean: float) -> None:
    assert at_most(events) == pytest.approx(mean, abs=0.01)
