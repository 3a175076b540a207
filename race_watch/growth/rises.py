"""The sequential test: settled counts, one of each stretch of departures, that keep rising above all that were comparable.

A clean process returns to what it held before at the same load. So of a stretch's lowest count and those of m comparable
stretches before it, each is the highest equally often: this one with probability 1/(m+1), by exchangeability alone, whatever
the noise. Betting on "the highest again" against these odds makes an e-process: its product is at least A with probability
at most 1/A from any start, so the CUSUM of it gives a false alarm not oftener than once in A stretches on average (Ville's
inequality; Shin, Ramdas and Rinaldo, "E-detectors", 2023). What a real process does beyond exchangeable noise is bounded:

- a step (a pool that grows once, a plateau after a burst) is one rise, and one rise is worth at most `doubt` to one;
- a drift slower than `SLACK` a unit is taken off;
- noise that wanders also falls, and rises while nothing departs: the odds are never better than the rate of these, and where
  short stretches show such noise one rise is worth little at any scale;
- a rise at least half as large as the last one is worth more: by chance one of size g comes with 1/g of the rises only.

Comparable is what was read at no smaller a load: more live rooms and participants never hold less.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from race_watch.growth.costs import Costs
from race_watch.growth.reading import Reading

# Growth for each unit that is nobody's leak, as caches and slow wander have it: below the smallest leak worth an alarm (1/20).
SLACK = 0.02
# Stretches that a new one is compared with: the nearest in load of these, and all that are as near.
WINDOW = 64
_NEAREST = 8
# A live room is as far as so many participants.
_ROOM_DISTANCE = 8
# Stretches without a departure that are kept to compare with, while there are few.
_BASELINE = 16
# What one rise may say at most, a large one that repeats the last one's size.
_MOST = 64.0
# Share of the stretches that move by noise from which on a count is noisy, and what one rise of it may say.
_NOISY = 0.03
_DOUBT_IF_NOISY = 3.0


class Rises:
    """The test at one scale: stretches of one length.

    Attributes:
        log_e: Natural logarithm of the evidence for growth since `onset`.
        onset: The last reading before the growth; None before there is one.
        bets: Stretches that were judged since then.
    """

    def __init__(self, doubt: float, unit: int) -> None:
        self.window: deque[Reading] = deque(maxlen=WINDOW)
        self.log_e = 0.0
        self.onset: Reading | None = None
        self.bets = 0
        self._doubt = doubt
        self._unit = unit
        self._hits = 0
        self._gap = 0.0
        self._was_hit = False
        self._costs = Costs()
        self._noise = _Noise()

    @property
    def noisy(self) -> bool:
        """Whether the count moves by itself."""
        return self._noise.rate(after_rise=False) > _NOISY and self._noise.moves >= 1

    def add(self, reading: Reading, *, departed: bool, noisy: bool) -> None:
        """Takes the settled reading of the next stretch.

        Args:
            departed: The stretch began with a departure.
            noisy: The count is known to move by itself.
        """
        # What has departed before may first show now, at a load that has not been read since: only the same is told from noise.
        count = reading.counts[self._unit]
        others = self.window if departed else [other for other in self.window if other.counts[self._unit] == count]
        above, below = self._margins(reading, others)
        gap = reading.value + min(above, default=math.inf)
        if departed and above:
            self._bet(reading, gap, len(above), min(self._doubt, _DOUBT_IF_NOISY) if noisy else self._doubt)
        if above or below:
            self._noise.note(max(below, default=0.0) > reading.value or (bool(above) and gap > 0 and not departed))
        if self.window:
            last = self.window[-1]
            self._costs.learn(reading.rooms - last.rooms, reading.participants - last.participants, reading.value - last.value)
        if departed or len(self.window) < _BASELINE:
            self.window.append(reading)
        if self.onset is None:
            self.onset = reading

    def reset(self, at: Reading) -> None:
        """What was seen until now was no growth."""
        self.log_e, self._hits, self.bets, self.onset = 0.0, 0, 0, at

    def before(self) -> list[Reading]:
        """The readings up to the onset."""
        if self.onset is None:
            return []
        kept = [reading for reading in self.window if reading.t_s <= self.onset.t_s]
        return kept or [self.onset]

    def since(self) -> list[Reading]:
        """The readings from the onset on."""
        since = self.onset.t_s if self.onset is not None else math.inf
        return [reading for reading in self.window if reading.t_s >= since]

    def excess(self, reading: Reading, over: Iterable[Reading]) -> float | None:
        """How far a reading is above the comparable ones among `over`; None if none is."""
        above, _ = self._margins(reading, over)
        return reading.value + min(above) if above else None

    def _margins(self, reading: Reading, others: Iterable[Reading]) -> tuple[list[float], list[float]]:
        """What a clean process would hold at this reading by the nearest of the others.

        Returns:
            From those at no smaller a load, at most that, negative; from those at no larger a load, at least that.
        """
        _, _, rooms, participants, recent, counts, _, _ = reading
        unit, room, participant = self._unit, self._costs.room, self._costs.participant
        count = counts[unit]
        larger: list[tuple[int, float]] = []
        smaller: list[tuple[int, float]] = []
        for _, value, more, others_live, lately, then, _, _ in others:
            more -= rooms
            others_live -= participants
            lately -= recent
            if more >= 0 and others_live >= 0 and lately >= 0:
                most = value - room * more - participant * others_live + SLACK * (count - then[unit])
                larger.append((_ROOM_DISTANCE * more + others_live + lately, -most))
            if more <= 0 and others_live <= 0 and lately <= 0:
                smaller.append((-_ROOM_DISTANCE * more - others_live - lately, value))
        return _nearest(larger), [min(_nearest(smaller))] if smaller else []

    def _bet(self, reading: Reading, gap: float, comparable: int, doubt: float) -> None:
        hit = gap > 0
        chance = max(1 / (comparable + 1), 1 / doubt, self._noise.rate(after_rise=self._was_hit))
        expected = (self._hits + 1.9) / (self.bets + 2)
        if expected > chance:
            factor = expected / chance * self._size(gap) if hit else (1 - expected) / (1 - chance)
            self.log_e += math.log(min(factor, _MOST))
            self.bets += 1
            self._hits += hit
        self._was_hit = hit
        if hit:
            self._gap = gap
        if self.log_e <= 0:
            self.reset(reading)

    def _size(self, gap: float) -> float:
        """What a rise is worth for its size: half a bet on that it is like the last one."""
        if self._gap <= 2 or not self._hits:
            return 1.0
        return 0.5 + (0.25 * self._gap if gap >= self._gap / 2 else 0.0)


def _nearest(found: list[tuple[int, float]]) -> list[float]:
    if len(found) > _NEAREST:
        found.sort()
        limit = found[_NEAREST - 1][0]
        return [margin for distance, margin in found if distance <= limit]
    return [margin for _, margin in found]


class _Noise:
    """How often the readings move as no leak moves them; after such a move apart, for wandering noise goes on."""

    _KNOWN = 3

    def __init__(self) -> None:
        self._all = self.moves = self._after = self._again = 0.0
        self._was = False

    def note(self, moved: bool) -> None:
        forget = 1 - 1 / (4 * WINDOW)
        self._all = self._all * forget + 1
        self.moves = self.moves * forget + moved
        if self._was:
            self._after = self._after * forget + 1
            self._again = self._again * forget + moved
        self._was = moved

    def rate(self, *, after_rise: bool) -> float:
        if after_rise and self.moves >= self._KNOWN:
            return (self._again + 0.5) / (self._after + 1)
        return (self.moves + 0.5) / (self._all + 1)
