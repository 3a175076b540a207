"""What a live room and a live participant hold at least, learned from the steps between readings."""

from __future__ import annotations

import math
from collections import deque

_KEPT = 96
_WANTED = 8
_RENEWED_AFTER = 8


class Costs:
    """A lower bound, so that what the live hold is never taken for a leak: the lower quartile, or the mean less its error."""

    def __init__(self) -> None:
        self.room = 0.0
        self.participant = 0.0
        self._steps: deque[tuple[int, int, int]] = deque(maxlen=_KEPT)
        self._due = _WANTED

    def learn(self, rooms: int, participants: int, value: int) -> None:
        """Takes the differences between two readings that follow each other."""
        if not rooms and not participants:
            return
        self._steps.append((rooms, participants, value))
        self._due -= 1
        if self._due <= 0:
            self._due = _RENEWED_AFTER
            self.participant = _least([value / live for rooms, live, value in self._steps if not rooms and live])
            self.room = _least([(value - self.participant * live) / rooms for rooms, live, value in self._steps if rooms])


def _least(costs: list[float]) -> float:
    n = len(costs)
    if n < _WANTED:
        return 0.0
    costs.sort()
    # Without the outermost tenths: a burst between two readings is no cost of who came meanwhile.
    middle = costs[n // 10 : n - n // 10]
    mean = sum(middle) / len(middle)
    error = math.sqrt(sum((cost - mean) ** 2 for cost in middle)) / len(middle)
    return max(0.0, min(costs[n // 4], mean - error))
