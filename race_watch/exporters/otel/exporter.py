"""The OTLP exporter: one daemon thread sends what the watcher's thread has queued, and the metrics of the moment.

What it may cost when the watcher ends is bounded and does not depend on the endpoint: see `stop`.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from race_watch.clock import WALL_NS, monotonic_s
from race_watch.exporters.otel import incident as incident_records
from race_watch.exporters.otel.channel import Channel
from race_watch.exporters.otel.complaints import Complaints
from race_watch.exporters.otel.requests import Requests
from race_watch.exporters.otel.sending import Sender
from race_watch.exporters.otel.target import GRPC, LOGS, METRICS, TRACES, Target
from race_watch.guard import Guard
from race_watch.incidents import Incident
from race_watch.spans import Span
from race_watch.totals import Totals

# What the end may take: for an endpoint that has not been answering, and at most for one that has, by its own answers.
_STOP_S, _STOP_MAX_S = 0.1, 1.0
_ANSWERS = 4
_AT_ONCE_S = float("-inf")
_IDLE_S = 3600.0


class Exporter:
    """Exports what is put in. `start()` makes its thread, `stop()` ends it.

    Args:
        targets: The signals to export, at most one of each.
        resource: Attributes of the worker.
        totals: Where the metrics are read and the exports counted.
        warn: Called with a line for what goes wrong, rarely.
        sender: Makes the sender of a target.

    Attributes:
        cpu_s: CPU time of its thread.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        resource: dict[str, str],
        totals: Totals,
        warn: Callable[[str], None],
        sender: Callable[[Target], Sender] | None = None,
    ) -> None:
        self._totals = totals
        self._warn = warn
        self._complaints = Complaints(warn, monotonic_s)
        self._requests = Requests(resource, WALL_NS())
        make = sender or sender_of
        encode: dict[str, Callable[[Sequence[Any]], bytes]] = {
            TRACES: self._requests.traces,
            LOGS: self._requests.logs,
            METRICS: self._metrics,
        }
        self._channels = {
            target.signal: Channel(
                target,
                make(target),
                encode[target.signal],
                self._report,
                self.lose,
                **({"queue_max": 1} if target.signal == METRICS else {}),
            )
            for target in targets
        }
        self._look = threading.Event()
        self._stop_until_s: float | None = None
        self._measure_s = _AT_ONCE_S
        self.cpu_s = 0.0
        self._thread = threading.Thread(target=self._run, name="race_watch-otlp", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def span(self, span: Span) -> None:
        """Queues a span. Called by the watcher's thread, as `incident` is."""
        self._put(TRACES, span)

    def incident(self, incident: Incident) -> None:
        """Queues an incident that was confirmed, as a span and as a log record."""
        if TRACES in self._channels:
            self._put(TRACES, incident_records.span(incident))
        self._put(LOGS, incident_records.log(incident))

    def lose(self, why: str, count: int = 1) -> None:
        """Counts spans and log records that do not go out; `why` is a word of OTLP_LOSSES. Any thread may."""
        self._totals.not_exported(why, count)
        if why != "rate":
            self._complaints.lose(count)

    def stop(self) -> None:
        """Sends what is left. Takes 100 ms at most, or four of its usual answer times where the endpoint has been answering."""
        allowed_s = allowance_s(self._channels.values())
        self._stop_until_s = monotonic_s() + allowed_s
        self._look.set()
        if self._thread.ident is not None:
            self._thread.join(allowed_s)
        self._complaints.undelivered(sum(len(self._channels[name]) for name in (LOGS, TRACES) if name in self._channels))

    def _put(self, signal: str, item: object) -> None:
        channel = self._channels.get(signal)
        if channel is not None and channel.put(item, monotonic_s()):
            self._look.set()

    def _run(self) -> None:
        guard = Guard(
            "otlp", lambda _, error, off: self._warn(f"OTLP export failed: {error}" + (" and gave up" if off else ""))
        )
        turn = guard.wrap(self._turn)
        while self._stop_until_s is None and not guard.off:
            turn()
            self.cpu_s = time.thread_time()
            self._look.wait(max(self._next_s() - monotonic_s(), 0.0))
            self._look.clear()
        guard.wrap(self._flush)()
        for channel in self._channels.values():
            guard.wrap(channel.close)()

    def _turn(self) -> None:
        self._measure()
        for channel in self._channels.values():
            due_s = channel.due_s
            if due_s is not None and due_s <= monotonic_s() and self._stop_until_s is None:
                channel.attempt(channel.target.timeout_s, monotonic_s)

    def _measure(self) -> None:
        """Has the metrics sent when it is time: at once, then at a place in the interval that is this worker's own."""
        channel = self._channels.get(METRICS)
        now_s = monotonic_s()
        if channel is None or now_s < self._measure_s:
            return
        channel.put(None, now_s)
        share = random.uniform(0.2, 1.0) if self._measure_s == _AT_ONCE_S else 1.0
        self._measure_s = now_s + share * channel.target.every_s

    def _next_s(self) -> float:
        times_s = [channel.due_s for channel in self._channels.values() if channel.due_s is not None]
        if METRICS in self._channels:
            times_s.append(self._measure_s)
        return min(times_s, default=monotonic_s() + _IDLE_S)

    def _flush(self) -> None:
        """Incidents first; the final numbers last."""
        until_s = self._stop_until_s or 0.0
        if METRICS in self._channels:
            self._channels[METRICS].put(None, monotonic_s())
        for signal in (LOGS, TRACES, METRICS):
            channel = self._channels.get(signal)
            while channel is not None and len(channel):
                left_s = until_s - monotonic_s()
                if left_s <= 0 or not channel.attempt(min(left_s, channel.target.timeout_s), monotonic_s):
                    break

    def _metrics(self, _: Sequence[None]) -> bytes:
        return self._requests.metrics(self._totals.snapshot, self._totals.traces, WALL_NS())

    def _report(self, target: Target, delivered: bool, reason: str) -> None:
        self._totals.exported("otlp", "ok" if delivered else "failed")
        self._complaints.report(target, delivered, reason)


def allowance_s(channels: Collection[Channel]) -> float:
    """What the end may take, by how the endpoints have been answering; one that has not gets no more for the others' sake."""
    if any(channel.failing for channel in channels):
        return _STOP_S
    return min(max(_STOP_S, *(_ANSWERS * channel.answered_s for channel in channels)), _STOP_MAX_S)


def sender_of(target: Target) -> Sender:
    """The sender of the target's protocol.

    Raises:
        ImportError: grpcio is wanted and not there.
    """
    if target.protocol == GRPC:
        from race_watch.exporters.otel.grpc import GrpcSender

        return GrpcSender(target)
    from race_watch.exporters.otel.http import HttpSender

    return HttpSender(target)
