"""Growth by the hour of what is measured from outside: found where it goes on, nothing else taken for it, and how told."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest
from facts import judge, process, record, sampled
from journals import put, slot

from race_watch import metrics
from race_watch.detectors.growth_outside import GrowthOutside
from race_watch.events import LIST_SEP, DescriptorsClassified, ProcessMeasured
from race_watch.exporters import text
from race_watch.exporters.status import Status
from race_watch.findings import Finding
from race_watch.fleet import Fleet
from race_watch.incidents import Incident, Incidents
from race_watch.journal.layout import HEADER_BYTES, SLOT_BYTES
from race_watch.own_journal import OwnJournal
from race_watch.records import JournalEnded, Record
from race_watch.totals import Totals
from race_watch.watcher import Watcher

WATCHER = process("0a", 50, role="watcher")
HOUR_S = 3600.0
# Some looks in each stretch of time.
EVERY_S = 60.0
Counts = dict[str, Any]


@dataclass
class Node:
    """A process that is measured as the supervisor measures; `records` are what was stated of it."""

    pid: int = 123
    born_s: int = 1_000
    program: str = "node"
    t_s: float = 100.0
    records: list[Record] = field(default_factory=list)

    def measure(self, **counts: Any) -> None:
        self.t_s += EVERY_S
        usual = {"open_fds": 40, "fd_limit": 4096, "kinds": (), "threads": 11, "rss_bytes": 90_000_000, "children": 0}
        event = ProcessMeasured(**{"pid": self.pid, "born_s": self.born_s, "program": self.program, **usual, **counts})
        self.records.append(record(event, self.t_s, len(self.records), WATCHER))

    def live(self, hours: float, counts: Callable[[float], Counts]) -> Node:
        """Lives on; `counts` are by the hours that it has done so."""
        since_s = self.t_s
        while self.t_s - since_s < hours * HOUR_S:
            self.measure(**counts((self.t_s - since_s) / HOUR_S))
        return self

    def end(self) -> Node:
        self.measure(threads=0, open_fds=-1, fd_limit=-1, rss_bytes=-1)
        return self


def in_order(nodes: Iterable[Node]) -> list[Record]:
    return sorted((one for node in nodes for one in node.records), key=lambda one: one.t_s)


def raised(*nodes: Node) -> list[Finding]:
    detector, found = GrowthOutside(), []
    for one in in_order(nodes):
        detector.observe(one)
        found += detector.confirm(one.t_s)
    return found


def followed(*nodes: Node) -> GrowthOutside:
    detector = GrowthOutside()
    for one in in_order(nodes):
        detector.observe(one)
    return detector


def sockets(hours: float) -> Counts:
    """Four rooms an hour that are let go of without a disconnect."""
    rooms = int(4 * hours)
    return {"open_fds": 40 + 31 * rooms, "kinds": (f"udp={16 * rooms}", f"tcp={15 * rooms}", "pipe=40")}


def runtimes(hours: float) -> Counts:
    return {"threads": 11 + 5 * int(4 * hours)}


def both(hours: float) -> Counts:
    return {**sockets(hours), **runtimes(hours)}


# What is found


def test_descriptors_that_grow_for_a_shift_are_found_and_told_by_the_hour() -> None:
    (finding,) = raised(Node().live(12, sockets))
    assert (finding.category, finding.verdict, finding.component) == ("fd_leak", "unknown", "fds per hour")
    told = finding.evidence
    assert (told["process"], told["resource"], told["unit"]) == ("node (pid 123)", "fds", "hour")
    assert "nobody counts participants in this process, so its growth is told against time" in told["load"]
    assert 4 < float(told["n"]) < 9
    assert 0 < float(told["hours_to_limit"]) < 4096 / 124
    assert finding.confidence < 1


def test_slope_has_its_bound_and_the_kinds_that_grow() -> None:
    (finding,) = raised(Node().live(12, sockets))
    value, low, high = (float(number) for number in re.findall(r"\d+\.\d+", finding.evidence["slope"]))
    assert low <= value <= high
    assert value == pytest.approx(124, rel=0.1)
    grown = dict(kind.split(" +") for kind in finding.evidence["kinds"].split(", "))
    assert {kind: float(slope) for kind, slope in grown.items()} == pytest.approx({"udp": 64, "tcp": 60}, rel=0.15)


def test_threads_that_grow_are_found() -> None:
    (finding,) = raised(Node().live(12, runtimes))
    assert (finding.category, finding.component) == ("thread_leak", "threads per hour")
    assert "hours_to_limit" not in finding.evidence


def test_growth_that_goes_on_for_days_is_one_incident_with_all_that_grows() -> None:
    made = judge(Node().live(72, both).records).only()
    assert {"fds", "threads"} <= made.evidence.keys()


def test_slow_growth_is_found_too_if_late() -> None:
    (finding,) = raised(Node().live(40, lambda hours: {"open_fds": 40 + int(2 * hours)}))
    assert float(finding.evidence["slope"].split()[0]) == pytest.approx(2, rel=0.1)


def test_growth_of_a_parent_beside_children_that_come_and_go_is_found() -> None:
    def counts(hours: float) -> Counts:
        jobs = round(10 - 10 * math.cos(hours * math.tau / 24))
        return {"open_fds": 30 + 3 * jobs + int(12 * hours), "children": jobs}

    (finding,) = raised(Node().live(24, counts))
    assert float(finding.evidence["slope"].split()[0]) == pytest.approx(12, rel=0.1)


# What is not


class Visitors:
    """Sockets of people who come and go by chance."""

    def __init__(self) -> None:
        self._dice, self._here = random.Random("visitors"), 4

    def __call__(self, _: float) -> Counts:
        self._here += (self._dice.random() < 0.05) - (self._dice.random() < 0.01 * self._here)
        return {"open_fds": 40 + 10 * self._here, "threads": 11 + self._here}


class Noise:
    def __init__(self) -> None:
        self._dice = random.Random("noise")

    def __call__(self, _: float) -> Counts:
        return {"open_fds": 40 + self._dice.randrange(30), "threads": 11 + self._dice.randrange(4)}


def jobs_by_day(hours: float) -> Counts:
    """A worker with a child for each job, and something for each child."""
    jobs = round(20 - 20 * math.cos(hours * math.tau / 24))
    return {"open_fds": 30 + 3 * jobs, "threads": 11 + jobs // 10, "children": jobs}


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param(lambda hours: {}, id="flat"),
        pytest.param(lambda hours: {"open_fds": 40 + int(hours * 60) % 20, "threads": 11 + int(hours * 60) % 3}, id="sawtooth"),
        pytest.param(lambda hours: {"open_fds": 40 + 300 * (hours > 3), "threads": 11 + 4 * (hours > 5)}, id="a step"),
        pytest.param(lambda hours: {"open_fds": 400 - int(hours), "threads": max(11, 60 - int(hours))}, id="falling"),
        pytest.param(lambda hours: {"open_fds": -1, "fd_limit": -1}, id="not to be told"),
        pytest.param(Noise(), id="noise"),
        pytest.param(Visitors(), id="visitors"),
        pytest.param(jobs_by_day, id="jobs by day"),
    ],
)
def test_two_days_without_growth_raise_nothing(counts: Callable[[float], Counts]) -> None:
    assert raised(Node().live(48, counts)) == []


def test_morning_in_which_a_process_fills_raises_nothing() -> None:
    assert raised(Node().live(3, lambda hours: both(5 * hours)).live(21, lambda _: both(15))) == []


@pytest.mark.parametrize("what", ["process", "program", "pid"])
def test_what_replaces_a_process_begins_anew(what: str) -> None:
    """Each life grows for two hours and begins higher than the last one did."""
    node, lives = Node(), []
    for life in range(12):
        node = Node(t_s=node.t_s)
        node.pid += life * (what == "pid")
        node.born_s += life * (what == "process")
        node.program += str(life) * (what == "program")
        lives.append(node.live(2, lambda hours, life=life: both(hours + 2 * life)))  # type: ignore[misc]
    assert raised(*lives) == []


def test_measuring_that_ends_and_goes_on_begins_anew() -> None:
    """It was watched from inside in the meantime."""
    node = Node()
    for life in range(12):
        node.live(2, lambda hours, life=life: both(hours + 2 * life)).end()  # type: ignore[misc]
    assert raised(node) == []


# How it is told


def test_line_says_which_program_and_process() -> None:
    made = judge(Node().live(12, both).records).only()
    assert (made.process["pid"], made.process["role"], made.process["attempt"]) == (123, "outside", 1)
    line = text.line(made)
    assert "fault unknown" in line
    assert "fds of node grow with every hour" in line
    assert line.endswith("pid=123")


def test_second_process_of_a_program_is_an_incident_of_its_own_in_one_group() -> None:
    first, second = Node().live(12, both).end(), Node(pid=124, born_s=90_000, t_s=50_000.0).live(12, both)
    judged = judge(in_order([first, second]))
    assert [(made.process["pid"], made.process["attempt"]) for made in judged.published] == [(123, 1), (124, 2)]
    (group,) = judged.incidents.groups.values()
    assert group.incidents == 2
    assert "room.disconnect()" in group.advice


def test_summary_counts_what_was_measured_from_outside() -> None:
    assert text.attachment(2, 1) == ["2 processes watched", "1 process measured from outside: descriptors, threads, memory"]
    assert text.attachment(0, 3)[1] == "3 processes measured from outside: descriptors, threads, memory"


def test_replay_of_the_supervisors_journal_tells_the_same_and_counts_no_process_as_attached(tmp_path: Path) -> None:
    node = Node().live(12, both)
    own = OwnJournal(str(tmp_path), size=HEADER_BYTES + 2 * len(node.records) * SLOT_BYTES)
    (path,) = tmp_path.iterdir()
    for number, one in enumerate(node.records):
        values = [getattr(one.event, spec.name) for spec in fields(one.event)]  # type: ignore[arg-type]
        body = one.event.body(*(LIST_SEP.join(value) if isinstance(value, tuple) else value for value in values))
        put(path, number, slot(number, body.encode(), ProcessMeasured.code, int(one.t_s * 1e9)), 2 * len(node.records))
    own.close()
    published: list[Incident] = []
    watcher = Watcher(str(tmp_path), lambda made, again: published.append(made), pytest.fail, keep=True)
    watcher.finish()
    assert {made.component for made in published} == {"fds per hour"}
    assert published[0].evidence["fds"] == judge(node.records).only().evidence["fds"]
    assert (watcher.totals.attached, watcher.totals.measured) == (0, 1)
    assert watcher.totals.snapshot["race_watch_processes"] == {(): 0}
    assert watcher.fleet.live() == []


# Gauges


def shown(detector: GrowthOutside, fleet: Fleet | None = None) -> dict[str, dict[Any, float]]:
    totals = Totals()
    totals.outside = detector
    fleet = fleet or Fleet()
    totals.update(fleet, Incidents(fleet), [])
    declared = {(metric.name, labels) for metric in metrics.CATALOGUE for labels in metric.sets}
    assert {(name, labels) for name, values in totals.snapshot.items() for labels in values} - declared <= {
        (metrics.BUILD_INFO.name, labels) for labels in totals.snapshot[metrics.BUILD_INFO.name]
    }
    return {
        name: {labels[0] if len(labels) == 1 else labels: value for labels, value in values.items() if value}
        for name, values in totals.snapshot.items()
    }


def test_what_is_measured_takes_part_in_the_gauges() -> None:
    node, other = Node(), Node(pid=200, program="ffmpeg")
    node.measure(open_fds=50, kinds=("udp=30", "tcp=20"), fd_limit=1000)
    node.measure(open_fds=52, fd_limit=1000)
    other.measure(open_fds=5, threads=2, rss_bytes=10, fd_limit=500)
    values = shown(followed(node, other))
    assert values["race_watch_open_fds"] == {"udp": 30, "tcp": 20, "unknown": 2 + 5}
    assert values["race_watch_threads"] == {"unknown": 11 + 2}
    assert values["race_watch_fd_limit"] == {(): 500}
    assert values["race_watch_measured_resident_memory_bytes"] == {(): 90_000_010}
    assert values["race_watch_processes_measured"] == {(): 2}
    assert values["race_watch_processes"] == {}
    assert values["race_watch_time_to_fd_limit_seconds"] == {(): math.inf}


def test_gauges_are_sums_with_those_that_are_watched_from_inside() -> None:
    fleet, inside = Fleet(), process("bb", 300)
    fleet.observe(record(sampled(10, 20, 1, 3, fd_limit=64, threads=("all=9", "tokio=2")), of=inside))
    fleet.observe(record(DescriptorsClassified(("udp=10",), 1), of=inside))
    node = Node()
    node.measure(kinds=("udp=40",))
    values = shown(followed(node), fleet)
    assert values["race_watch_open_fds"] == {"udp": 50}
    assert values["race_watch_threads"] == {"tokio": 2, "unknown": 7 + 11}
    assert values["race_watch_fd_limit"] == {(): 64}
    assert values["race_watch_processes"] == {(): 1}


def test_process_that_has_attached_since_is_not_counted_twice() -> None:
    fleet = Fleet()
    fleet.observe(record(sampled(10, 20, 1, 3), of=process("bb", 123)))
    node = Node()
    node.measure()
    values = shown(followed(node), fleet)
    assert values["race_watch_processes_measured"] == {}
    assert sum(values["race_watch_open_fds"].values()) == 10


def test_health_lists_what_is_measured() -> None:
    fleet, status, totals = Fleet(), Status(), Totals()
    fleet.observe(record(sampled(10, 20, 1, 3), of=process("bb", 300)))
    attached = Node(pid=300)
    attached.measure()
    totals.outside = followed(Node().live(12, both), attached)
    status.look(fleet, totals)
    (measured,) = status.health()[1]["measured"]
    growth = measured.pop("grows_per_hour")
    assert measured == {
        "pid": 123,
        "program": "node",
        "open_fds": both(12)["open_fds"] - 31,
        "fd_limit": 4096,
        "threads": both(12)["threads"] - 5,
        "rss_bytes": 90_000_000,
    }
    assert growth == {"fds": pytest.approx(124, rel=0.1), "threads": pytest.approx(20, rel=0.1)}


@pytest.mark.parametrize("ended", ["the process", "the watcher"])
def test_what_has_ended_is_in_no_gauge(ended: str) -> None:
    node = Node().live(12, both)
    detector = followed(node)
    assert shown(detector)["race_watch_processes_measured"] == {(): 1}
    if ended == "the process":
        detector.observe(node.end().records[-1])
    else:
        detector.observe(record(JournalEnded(0), node.t_s, of=WATCHER))
    values = shown(detector)
    assert [values[f"race_watch_{name}"] for name in ("processes_measured", "open_fds", "threads", "growth")] == [{}] * 4
    assert detector.seen == 1


def test_growth_is_shown_once_it_is_confirmed_and_with_it_the_time_that_is_left() -> None:
    node = Node().live(3, both)
    detector = followed(node)
    assert shown(detector)["race_watch_growth"] == {}
    assert shown(detector)["race_watch_time_to_fd_limit_seconds"] == {(): math.inf}
    done = len(node.records)
    for one in node.live(12, lambda hours: both(hours + 3)).records[done:]:
        detector.observe(one)
    values = shown(detector)
    assert values["race_watch_growth"][("fds", "hour")] == pytest.approx(124, rel=0.1)
    assert values["race_watch_growth"][("threads", "hour")] == pytest.approx(20, rel=0.1)
    assert 0 < values["race_watch_growth_low"][("fds", "hour")] <= 124
    left = 4096 - both(15)["open_fds"]
    assert values["race_watch_time_to_fd_limit_seconds"][()] == pytest.approx(left / 124 * HOUR_S, rel=0.15)


def test_growth_that_has_stopped_leaves_all_the_time() -> None:
    detector = followed(Node().live(12, both).live(24, lambda _: both(12)))
    values = shown(detector)
    assert values["race_watch_time_to_fd_limit_seconds"] == {(): math.inf}
    assert values["race_watch_growth_low"] == {}


def test_processes_that_are_followed_are_bounded() -> None:
    nodes = [Node(pid=pid) for pid in range(200)]
    for node in nodes:
        node.measure()
    detector = followed(*nodes)
    assert len(detector.live()) == 64
    assert detector.seen == 200
