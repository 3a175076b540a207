"""One row of the table: what is measured, how it is compared, and what it may cost."""

from __future__ import annotations

import enum
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class BenchmarkError(Exception):
    """A benchmark could not measure what it says it measures."""


class Skipped(Exception):  # noqa: N818 - not an error: what the row needs is not installed
    """The row does not apply here; the text says why."""


class Round(NamedTuple):
    """One round's pair, in the row's unit; `bare` is None where there is nothing to compare with."""

    bare: float | None
    watched: float


class Compare(enum.Enum):
    RATIO = "ratio"
    DIFFERENCE = "difference"
    ALONE = "alone"


@dataclass(frozen=True)
class Effort:
    """What to measure with: `rounds` pairs of fresh processes of that `python`, `turns` ABBA turns in each."""

    rounds: int = 7
    turns: int = 10
    python: str = sys.executable


@dataclass(frozen=True)
class Row:
    """A row. `budget` bounds the compared value, in `unit` or as a ratio; None reports only."""

    name: str
    what: str
    unit: str
    compare: Compare
    budget: float | None
    measure: Callable[[Effort], list[Round]]

    def cost(self, pair: Round) -> float:
        if self.compare is Compare.ALONE or pair.bare is None:
            return pair.watched
        return pair.watched / pair.bare if self.compare is Compare.RATIO else pair.watched - pair.bare


class Spread(NamedTuple):
    """Median and quartiles over the rounds."""

    low: float
    median: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(low, median, high)
