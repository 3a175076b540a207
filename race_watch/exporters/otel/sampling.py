"""Which room sessions get spans. Incidents always do: the watcher bounds their records itself."""

from __future__ import annotations

from collections.abc import Callable

from race_watch.exporters.otel.variables import Variables

# Sessions that begin in a second and get spans, in the long run and at once after a quiet time.
PER_SECOND, BURST = 10.0, 100.0
_SAMPLERS = ("always_on", "always_off", "traceidratio")
_BITS = 64


class Admission:
    """The application's sampler, then a rate limit. By the time of the records, so that a replay admits the same sessions.

    Args:
        refused: Called for each session that the limit refuses.
    """

    def __init__(self, share: float, refused: Callable[[], None]) -> None:
        self._bound = round(share * 2**_BITS)
        self._refused = refused
        self._tokens, self._at_s = BURST, float("-inf")

    def admit(self, trace_id: str, t_s: float) -> bool:
        if int(trace_id[-_BITS // 4 :], 16) >= self._bound:
            return False
        if t_s > self._at_s:
            self._tokens = min(self._tokens + (t_s - self._at_s) * PER_SECOND, BURST)
            self._at_s = t_s
        if self._tokens < 1:
            self._refused()
            return False
        self._tokens -= 1
        return True


def share(variables: Variables) -> float:
    """The share of sessions that `OTEL_TRACES_SAMPLER` leaves; a session begins a trace, so it has no parent to follow."""
    name = variables.text("OTEL_TRACES_SAMPLER").lower().removeprefix("parentbased_") or "always_on"
    if name not in _SAMPLERS:
        variables.problems.append(f"OTEL_TRACES_SAMPLER is none of {', '.join(_SAMPLERS)}; room sessions are all traced")
        return 1.0
    if name != "traceidratio":
        return float(name == "always_on")
    try:
        given = float(variables.text("OTEL_TRACES_SAMPLER_ARG") or 1.0)
    except ValueError:
        given = -1.0
    if 0 <= given <= 1:
        return given
    variables.problems.append("OTEL_TRACES_SAMPLER_ARG is not between 0 and 1; room sessions are all traced")
    return 1.0
