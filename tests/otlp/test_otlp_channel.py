"""A signal's queue, its waiting after failures, and what is said of it: by a clock that the tests move."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from otlp_facts import Told, target
from otlp_receiver import RESPONSES

from race_watch.exporters.otel import channel as module
from race_watch.exporters.otel.channel import BATCH_MAX, QUEUE_MAX, Channel
from race_watch.exporters.otel.complaints import QUIET_S, Complaints
from race_watch.exporters.otel.exporter import allowance_s
from race_watch.exporters.otel.sampling import BURST, PER_SECOND, Admission
from race_watch.exporters.otel.sending import DELIVERED, LATER, REFUSED, Answer

AWAY = Answer(LATER, "Connection refused")


@dataclass
class Rig:
    """A channel of numbers, each a byte, with a clock and notes of what it said."""

    sender: Told
    queue_max: int = QUEUE_MAX
    now_s: float = 100.0
    reports: list[tuple[bool, str]] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.channel = Channel(
            target(every_s=5.0),
            self.sender,
            lambda items: bytes(item % 256 for item in items),
            lambda _, delivered, reason: self.reports.append((delivered, reason)),
            lambda why, count: self.lost.update({why: count}),
            self.queue_max,
        )

    def put(self, *items: int) -> list[bool]:
        return [self.channel.put(item, self.now_s) for item in items]

    def attempt(self) -> bool:
        return self.channel.attempt(10.0, lambda: self.now_s)


@pytest.fixture(autouse=True)
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.random, "uniform", lambda low, high: high)


def test_first_item_waits_for_more_and_the_rest_goes_with_it() -> None:
    rig = Rig(Told())
    assert rig.put(1, 2, 3) == [True, False, False]
    assert rig.channel.due_s == 105.0
    assert rig.attempt()
    assert rig.sender.bodies == [b"\x01\x02\x03"]
    assert (rig.channel.due_s, len(rig.channel), rig.reports) == (None, 0, [(True, "")])


def test_full_batch_is_due_at_once_and_the_rest_follows() -> None:
    rig = Rig(Told())
    woken = rig.put(*range(BATCH_MAX + 1))
    assert (woken[0], woken[BATCH_MAX - 1], sum(woken)) == (True, True, 2)
    assert rig.channel.due_s == rig.now_s
    rig.attempt()
    assert rig.channel.due_s == rig.now_s
    rig.attempt()
    assert [len(body) for body in rig.sender.bodies] == [BATCH_MAX, 1]


def test_batch_that_failed_is_sent_again_later_in_its_order() -> None:
    rig = Rig(Told(AWAY, Answer(DELIVERED)))
    rig.put(1, 2)
    assert not rig.attempt()
    assert (len(rig.channel), rig.channel.failing) == (2, True)
    rig.put(3)
    assert rig.attempt()
    assert rig.sender.bodies == [b"\x01\x02", b"\x01\x02\x03"]
    assert not rig.channel.failing
    assert rig.reports == [(False, "Connection refused"), (True, "")]
    assert rig.lost == {}


def test_waiting_doubles_up_to_a_minute_and_a_success_ends_it() -> None:
    rig = Rig(Told(*[AWAY] * 9, Answer(DELIVERED), AWAY))
    rig.put(1)
    waits = []
    for _ in range(9):
        rig.attempt()
        waits.append((rig.channel.due_s or 0) - rig.now_s)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    rig.attempt()
    rig.put(2)
    rig.attempt()
    assert rig.channel.due_s == rig.now_s + 1


def test_waiting_is_as_long_as_the_endpoint_asks() -> None:
    rig = Rig(Told(Answer(LATER, "the answer is HTTP 429", retry_after_s=30.0)))
    rig.put(1)
    rig.attempt()
    assert rig.channel.due_s == rig.now_s + 30


def test_full_queue_does_not_hurry_an_endpoint_that_is_away() -> None:
    rig = Rig(Told(AWAY))
    rig.put(1)
    rig.attempt()
    assert not any(rig.put(*range(BATCH_MAX)))
    assert rig.channel.due_s == rig.now_s + 1


def test_oldest_items_are_dropped_and_counted_when_there_is_no_room() -> None:
    rig = Rig(Told(AWAY, Answer(DELIVERED)), queue_max=4)
    rig.put(0, 1, 2, 3, 4)
    assert rig.lost == {"overflow": 1}
    rig.attempt()
    rig.put(5, 6)
    assert rig.lost == {"overflow": 3}
    rig.attempt()
    assert rig.sender.bodies == [b"\x01\x02\x03\x04", b"\x03\x04\x05\x06"]


def test_batch_that_comes_back_leaves_what_has_come_meanwhile_its_place() -> None:
    rig = Rig(Told(AWAY, Answer(DELIVERED), tick=lambda _: rig.put(7, 8, 9)), queue_max=4)
    rig.put(1, 2)
    rig.attempt()
    assert (len(rig.channel), rig.lost) == (4, {"overflow": 1})
    rig.attempt()
    assert rig.sender.bodies == [b"\x01\x02", b"\x02\x07\x08\x09"]


def test_batch_that_is_refused_is_lost_and_counted() -> None:
    rig = Rig(Told(Answer(REFUSED, "the answer is HTTP 400")))
    rig.put(1, 2)
    assert not rig.attempt()
    assert (len(rig.channel), rig.channel.due_s, rig.lost) == (0, None, {"refused": 2})


def test_items_that_are_rejected_out_of_a_batch_are_counted() -> None:
    answer = RESPONSES["traces"]()
    answer.partial_success.rejected_spans = 2
    rig = Rig(Told(Answer(DELIVERED, body=answer.SerializeToString())))
    rig.put(1, 2, 3)
    assert rig.attempt()
    assert rig.lost == {"refused": 2}


def test_signal_of_which_the_latest_counts_is_due_at_once_and_loses_nothing() -> None:
    rig = Rig(Told(AWAY), queue_max=1)
    assert rig.put(1) == [True]
    assert rig.channel.due_s == rig.now_s
    rig.put(2)
    rig.attempt()
    rig.put(3)
    rig.attempt()
    assert rig.sender.bodies == [b"\x02", b"\x03"]
    assert rig.lost == {}


def answered(took_s: float, *answers: Answer) -> Channel:
    def tick(by_s: float) -> None:
        rig.now_s += by_s

    rig = Rig(Told(*answers, took_s=took_s, tick=tick))
    rig.put(1)
    rig.attempt()
    return rig.channel


@pytest.mark.parametrize(
    ("channels", "allowed_s"),
    [
        pytest.param([Rig(Told()).channel], 0.1, id="never tried"),
        pytest.param([answered(0.003)], 0.1, id="near"),
        pytest.param([answered(0.1), answered(0.05), Rig(Told()).channel], 0.4, id="far"),
        pytest.param([answered(3.0)], 1.0, id="slow"),
        pytest.param([answered(3.0), answered(0.1, AWAY)], 0.1, id="one is away"),
        pytest.param([answered(10.0, AWAY)], 0.1, id="silent"),
    ],
)
def test_end_may_take_100_ms_or_four_answers_of_endpoints_that_do_answer(channels: list[Channel], allowed_s: float) -> None:
    assert allowance_s(channels) == pytest.approx(allowed_s)


@dataclass
class Talk:
    """Complaints, a clock, and the lines."""

    now_s: float = 0.0
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.complaints = Complaints(self.lines.append, lambda: self.now_s)

    def fails(self, signal: str = "traces", reason: str = "Connection refused") -> None:
        self.complaints.report(target(signal), False, reason)

    def works(self, signal: str = "traces") -> None:
        self.complaints.report(target(signal), True, "")


def test_endpoint_that_works_is_no_news() -> None:
    talk = Talk()
    for _ in range(5):
        talk.works()
        talk.now_s += 1000
    assert talk.lines == []


def test_failure_is_said_at_once_and_its_end_when_it_is_time() -> None:
    talk = Talk()
    talk.fails()
    assert talk.lines == ["OTLP export fails, and is tried again: traces to http://127.0.0.1:4318: Connection refused"]
    talk.now_s += QUIET_S
    talk.works()
    assert talk.lines[1:] == ["OTLP export works again"]
    talk.now_s += QUIET_S
    talk.works()
    assert len(talk.lines) == 2


def test_losses_are_said_with_the_next_line() -> None:
    talk = Talk()
    talk.complaints.lose(3)
    talk.fails()
    talk.complaints.lose(4)
    talk.now_s += QUIET_S
    talk.works()
    assert [line.rpartition("; ")[2] for line in talk.lines] == [
        "3 spans and log records lost so far",
        "7 spans and log records lost so far",
    ]


@pytest.mark.parametrize("flapping", [False, True], ids=["away", "flapping"])
def test_ten_minutes_of_failures_are_at_most_ten_lines(flapping: bool) -> None:
    talk = Talk()
    for second in range(600):
        talk.now_s = float(second)
        for signal in ("traces", "metrics", "logs"):
            if flapping and second % 2:
                talk.works(signal)
            else:
                talk.fails(signal, f"reason {second}")
        talk.complaints.lose(1)
    talk.complaints.undelivered(5)
    assert 2 <= len(talk.lines) <= 10
    assert talk.lines[-1].startswith("OTLP: 5 spans and log records were not delivered")


def test_sampler_leaves_its_share_of_sessions_by_their_trace_ids() -> None:
    admission = Admission(0.25, lambda: None)
    taken = [f"{number * 2**56:032x}" for number in range(256) if admission.admit(f"{number * 2**56:032x}", number * 10.0)]
    assert len(taken) == 64
    assert all(Admission(0.25, lambda: None).admit(trace_id, 0.0) for trace_id in taken)
    assert not Admission(0.0, lambda: None).admit("0" * 32, 0.0)
    assert Admission(1.0, lambda: None).admit("f" * 32, 0.0)


def test_sessions_beyond_the_rate_are_refused_and_counted() -> None:
    refused: list[int] = []
    admission = Admission(1.0, lambda: refused.append(1))
    at_once = [admission.admit("0" * 32, 0.0) for _ in range(int(BURST) + 50)]
    assert (sum(at_once), len(refused)) == (BURST, 50)
    later = [admission.admit("0" * 32, 2.0) for _ in range(100)]
    assert sum(later) == 2 * PER_SECOND
    assert not admission.admit("0" * 32, 1.0), "records of another process may be older"
