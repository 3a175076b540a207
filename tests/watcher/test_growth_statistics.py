"""The statistics of growth: slopes and their bounds, the sequential test, what the live cost, what growth is counted by."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from race_watch.growth.attribution import blame
from race_watch.growth.costs import Costs
from race_watch.growth.kinds import counted, kind_slopes, mix
from race_watch.growth.reading import DESCRIPTORS, HANDLES, PARTICIPANT, ROOM, SERVER_LEAVE, UNITS, Reading
from race_watch.growth.runtimes import private_runtimes
from race_watch.growth.slope import Point, median, robust_slope
from race_watch.growth.stretches import Stretches

pytestmark = pytest.mark.one_python

NO_LOAD = (0, 0, 0)
PLACE = UNITS.index(PARTICIPANT)


def reading(departed: int, value: int, *, t_s: float | None = None, participants: int = 0, rooms: int = 1) -> Reading:
    """A second after the one before, unless said otherwise."""
    counts = tuple(departed if place == PLACE else 0 for place in range(len(UNITS)))
    return Reading(departed if t_s is None else t_s, value, rooms, participants, 0, counts)


def alarms(values: list[int]) -> int:
    """How often the test alarms at these counts, one after each departure."""
    test = Stretches(HANDLES, PARTICIPANT, PLACE)
    return sum(test.add(reading(departed, value, t_s=2.0 * departed)) is not None for departed, value in enumerate(values))


# Slopes


def test_slope_of_a_line_is_exact() -> None:
    slope = robust_slope([(x, 3 * x + 7, NO_LOAD) for x in range(10)])
    assert slope is not None
    assert (slope.value, slope.rises, slope.n) == (3, True, 10)


@pytest.mark.parametrize("each", [0, 1, 3])
def test_few_departures_tell_no_fraction_however_even_they_are(each: int) -> None:
    """Ten that leave as many each: another 1 in 10 may leave one fewer or more, but nobody less than nothing."""
    slope = robust_slope([(x, each * x, NO_LOAD) for x in range(11)])
    assert slope is not None
    assert slope.low == pytest.approx(max(0, each - 0.32), abs=0.01)
    assert slope.high == pytest.approx(each + 0.32, abs=0.01)


def test_slope_does_not_follow_outliers() -> None:
    points: list[Point] = [(x, 2 * x + (500 if x % 4 == 0 else 0), NO_LOAD) for x in range(40)]
    slope = robust_slope(points)
    assert slope is not None
    assert slope.value == pytest.approx(2, abs=0.5)


def test_slope_is_taken_between_equal_loads() -> None:
    """What is live costs 50 each; what has departed leaves 1."""
    dice = random.Random("loads")
    points: list[Point] = [(x, x + 50 * live, (0, live, 0)) for x, live in enumerate(dice.choices(range(4), k=40))]
    slope = robust_slope(points)
    assert slope is not None
    assert slope.value == 1
    assert 0.85 < slope.low < slope.high < 1.15


def test_load_that_only_rises_bounds_the_slope_from_above_alone() -> None:
    """What those who came hold cannot be told from what those who left did, but it is not more than all of it."""
    slope = robust_slope([(x, 4 * x, (0, x, 0)) for x in range(40)])
    assert slope is not None
    assert slope.low == -math.inf
    assert 4 < slope.high < 4.5
    slope = robust_slope([(x, 4 * x, (0, 40 - x, 0)) for x in range(40)])
    assert slope is not None
    assert 3.5 < slope.low < 4
    assert slope.high == math.inf


def test_slope_of_points_that_do_not_differ_in_x_is_none() -> None:
    assert robust_slope([(1, 1, NO_LOAD), (1, 2, NO_LOAD)]) is None
    assert robust_slope([(1, 1, NO_LOAD)]) is None
    assert robust_slope([]) is None


def test_too_few_points_have_no_bound() -> None:
    slope = robust_slope([(x, float(x), NO_LOAD) for x in range(3)])
    assert slope is not None
    assert (slope.value, slope.low, slope.high, slope.rises) == (1, -math.inf, math.inf, False)


def test_many_points_are_thinned_and_the_ends_kept() -> None:
    slope = robust_slope([(x, 2.0 * x, NO_LOAD) for x in range(1000)])
    assert slope is not None
    assert (slope.value, slope.n) == (2, 48)


def quiet(dice: random.Random, x: int) -> tuple[float, int]:
    return 0.0, 0


def noisy(dice: random.Random, x: int) -> tuple[float, int]:
    return dice.gauss(0, 2), 0


def busy(dice: random.Random, x: int) -> tuple[float, int]:
    """Those who are live hold about three each."""
    live = dice.randint(0, 8)
    return sum(dice.choice((1, 3, 5)) for _ in range(live)), live


def filling(dice: random.Random, x: int) -> tuple[float, int]:
    """The same, and ever more of them."""
    live = x // 2 + dice.randint(0, 8)
    return sum(dice.choice((1, 3, 5)) for _ in range(live)), live


def series(
    dice: random.Random, rate: float, departures: int, held: Callable[[random.Random, int], tuple[float, int]]
) -> list[Point]:
    """A leak by chance, and what is held meanwhile."""
    left, points = 0, []
    for x in range(departures):
        left += dice.random() < rate
        count, live = held(dice, x)
        points.append((float(x), left + count, (1, live, 0)))
    return points


BOUNDED = [
    # leak, departures, what is held meanwhile, half the width at most (median)
    (1.0, 40, quiet, 0.15),
    (0.25, 10, quiet, 0.45),
    (0.25, 60, quiet, 0.2),
    (0.05, 300, quiet, 0.05),
    (0.0, 20, quiet, 0.15),
    (1.0, 40, noisy, 0.15),
    (0.25, 60, noisy, 0.25),
    (1.0, 60, busy, 0.15),
    (1.0, 60, filling, 1.2),
]


@pytest.mark.parametrize(("rate", "departures", "held", "reach"), BOUNDED)
def test_bound_holds_the_true_slope_as_often_as_it_says(
    rate: float, departures: int, held: Callable[[random.Random, int], tuple[float, int]], reach: float
) -> None:
    """In at least 93 of 100 series, and without being too wide to tell anything."""
    slopes = [robust_slope(series(random.Random(f"bound {seed}"), rate, departures, held)) for seed in range(200)]
    assert sum(slope is not None and slope.low <= rate <= slope.high for slope in slopes) >= 186
    assert median(sorted((slope.high - slope.low) / 2 for slope in slopes if slope is not None)) <= reach


def test_bound_holds_the_true_slope_at_the_alarm_too() -> None:
    """There it has been looked at after each departure, until it was steep enough."""
    held, alarmed = 0, 0
    for seed in range(100):
        dice, test, left = random.Random(f"alarm {seed}"), Stretches(HANDLES, PARTICIPANT, PLACE), 0
        for departed in range(600):
            left += dice.random() < 0.25
            alarm = test.add(reading(departed, left + dice.choice((0, 0, 0, 1, 2)), t_s=2.0 * departed))
            blamed = blame(alarm.points, PLACE) if alarm is not None else None
            if blamed is not None:
                alarmed += 1
                held += blamed.slope.low <= 0.25 <= blamed.slope.high
                break
    assert alarmed == 100
    assert held >= 92


# The test


def test_one_of_each_departure_is_found_after_ten() -> None:
    assert alarms(list(range(10))) == 0
    assert alarms(list(range(11))) == 1


def test_constant_count_is_never_growth() -> None:
    assert alarms([5] * 5000) == 0


def test_noise_without_growth_gives_no_alarm_in_ten_thousand_departures() -> None:
    dice = random.Random("noise")
    assert alarms([dice.choice((0, 0, 0, 0, 1, 2, 5)) for _ in range(10_000)]) == 0


def test_pool_that_wanders_gives_no_alarm_in_ten_thousand_departures() -> None:
    dice, level, values = random.Random("pool"), 0.0, []
    for _ in range(10_000):
        level += dice.gauss(0, 0.7) - level / 50
        values.append(round(20 + level))
    assert max(values) - min(values) > 15
    assert alarms(values) == 0


def test_garbage_that_is_collected_now_and_then_gives_no_alarm_once_it_has_been() -> None:
    assert alarms([departed % 7 for departed in range(10_000)]) == 0


def test_drift_that_is_slower_than_a_leak_gives_no_alarm() -> None:
    assert alarms([departed // 100 for departed in range(10_000)]) == 0


def test_leak_that_begins_late_is_found_as_soon() -> None:
    assert alarms([5] * 5000 + list(range(5, 30))) >= 1


def test_growth_that_falls_back_before_it_has_settled_is_no_alarm() -> None:
    """The count rises with ten departures and has fallen again when the settling time is over."""
    test = Stretches(DESCRIPTORS, ROOM, UNITS.index(ROOM))
    found = []
    for block in range(30):
        for step in range(20):
            counts = tuple(20 * block + step if unit is ROOM else 0 for unit in UNITS)
            found.append(test.add(Reading(block * 1000 + step / 10, step, 1, 0, 0, counts)))
        found.append(test.add(Reading(block * 1000 + 20, 0, 1, 0, 0, counts)))
    assert not any(found)


def test_larger_load_is_no_growth() -> None:
    test = Stretches(HANDLES, PARTICIPANT, PLACE)
    assert not any(test.add(reading(n, 3 * n, t_s=2.0 * n, participants=n)) for n in range(500))


def test_smaller_load_that_holds_as_much_is_growth() -> None:
    """Participants become fewer, the count does not."""
    test = Stretches(HANDLES, PARTICIPANT, PLACE)
    found = [test.add(reading(n, 600, t_s=2.0 * n, participants=max(0, 200 - n))) for n in range(100)]
    assert not any(found), "what a participant holds is not known, so nothing says that it was not let go of"
    test = Stretches(HANDLES, PARTICIPANT, PLACE)
    dice = random.Random("fewer")
    held = [dice.randint(0, 40) for _ in range(300)]
    clean = [test.add(reading(n, 3 * live, t_s=2.0 * n, participants=live)) for n, live in enumerate(held)]
    leaks = [
        test.add(reading(300 + n, 3 * live + n, t_s=600 + 2.0 * n, participants=live))
        for n, live in enumerate(dice.randint(0, 40) for _ in range(100))
    ]
    assert not any(clean)
    assert any(leaks)


# What the live cost


def test_cost_of_the_live_is_a_lower_bound() -> None:
    costs, dice = Costs(), random.Random("costs")
    assert (costs.room, costs.participant) == (0, 0)
    for _ in range(200):
        live, rooms = dice.choice((-2, -1, 1, 2)), dice.choice((0, 0, 1, -1))
        costs.learn(rooms, live, 30 * rooms + 4 * live + dice.choice((-1, 0, 1)))
    assert 2 <= costs.participant <= 4
    assert 20 <= costs.room <= 30.5


# What it is counted by


def grown(steps: list[tuple[int, int, int]]) -> list[Reading]:
    """Readings at (participants departed, rooms ended, value), at irregular times."""
    places = {unit: place for place, unit in enumerate(UNITS)}
    found, t_s = [], 0.0
    for index, (participants, rooms, value) in enumerate(steps):
        t_s += 1 + 17 * (index % 3)
        counts = [0] * len(UNITS)
        counts[places[PARTICIPANT]], counts[places[ROOM]] = participants, rooms
        found.append(Reading(t_s, value, 1, 0, 0, tuple(counts)))
    return found


def test_unit_that_explains_the_growth_is_blamed() -> None:
    dice, participants, steps = random.Random("blame"), 0, []
    for room in range(20):
        participants += dice.randint(1, 9)
        steps.append((participants, room, 2 * room))
    for alarmed in (PARTICIPANT, ROOM):
        blamed = blame(grown(steps), UNITS.index(alarmed))
        assert blamed is not None
        assert (blamed.unit, blamed.slope.value, blamed.others) == ("room", 2, ())


def test_units_that_explain_it_equally_are_all_told() -> None:
    blamed = blame(grown([(room, room, room) for room in range(20)]), PLACE)
    assert blamed is not None
    assert (blamed.unit, blamed.others) == ("room", ("participant",))


def test_what_does_not_grow_is_blamed_on_nothing() -> None:
    assert blame(grown([(room, room, 20 - room) for room in range(20)]), PLACE) is None


def test_mishaps_stand_before_what_they_are_part_of() -> None:
    assert UNITS.index(SERVER_LEAVE) < UNITS.index(ROOM) < UNITS.index(PARTICIPANT)


# Kinds


def test_kinds_grow_each_by_its_own_slope() -> None:
    points = [(float(x), (f"publication={2 * x}", f"track={x // 2}", "room=1", f"all={9 * x}"), NO_LOAD) for x in range(20)]
    slopes = kind_slopes(points)
    assert list(slopes) == ["publication", "track"]
    assert mix(slopes) == "publication +2, track +0.5"


def test_kind_that_comes_later_counts_from_nothing() -> None:
    points = [(float(x), ("udp=4", *((f"tcp={x}",) if x else ())), NO_LOAD) for x in range(10)]
    assert kind_slopes(points) == {"tcp": 1.0}


def test_counts_are_read_without_the_sum() -> None:
    assert counted(("all=12", "tokio=3", "webrtc=9")) == {"tokio": 3, "webrtc": 9}
    assert counted(()) == {}


RUNTIMES = [
    # descriptors, threads, tracks, private runtimes
    ({"pipe": 24, "epoll": 16}, {"webrtc": 41}, 10, 10),
    ({"pipe": 24, "epoll": 16}, {"webrtc": 41}, 0, 0),
    ({"pipe": 24, "epoll": 16}, {"webrtc": 11}, 10, 0),
    ({"pipe": 24, "epoll": 7}, {"webrtc": 41}, 10, 0),
    ({"pipe": 4, "epoll": 6}, {"webrtc": 11}, 10, 0),
    ({"pipe": 6, "epoll": 7}, {"webrtc": 14}, 10, 0),
    ({}, {}, 0, 0),
]


@pytest.mark.parametrize(("descriptors", "threads", "tracks", "expected"), RUNTIMES)
def test_private_runtimes_are_counted_where_all_agree(
    descriptors: dict[str, int], threads: dict[str, int], tracks: int, expected: int
) -> None:
    assert private_runtimes(descriptors, threads, tracks) == expected


# Anything at all


@settings(derandomize=True, database=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
        ),
        max_size=60,
    )
)
def test_slope_lies_within_its_bound(points: list[Point]) -> None:
    slope = robust_slope(sorted(points))
    if slope is not None and math.isfinite(slope.value):
        assert slope.low <= slope.value <= slope.high
