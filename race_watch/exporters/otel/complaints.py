"""Lines about an endpoint that does not answer: one when it begins, one when it is over, and few in between."""

from __future__ import annotations

from collections.abc import Callable

from race_watch.exporters.otel.target import Target

# At most six lines in ten minutes, however many signals and endpoints fail and recover.
QUIET_S = 120.0


class Complaints:
    """Says what has changed since it last spoke, if that was long enough ago."""

    def __init__(self, warn: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._warn = warn
        self._clock = clock
        self._spoke_s = float("-inf")
        # Signal -> what is wrong with it.
        self._failing: dict[str, str] = {}
        self._lost = 0
        self._said_failing = False
        self._said_lost = 0

    def lose(self, count: int) -> None:
        """Takes note of spans and log records that were given up; the next attempt says it."""
        self._lost += count

    def report(self, target: Target, delivered: bool, reason: str) -> None:
        """Takes note of one attempt."""
        if delivered:
            self._failing.pop(target.signal, None)
        else:
            self._failing[target.signal] = f"{target.signal} to {target.shown}: {reason}"
        changed = bool(self._failing) or self._said_failing or self._lost != self._said_lost
        if changed and self._clock() - self._spoke_s >= QUIET_S:
            self._speak()

    def undelivered(self, count: int) -> None:
        """The last line: what was still waiting at the end."""
        if count:
            failing = f" ({next(iter(self._failing.values()))})" if self._failing else ""
            self._warn(f"OTLP: {count} spans and log records were not delivered{failing}")

    def _speak(self) -> None:
        self._spoke_s = self._clock()
        losses = f"; {self._lost} spans and log records lost so far" if self._lost else ""
        if self._failing:
            self._warn(f"OTLP export fails, and is tried again: {'; '.join(self._failing.values())}{losses}")
        else:
            self._warn(f"OTLP export works again{losses}" if self._said_failing else f"OTLP export was short of room{losses}")
        self._said_failing, self._said_lost = bool(self._failing), self._lost
