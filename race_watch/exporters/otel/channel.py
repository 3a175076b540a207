"""One signal on its way out: a bounded queue, when it is due, and what becomes of it. The clock is handed in."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from race_watch.exporters.otel.requests import rejected
from race_watch.exporters.otel.sending import DELIVERED, LATER, Sender
from race_watch.exporters.otel.target import Target

# What waits at a time, and goes out in one body. Beyond it the oldest is dropped: what happens now matters more.
QUEUE_MAX = 2048
BATCH_MAX = 512
# Waiting after failures doubles between these, and is spread so that a fleet does not come back all at once.
_BACKOFF_MIN_S, _BACKOFF_MAX_S = 1.0, 60.0


class Channel:
    """`put` is for any thread, the rest for the one that sends.

    Args:
        target: Where to, and how long the first item may wait for more.
        encode: Makes a body of items.
        report: Told of every attempt: whether it was delivered, and the reason if not.
        lose: Told of items that are given up, and why: a word of OTLP_LOSSES.
        queue_max: 1 for a signal of which only the latest counts.

    Attributes:
        due_s: When the next attempt is due; None while there is nothing to send.
        answered_s: How long the last good answer took; 0 before there was one.
        failing: Whether the last attempt failed.
    """

    def __init__(
        self,
        target: Target,
        sender: Sender,
        encode: Callable[[Sequence[Any]], bytes],
        report: Callable[[Target, bool, str], None],
        lose: Callable[[str, int], None],
        queue_max: int = QUEUE_MAX,
    ) -> None:
        self.target = target
        self.due_s: float | None = None
        self.answered_s = 0.0
        self.failing = False
        self._sender = sender
        self._encode = encode
        self._report = report
        self._tell_lost = lose
        self._queue: deque[Any] = deque()
        self._queue_max = queue_max
        self._lock = threading.Lock()
        self._sending = 0
        self._backoff_s = 0.0

    def __len__(self) -> int:
        """Items that are not delivered yet, those that are being sent included."""
        return len(self._queue) + self._sending

    def put(self, item: Any, now_s: float) -> bool:
        """Queues an item; returns whether the sending thread should look again: something became due, or due sooner."""
        with self._lock:
            if len(self._queue) >= self._queue_max:
                self._queue.popleft()
                self._lose("overflow", 1)
            self._queue.append(item)
            full = len(self._queue) == BATCH_MAX and not self._backoff_s
            if self.due_s is None or full:
                self.due_s = now_s if full or self._queue_max == 1 else now_s + self.target.every_s
                return True
            return False

    def attempt(self, timeout_s: float, clock: Callable[[], float]) -> bool:
        """Sends one batch; returns whether the endpoint took it, or there was none."""
        with self._lock:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_MAX))]
            self._sending = len(batch)
            if not batch:
                self.due_s = None
                return True
        started_s = clock()
        answer = self._sender.send(self._encode(batch), timeout_s)
        now_s = clock()
        delivered = answer.fate == DELIVERED
        with self._lock:
            self._sending = 0
            self.failing = not delivered
            if delivered:
                self.answered_s = now_s - started_s
                self._backoff_s = 0.0
                self._lose("refused", rejected(self.target.signal, answer.body))
            else:
                self._backoff_s = min(max(self._backoff_s * 2, _BACKOFF_MIN_S), _BACKOFF_MAX_S)
                if answer.fate == LATER:
                    self._lose("overflow", self._put_back(batch))
                else:
                    self._lose("refused", len(batch))
            self.due_s = self._next_s(now_s, answer.retry_after_s)
        self._report(self.target, delivered, answer.reason)
        return delivered

    def close(self) -> None:
        self._sender.close()

    def _put_back(self, batch: list[Any]) -> int:
        """Takes back what there is room for, the newest; returns how many there was none for."""
        room = self._queue_max - len(self._queue)
        over = max(len(batch) - room, 0)
        self._queue.extendleft(reversed(batch[over:]))
        return over

    def _lose(self, why: str, count: int) -> None:
        # Where only the latest counts nothing is lost: the next one says it all.
        if count and self._queue_max > 1:
            self._tell_lost(why, count)

    def _next_s(self, now_s: float, retry_after_s: float) -> float | None:
        if not self._queue:
            return None
        if self._backoff_s:
            return now_s + max(retry_after_s, self._backoff_s * random.uniform(0.5, 1.0))
        return now_s
