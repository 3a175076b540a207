"""Growth of what a process holds: found by what has departed, and nothing else taken for it."""

from __future__ import annotations

import random
from typing import Any

import pytest
from facts import MAIN, judge, process, record
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import Counted, raised, sampled

from race_watch import detectors, events
from race_watch.detectors.growth import Growth
from race_watch.events import DescriptorsClassified, HandleHeld
from race_watch.findings import CATEGORIES
from race_watch.records import JournalEnded

pytestmark = pytest.mark.one_python

FUZZ = settings(derandomize=True, database=None, max_examples=60)


def visit(worker: Counted, *, kept: int = 0, apart_s: float = 0.5, handles: int = 3) -> None:
    """Somebody comes, with publications, and leaves; `kept` of their handles stay."""
    worker.sample(apart_s, participants=1, ffi_handles=handles)
    worker.sample(apart_s, participants=-1, participants_departed=1, ffi_handles=kept - handles)


def visited(times: int, **how: Any) -> Counted:
    worker = Counted()
    worker.sample()
    for _ in range(times):
        visit(worker, **how)
    worker.idle(10)
    return worker


def dropped(rooms: int, *, apart_s: int = 20, sockets: int = 31) -> Counted:
    """Rooms that are connected and then let go of, as the host half learns of it: some looks later."""
    worker = Counted()
    worker.sample()
    worker.sample(5, rooms=-1, rooms_ended=1, ffi_handles=-2, subscriptions=-1, tasks=-1)
    worker.idle(30)
    for number in range(rooms):
        worker.sample(1, rooms=1, connects=1, open_fds=sockets, ffi_handles=2, subscriptions=1, tasks=1)
        worker.counts["threads"] = (f"all={18 + 6 * number}", "tokio=3", f"webrtc={15 + 6 * number}")
        worker.sample(0.1)
        worker.idle(4)
        worker.sample(1, rooms_abandoned=1)
        worker.state(DescriptorsClassified((f"udp={16 * number + 16}", f"tcp={15 * number + 15}", "pipe=2"), 1))
        worker.idle(apart_s)
    worker.idle(60)
    return worker


# What an application keeps


def test_publications_that_are_kept_are_found_within_twelve_departures() -> None:
    (finding,) = raised(visited(200, kept=1).records)
    assert finding.category == "handle_leak"
    assert int(finding.evidence["n"]) <= 12
    assert (finding.evidence["resource"], finding.evidence["unit"]) == ("handles", "participant")
    assert finding.evidence["slope"] == "1.00 per participant (0.68 to 1.32, 95%)"
    assert finding.evidence["false_alarm_rate"] == "at most 1 in 1,000,000 participants"


def test_alarm_comes_within_two_more_departures_of_its_number_where_they_are_a_second_apart() -> None:
    worker = visited(200, kept=1)
    growth = Growth()
    for one in worker.records:
        growth.observe(one)
        if found := growth.confirm(one.t_s):
            assert isinstance(one.event, events.ResourcesSampled)
            assert one.event.participants_departed <= int(found[0].evidence["n"]) + 2
            return
    pytest.fail("no alarm")


def test_two_thousand_departures_of_a_clean_application_raise_nothing() -> None:
    assert raised(visited(2000).records) == []


def test_growth_that_goes_on_is_one_finding() -> None:
    assert len(raised(visited(1500, kept=2).records)) == 1


@pytest.mark.parametrize("share", [4, 20])
def test_what_only_some_leave_behind_is_found_too(share: int) -> None:
    dice, worker = random.Random(f"one in {share}"), Counted()
    for _ in range(100 * share):
        visit(worker, kept=int(dice.random() < 1 / share))
    (finding,) = raised(worker.records)
    assert float(finding.evidence["slope"].split()[0]) == pytest.approx(1 / share, rel=0.5)


def test_kinds_name_the_leak_and_what_holds_it_is_told() -> None:
    worker = Counted()
    worker.state(HandleHeld("publication", ("list", "app.agent:on_track")))
    for number in range(1, 40):
        worker.sample(participants=1, ffi_handles=2)
        worker.counts["handles"] = ("room=1", "participant=1", f"publication={number}")
        worker.sample(participants=-1, participants_departed=1, ffi_handles=-1)
    made = judge(worker.records).only()
    assert (made.category, made.signature, made.verdict) == ("handle_leak", "departed-kept-by-application", "app")
    assert made.evidence["kinds"] == "publication +1"
    assert made.evidence["held_by"] == "publication: list <- app.agent:on_track"


@pytest.mark.parametrize(("collections", "sure"), [(0, 0.8), (1, 1.0)], ids=["none", "one"])
def test_handles_that_no_garbage_collection_has_looked_at_are_less_sure(collections: int, sure: float) -> None:
    worker = Counted()
    for number in range(40):
        if number == 5:
            worker.counts["collections"] = collections
        visit(worker, kept=1)
    (finding,) = raised(worker.records)
    assert finding.confidence == sure
    assert ("garbage" in finding.evidence) is (collections == 0)


# Rooms and mishaps


def test_rooms_that_are_dropped_are_one_incident_with_all_that_they_keep() -> None:
    made = judge(dropped(4).records).only()
    assert (made.category, made.signature, made.verdict) == ("fd_leak", "room-dropped-without-disconnect", "app")
    assert made.evidence["unit"] == "abandoned room"
    assert made.evidence["kinds"] == "udp +16, tcp +15"
    assert int(made.evidence["n"]) <= 4
    assert made.evidence["slope"].startswith("31.00 per abandoned room")
    assert made.evidence["threads"] == f"6.00 per abandoned room (at least 5.39, 95%), n {made.evidence['n']}: webrtc +6"
    assert {"tasks", "subscriptions"} <= set(made.evidence)


def test_rooms_that_are_in_use_are_not_dropped_ones() -> None:
    """The same sockets, held by rooms that the application still refers to."""
    worker = Counted()
    worker.sample()
    for _ in range(12):
        worker.idle(20)
        worker.sample(rooms=1, connects=1, open_fds=31, ffi_handles=2, subscriptions=1, tasks=1)
    worker.idle(60)
    assert raised(worker.records) == []


def test_cancelled_connects_that_leave_a_subscription_are_found() -> None:
    worker = Counted()
    worker.idle(10)
    for _ in range(8):
        worker.sample(connects=1, connects_cancelled=1, subscriptions=1)
        worker.idle(2)
    made = judge(worker.records).only()
    assert (made.category, made.signature) == ("subscription_leak", "connect-cancel-sigterm")
    assert made.evidence["slope"] == "1.00 per cancelled connect (0.46 to 1.54, 95%)"


def left_by_server(*, threads: int, fds: int) -> Counted:
    worker = Counted()
    worker.sample()
    worker.sample(rooms=-1, rooms_ended=1)
    worker.idle(30)
    for number in range(1, 9):
        worker.sample(rooms=1, connects=1, open_fds=6)
        worker.counts["threads"] = (f"all={12 + threads * number}", "tokio=3", f"audio_source={number if threads else 0}")
        worker.sample(rooms=-1, rooms_ended=1, server_leaves=1, open_fds=fds - 6)
        worker.state(DescriptorsClassified((f"pipe={2 + 2 * fds // 3 * number}", "epoll=5"), 1))
        worker.idle(25)
    return worker


def test_server_leaves_that_strand_a_track_are_found_and_the_doubt_about_the_unit_is_told() -> None:
    made = judge(left_by_server(threads=6, fds=3).records).only()
    assert (made.category, made.signature, made.verdict) == ("fd_leak", "server-leave-strands-local-track", "native")
    assert made.evidence["unit"] == "server leave"
    assert made.evidence["unit_unsure"] == "the readings fit as well: per room"
    assert made.confidence < 1
    assert made.evidence["threads"].startswith("6.00 per server leave")


def test_server_leaves_that_strand_nothing_raise_nothing() -> None:
    assert raised(left_by_server(threads=0, fds=0).records) == []


def test_rooms_of_which_only_the_server_ended_ones_leak_are_not_blamed() -> None:
    dice, worker = random.Random("mixed"), Counted()
    worker.sample(rooms=-1, rooms_ended=1)
    worker.idle(30)
    for _ in range(40):
        worker.idle(20)
        by_server = int(dice.random() < 0.5)
        worker.sample(rooms=1, connects=1)
        worker.sample(rooms=-1, rooms_ended=1, server_leaves=by_server, subscriptions=by_server)
    (finding,) = raised(worker.records)
    assert finding.evidence["unit"] == "server leave"


def test_connects_that_fail_and_leave_a_descriptor_are_found() -> None:
    worker = Counted()
    worker.idle(20)
    for _ in range(12):
        worker.sample(edge=0, connects=1, open_fds=1)
        worker.state(sampled(**{**worker.counts, "edge": 1}))
        worker.idle(20)
    (finding,) = raised(worker.records)
    assert (finding.category, finding.evidence["unit"]) == ("fd_leak", "failed connect")


def test_tracks_made_before_the_first_room_are_told_by_their_runtimes() -> None:
    worker = Counted()
    worker.counts["threads"] = ("all=59", "tokio=3", "webrtc=41")
    worker.counts["handles"] = ("room=1", "participant=1", "track=10")
    worker.sample()
    worker.state(DescriptorsClassified(("epoll=16", "pipe=24", "unix=6"), 1))
    worker.state(DescriptorsClassified(("epoll=16", "pipe=24", "unix=6"), 1))
    made = judge(worker.records).only()
    assert (made.category, made.signature, made.verdict) == ("fd_leak", "track-created-before-connect", "app")
    assert made.evidence["n"] == "10"


# What is no leak


def test_busy_hour_is_no_leak() -> None:
    dice, worker = random.Random("busy"), Counted()
    worker.sample()
    for step in range(3000):
        coming = dice.random() < (0.7 if step < 1500 else 0.3)
        if coming or not worker.participants:
            worker.sample(0.5, participants=1, ffi_handles=3, subscriptions=1, open_fds=2)
        else:
            worker.sample(0.5, participants=-1, participants_departed=1, ffi_handles=-3, subscriptions=-1, open_fds=-2)
    assert worker.participants_departed > 1000
    assert raised(worker.records) == []


def test_leak_under_churn_is_seen() -> None:
    dice, worker = random.Random("churn"), Counted()
    worker.sample()
    for _ in range(3000):
        if dice.random() < 0.5 + (6 - worker.participants) / 20 or not worker.participants:
            worker.sample(0.5, participants=1, ffi_handles=3)
        else:
            worker.sample(0.5, participants=-1, participants_departed=1, ffi_handles=-2)
    (finding,) = raised(worker.records)
    assert int(finding.evidence["n"]) < 60
    assert finding.evidence["slope"].startswith("1.00 per participant")


def test_plateau_that_is_raised_once_is_no_leak() -> None:
    worker = Counted()
    for step in range(400):
        if step in (50, 51, 52, 180, 300):
            worker.sample(0.1, ffi_handles=3, open_fds=4)
        visit(worker)
    assert raised(worker.records) == []


def test_cache_that_fills_and_is_full_is_no_leak() -> None:
    worker = Counted()
    for step in range(300):
        worker.sample(0.1, open_fds=int(step % 3 == 0 and step < 24))
        visit(worker)
    assert raised(worker.records) == []


def test_native_teardown_under_way_is_no_leak() -> None:
    """Rooms begin to come and go every two seconds; each holds its sockets twelve seconds longer."""
    worker = Counted()
    worker.idle(60)
    ended: list[float] = []
    for _ in range(150):
        gone = [at for at in ended if worker.t_s - at > 12]
        ended = [at for at in ended if worker.t_s - at <= 12]
        worker.sample(1, rooms=1, connects=1, open_fds=31 - 31 * len(gone))
        worker.sample(1, rooms=-1, rooms_ended=1)
        ended.append(worker.t_s)
    assert raised(worker.records) == []


def test_burst_whose_objects_go_a_second_later_is_no_leak() -> None:
    worker = Counted()
    worker.sample()
    for _ in range(40):
        for _ in range(20):
            worker.sample(0.1, participants=1, ffi_handles=3)
        for _ in range(20):
            worker.sample(0.05, participants=-1, participants_departed=1)
        worker.sample(1.0, ffi_handles=-60)
        worker.idle(10)
    assert raised(worker.records) == []


def test_what_the_first_connect_starts_is_the_baseline() -> None:
    worker = Counted(counts={"rooms": 0, "connects": 0})
    for _ in range(30):
        worker.sample(open_fds=1, participants_departed=1)
    worker.sample(rooms=1, connects=1)
    worker.idle(60)
    assert raised(worker.records) == []


def test_growth_by_hours_is_not_blamed_on_participants() -> None:
    """One handle every ten seconds, whoever comes or goes; they come irregularly."""
    dice, worker = random.Random("hours"), Counted()
    grown = 0
    for _ in range(300):
        for _ in range(dice.choice((1, 2, 30, 60))):
            due = int((worker.t_s - 100) / 10) - grown
            grown += due
            worker.sample(ffi_handles=due)
        visit(worker)
    units = {finding.evidence["unit"] for finding in raised(worker.records)}
    assert units == {"hour"}


def test_unknown_counts_raise_nothing() -> None:
    unknown = {"open_fds": -1, "ffi_handles": -1, "subscriptions": -1, "tasks": -1, "threads": (), "rooms_abandoned": -1}
    worker = Counted(counts=unknown)
    for _ in range(50):
        worker.sample(participants_departed=1)
    assert raised(worker.records) == []


def test_tokio_threads_and_buffers_are_not_counted() -> None:
    worker = Counted()
    for number in range(100):
        worker.counts["threads"] = (f"all={12 + number}", f"tokio={3 + number}", "webrtc=9")
        worker.counts["handles"] = ("room=1", f"buffer={number}")
        worker.sample(10, participants_departed=1, ffi_handles=1)
    assert raised(worker.records) == []


# Processes


def test_what_one_process_has_left_does_not_count_for_the_next() -> None:
    for each, alarms in ((6, 0), (12, 2)):
        records = []
        for nonce in ("aa", "bb"):
            worker = Counted(of=process(nonce))
            worker.sample()
            for _ in range(each):
                visit(worker, kept=1)
            worker.idle(10)
            worker.state(JournalEnded(0))
            records += worker.records
        assert len(raised(records)) == alarms


def test_processes_side_by_side_are_followed_each_by_itself() -> None:
    one, other = Counted(of=process("aa")), Counted(of=process("bb", pid=101))
    for _ in range(30):
        visit(one, kept=1)
        visit(other)
    found = raised(sorted([*one.records, *other.records], key=lambda r: r.t_s))
    assert [finding.process.nonce for finding in found] == ["aa"]


def test_ended_process_is_forgotten_and_what_waited_is_told() -> None:
    worker = dropped(4)
    last = next(r for r in worker.records if r.t_s > worker.t_s - 60)
    growth = Growth()
    for one in worker.records:
        if one.t_s < last.t_s:
            growth.observe(one)
    assert growth.confirm(last.t_s) == []
    growth.observe(record(JournalEnded(0), last.t_s))
    found = growth.confirm(last.t_s)
    assert [finding.category for finding in found][:1] == ["fd_leak"]
    assert list(growth.estimates()) == []
    assert growth.hours_to_limit() == {}


def test_number_of_processes_that_are_followed_is_bounded() -> None:
    growth = Growth()
    for number in range(600):
        growth.observe(record(sampled(), 1.0, of=process(f"{number:04}")))
    assert len(growth.hours_to_limit()) == 512


def test_room_is_named_where_the_process_has_only_one() -> None:
    worker = visited(40, kept=1)
    connected = record(events.RoomConnected(7, "support", "RM_1", "", 0, ()), 1.0)
    assert [finding.room for finding in raised([connected, *worker.records])] == [7]
    another = record(events.RoomConnected(8, "other", "RM_2", "", 0, ()), 2.0)
    assert [finding.room for finding in raised([connected, another, *worker.records])] == [0]


# Gauges


def test_gauges_tell_the_slope_with_its_bound_without_an_alarm() -> None:
    worker, growth = visited(6, kept=1), Growth()
    for one in worker.records:
        growth.observe(one)
    assert growth.confirm(worker.t_s) == []
    (estimate,) = [e for e in growth.estimates() if (e.resource, e.unit) == ("handles", "participant")]
    assert estimate.process == MAIN
    assert estimate.slope.value == 1
    assert 0.5 < estimate.slope.low < 1 < estimate.slope.high < 1.5


def test_gauges_are_silent_before_anybody_has_left() -> None:
    growth = Growth()
    for one in visited(1).records[:1]:
        growth.observe(one)
    assert list(growth.estimates()) == []


def test_hours_to_the_descriptor_limit_follow_from_the_latest_rate() -> None:
    worker = Counted(counts={"fd_limit": 256})
    for _ in range(60):
        worker.sample(30, participants=1)
        worker.sample(30, participants=-1, participants_departed=1, open_fds=1)
    growth = Growth()
    for one in worker.records:
        growth.observe(one)
    assert growth.hours_to_limit()[MAIN.nonce] == pytest.approx((256 - 80) / 60, rel=0.1)
    (finding,) = growth.confirm(worker.t_s)
    assert (finding.category, finding.evidence["unit"]) == ("fd_leak", "participant")
    assert 2 < float(finding.evidence["hours_to_limit"]) < 5


# Anything at all

COUNT = st.integers(-1, 40)


@FUZZ
@given(st.lists(st.tuples(*[COUNT] * 12, st.floats(0, 100)), max_size=80))
def test_no_sequence_of_samples_breaks_it(rows: list[tuple[Any, ...]]) -> None:
    t_s, records = 0.0, []
    for number, (
        fds,
        handles,
        rooms,
        live,
        ended,
        left,
        connects,
        cancelled,
        leaves,
        subs,
        tasks,
        abandoned,
        wait_s,
    ) in enumerate(rows):
        t_s += wait_s
        event = sampled(
            edge=number % 2,
            open_fds=fds,
            ffi_handles=handles,
            rooms=rooms,
            participants=live,
            rooms_ended=ended,
            participants_departed=left,
            connects=connects,
            connects_cancelled=cancelled,
            server_leaves=leaves,
            subscriptions=subs,
            tasks=tasks,
            rooms_abandoned=abandoned,
        )
        records.append(record(event, t_s, number))
    for finding in raised(records):
        assert finding.category in CATEGORIES


def test_it_stands_behind_all_other_detectors() -> None:
    assert type(detectors.build()[-1]) is Growth
