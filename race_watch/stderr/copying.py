"""The relay process's work: copies the worker's stderr on, and states what it tells of. Waits in poll alone."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable

from race_watch.clock import monotonic_s
from race_watch.events import StderrTold
from race_watch.guard import Guard
from race_watch.stderr.lines import State, StderrLines
from race_watch.stderr.pipe import Mover

# To the supervisor: it works. From it: the worker has ended. And back: all of it is delivered.
READY = b"r"
ENDED = b"e"
DELIVERED = b"d"

# How long is waited for the rest of a text.
_SETTLES_S = 0.1
# Between looks at a reader that does not read; it doubles.
_PATIENCE_MS = 1
_PATIENCE_MOST_MS = 64


class Copying:
    """Ends when the last writer has closed its end, or the reader has.

    Args:
        source: Where the worker writes.
        target: The stderr that we were given.
        control: The supervisor's socket.
        state: States a fact. None: nothing is looked for.
        close: Called when nothing will be stated any more.
    """

    def __init__(self, source: int, target: int, control: int, state: State | None, close: Callable[[], None]) -> None:
        self._source = source
        self._target = target
        self._control = control
        self._state = state
        self._close = close
        self._mover = Mover(source, target)
        self._lines = StderrLines()
        # A defect of ours in there must not end the copying.
        self._guarded = Guard("stderr", lambda _, error, off: None).wrap
        self._new_s = 0.0
        self._worker_ended = False
        self._answered = False
        self._no_writers = False
        self._target_full = False
        self._patience_ms = _PATIENCE_MS
        self._poll = select.poll()
        self._poll.register(target, 0)  # that its reader is gone is told in any case
        self._poll.register(source, select.POLLIN)
        self._poll.register(control, select.POLLIN)

    def run(self) -> None:
        wait_ms: int | None = 0
        while True:
            ready = dict(self._poll.poll(wait_ms))
            if ready.get(self._source, 0) & select.POLLHUP:
                self._no_writers = True
                self._poll.unregister(self._source)
            if self._control in ready:
                self._hear()
            self._look()
            if ready.get(self._target, 0) & select.POLLERR or not self._deliver():
                break
            if (self._no_writers or self._worker_ended) and not self._mover.there():
                if self._no_writers:
                    break
                self._answer()
            wait_ms = self._wait_ms()
        self._stop_looking()

    def _hear(self) -> None:
        try:
            word = os.read(self._control, 16)
        except OSError:
            word = b""
        if not word:  # The supervisor is gone. What is stated now is for `race-watch report`.
            self._poll.unregister(self._control)
        self._worker_ended = self._worker_ended or ENDED in word

    def _look(self) -> None:
        if self._state is None:
            self._mover.look_away()
            return
        new = self._mover.look()
        now_s = monotonic_s()
        self._guarded(self._find)(new, now_s)
        if self._worker_ended and self._mover.seen >= self._mover.there():
            self._stop_looking()

    def _find(self, new: bytes, now_s: float) -> None:
        if new:
            self._new_s = now_s
            self._tell(self._lines.feed(new, now_s))
        elif self._lines.waiting and now_s - self._new_s >= _SETTLES_S:
            self._tell(self._lines.settle(now_s))

    def _tell(self, facts: list[StderrTold]) -> None:
        if self._state is not None:
            for fact in facts:
                self._state(StderrTold, fact.kind, fact.thread, fact.place, fact.message)

    def _stop_looking(self) -> None:
        if self._state is not None:
            self._guarded(lambda: self._tell(self._lines.end(monotonic_s())))()
            self._state = None
            self._close()

    def _deliver(self) -> bool:
        """Moves what is due. Returns whether there still is somebody to read it."""
        self._target_full = False
        if self._mover.seen and (self._mover.is_due() or self._worker_ended or self._no_writers):
            try:
                self._mover.move()
            except BrokenPipeError:
                return False
            self._target_full = self._mover.seen > 0
        return True

    def _answer(self) -> None:
        if self._worker_ended and not self._answered:
            self._answered = True
            with contextlib.suppress(OSError):  # the supervisor is gone
                os.write(self._control, DELIVERED)

    def _wait_ms(self) -> int | None:
        """Sets what to wait for, and returns for how long; None is for ever."""
        held_back = self._mover.seen > 0
        if not self._no_writers:
            self._poll.modify(self._source, 0 if held_back else select.POLLIN)
        self._poll.modify(self._target, select.POLLOUT if self._target_full else 0)
        if held_back:
            wait_ms, self._patience_ms = self._patience_ms, min(2 * self._patience_ms, _PATIENCE_MOST_MS)
            return wait_ms
        self._patience_ms = _PATIENCE_MS
        if self._no_writers:
            return 0
        return int(_SETTLES_S * 1000) if self._lines.waiting else None
