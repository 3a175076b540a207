"""How soon any test could alarm at the same rate of false alarms."""

from __future__ import annotations

import math


def least_departures(leak: float, chance: float, per_false_alarm: float) -> float:
    """Departures until alarm, on average and at least, of a sequential test that gives one false alarm in `per_false_alarm`.

    Lorden's bound (1971), log(A) / KL, for an observer who sees exactly what each departure leaves behind: something with
    probability `leak` where there is a leak, with probability `chance` (a step of a pool or cache) where there is none. Late
    releases, garbage, pools and live participants are noise on top of that, which only makes it later.
    """
    divergence = _term(leak, chance) + _term(1 - leak, 1 - chance)
    return max(1.0, math.log(per_false_alarm) / divergence)


def _term(p: float, q: float) -> float:
    return p * math.log(p / q) if p > 0 else 0.0


def at_most(events: int, confidence: float = 0.95) -> float:
    """The upper bound of a Poisson mean of which so many events were seen."""
    low, high = 0.0, 10.0 + 3 * events
    for _ in range(60):
        middle = (low + high) / 2
        seen = sum(math.exp(-middle) * middle**k / math.factorial(k) for k in range(events + 1))
        low, high = (middle, high) if seen > 1 - confidence else (low, middle)
    return high
