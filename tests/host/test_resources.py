"""Counts at lifecycle edges: cheap, true at EMFILE, and back at their base when a room is left."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from arming import Armed
from sdk_runs import SdkRuns, versions

from race_watch.events import ResourcesSampled
from race_watch.hooks import resources
from race_watch.hooks.resources import open_fds


def test_descriptors_are_counted_one_by_one() -> None:
    before = open_fds()
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    try:
        assert open_fds() == before + 5
    finally:
        for descriptor in opened:
            os.close(descriptor)
    assert open_fds() == before


@pytest.mark.skipif(os.stat("/proc/self/fd").st_size == 0, reason="before Linux 6.2 the directory must be opened")
def test_count_needs_no_descriptor() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = open_fds()
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
        assert open_fds() == before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_count_by_listing_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = open_fds()
    monkeypatch.setattr(os, "stat", lambda path: os.stat_result((0,) * 10))
    assert open_fds() == counted


def test_unknown_count_is_minus_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resources, "_FD_DIRECTORY", str(tmp_path / "no proc"))
    assert open_fds() == -1


def test_edges_in_a_burst_make_one_sample(armed: Armed, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [10**12]
    monkeypatch.setattr(resources, "MONOTONIC_NS", lambda: clock[0])
    for _ in range(10):
        armed.context.resources.sample()
    assert len(armed.seen(ResourcesSampled)) == 1
    armed.context.resources.sample(now=True)
    assert len(armed.seen(ResourcesSampled)) == 2
    clock[0] += 250_000_001
    armed.context.resources.sample()
    assert len(armed.seen(ResourcesSampled)) == 3


def test_process_without_the_sdk_has_no_handle_count(armed: Armed) -> None:
    armed.context.resources.sample()
    (sampled,) = armed.seen(ResourcesSampled)
    assert (sampled.ffi_handles, sampled.rooms, sampled.participants) == (-1, 0, 0)
    assert sampled.open_fds > 2


@pytest.mark.parametrize("version", versions())
def test_handles_of_the_real_sdk_come_back_to_their_base(sdk_runs: SdkRuns, version: str) -> None:
    run = sdk_runs.watched(version)
    assert run.story["handles"] == [0, 0]
    samples = run.seen(ResourcesSampled)
    assert max(sample.ffi_handles for sample in samples) >= 6
    assert max(sample.rooms for sample in samples) == 2
    assert max(sample.participants for sample in samples) >= 2
    assert samples[-1].rooms == samples[-1].participants == 0
    assert samples[-1].open_fds < max(sample.open_fds for sample in samples)
