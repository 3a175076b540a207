"""Counts at lifecycle edges: cheap whatever is counted, true at EMFILE, and back at their base when a room is left."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from arming import Armed
from interpreters import checked, fake_livekit, python, read_journals, watched_environment
from sdk_runs import SdkRuns, versions

from race_watch.events import CallEnded, HookStruck, ResourcesSampled, RoomConnected, RoomHandleDropped
from race_watch.hooks import resources
from race_watch.hooks.descriptors import open_fds
from race_watch.hooks.ffi_handles import KINDS


def counts(pairs: tuple[str, ...]) -> dict[str, int]:
    return {kind: int(count) for kind, _, count in (pair.partition("=") for pair in pairs)}


def test_edges_in_a_burst_make_one_sample(armed: Armed, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [10**12]
    monkeypatch.setattr(resources, "MONOTONIC_NS", lambda: clock[0])
    for _ in range(10):
        armed.context.resources.sample()
    assert len(armed.seen(ResourcesSampled)) == 1
    armed.context.resources.sample(now=True)
    assert len(armed.seen(ResourcesSampled)) == 2
    clock[0] += 100_000_001
    armed.context.resources.sample()
    assert len(armed.seen(ResourcesSampled)) == 3


def test_process_without_the_sdk_is_counted_as_far_as_it_can_be(armed: Armed) -> None:
    armed.context.resources.sample()
    (sampled,) = armed.seen(ResourcesSampled)
    assert (sampled.edge, sampled.ffi_handles, sampled.handles, sampled.subscriptions) == (1, -1, (), -1)
    assert (sampled.rooms, sampled.participants, sampled.connects) == (0, 0, 0)
    assert sampled.open_fds == open_fds()
    assert sampled.fd_limit >= sampled.open_fds
    assert (sampled.tasks, sampled.threads, sampled.rooms_abandoned, sampled.collections) == (-1, (), -1, -1)


def test_sample_does_the_same_with_one_descriptor_and_with_thousands(armed: Armed) -> None:
    """What grows with the count is kept off the loop's thread: a sample calls the same functions, whatever is open."""

    def called() -> list[str]:
        names: list[str] = []
        sys.setprofile(lambda frame, event, argument: names.append(getattr(argument, "__name__", event)))
        try:
            armed.context.resources.sample(now=True)
        finally:
            sys.setprofile(None)
        return names

    few = called()
    assert "stat" in few
    assert not {"listdir", "scandir", "readlink", "open", "get_objects"} & set(few)
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(2000)]
    try:
        assert called() == few
    finally:
        for descriptor in opened:
            os.close(descriptor)
    before, after = armed.seen(ResourcesSampled)
    assert after.open_fds == before.open_fds + 2000


EMFILE = """
import asyncio, os, resource, sys, time
from livekit import rtc
from race_watch import agent
context = agent.current().context
limit = len(os.listdir("/proc/self/fd")) + 5
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
held = []
try:
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
except OSError as error:
    print(error.strerror)
context.resources.sample(now=True)
context.counting.start()
while not context.counting._classified_at:
    time.sleep(0.05)
print(context.resources.listed_fds == limit)
context.counting.stop()
os.close(held.pop())
with open(os.devnull) as file:
    print(file.fileno() == limit - 1)
"""


@pytest.mark.skipif(os.stat("/proc/self/fd").st_size == 0, reason="before Linux 6.2 the directory must be listed")
def test_gauges_report_at_the_limit_and_the_host_is_not_harmed(tmp_path: Path, run_dir: Path) -> None:
    variables = watched_environment(run_dir, after=[fake_livekit(tmp_path / "fake")], RACE_WATCH_COUNT_EVERY_S="1")
    assert checked(python(EMFILE, variables)) == "Too many open files\nTrue\nTrue\n"
    (journal,) = read_journals(run_dir)
    assert not journal.count(HookStruck)
    samples = [event for event in journal.events if isinstance(event, ResourcesSampled)]
    assert [sample.edge for sample in samples][:2] == [1, 0]
    assert {sample.open_fds for sample in samples} == {samples[-1].fd_limit}
    assert counts(samples[-1].threads)["all"] > 0


@pytest.mark.parametrize("version", versions())
def test_handles_of_the_real_sdk_are_told_by_kind(sdk_runs: SdkRuns, version: str) -> None:
    samples = sdk_runs.watched(version).seen(ResourcesSampled)
    for sample in samples:
        assert sum(counts(sample.handles).values()) == sample.ffi_handles
    most = {kind: max(counts(sample.handles)[kind] for sample in samples) for kind in KINDS}
    assert (most["room"], most["buffer"], most["other"]) == (2, 0, 0)
    assert most["participant"] >= 4
    assert most["publication"] >= 3
    assert most["track"] >= 1


@pytest.mark.parametrize("version", versions())
def test_totals_of_the_real_sdk_tell_what_has_happened(sdk_runs: SdkRuns, version: str) -> None:
    run = sdk_runs.watched(version)
    samples = run.seen(ResourcesSampled)
    connects = [event.outcome for event in run.seen(CallEnded) if event.method == "connect"]
    last = samples[-1]
    assert (last.connects, last.connects_cancelled) == (len(connects), connects.count("cancelled")) == (4, 1)
    assert (last.rooms_ended, last.server_leaves) == (2, 0)
    assert last.participants_departed >= max(sample.participants for sample in samples)
    totals = [(s.connects, s.connects_cancelled, s.rooms_ended, s.participants_departed) for s in samples]
    assert totals == sorted(totals)


@pytest.mark.parametrize("version", versions())
def test_subscriptions_of_the_real_sdk_are_one_a_room_and_one_a_cancelled_connect(sdk_runs: SdkRuns, version: str) -> None:
    samples = sdk_runs.watched(version).seen(ResourcesSampled)
    assert samples[0].subscriptions == samples[0].rooms == 1
    assert samples[1].subscriptions == samples[1].rooms == 2
    cancelled = next(sample for sample in samples if sample.connects_cancelled)
    assert cancelled.subscriptions == cancelled.rooms + 1


@pytest.mark.parametrize("version", versions())
def test_handle_of_each_room_of_the_real_sdk_is_seen_to_go(sdk_runs: SdkRuns, version: str) -> None:
    run = sdk_runs.watched(version)
    connected = sorted(event.room for event in run.seen(RoomConnected))
    assert len(connected) == 2
    assert sorted(event.room for event in run.seen(RoomHandleDropped)) == connected


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
