"""Finds the texts of native deaths in a worker's stderr, as its bytes come; bounded in memory and in what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from race_watch.events import StderrTold, clean
from race_watch.scrub import scrub
from race_watch.stderr.texts import QUOTE_ENDS, TEXTS, GoesOn, may_tell, without_colours

# Takes an event's type and its fields.
State = Callable[..., None]

# What is looked at of a line; the rest of a longer one is passed over.
LINE_BYTES = 8192
MESSAGE_CHARS = 300
PLACE_CHARS = 200
THREAD_CHARS = 64
_MESSAGE_LINES = 4
# A storm of panics that are survived must not hide the one that is not: what one thread says of a place is told again after a
# while, and places are bounded, and threads at each. Jobs that die of one fault are as many threads, where Rust numbers them.
SAME_PLACE_S = 2.0
PLACES_A_MINUTE = 30
THREADS_A_PLACE = 30
_MINUTE_S = 60.0


@dataclass(slots=True)
class _Open:
    """A text whose message may go on."""

    kind: str
    thread: bytes
    place: bytes
    goes_on: GoesOn
    lines: list[bytes] = field(default_factory=list)
    closed: bool = False

    def take(self, line: bytes) -> bool:
        """Adds the line if it belongs to the message."""
        if self.closed or len(self.lines) >= _MESSAGE_LINES:
            return False
        if self.goes_on is GoesOn.QUOTED:
            end = QUOTE_ENDS.search(line)
            self.closed = end is not None
            self.place = end["place"] if end else self.place
            self.lines.append(end["message"] if end else line)
            return True
        if self.goes_on is GoesOn.CHECK:
            if line.startswith(b"# ") and not line.startswith(b"# last system error"):
                self.lines.append(line[2:])
            return line.startswith(b"# ")
        first = self.goes_on is GoesOn.PANIC and not self.lines
        if first and (line.startswith((b"note: run with ", b"stack backtrace:")) or b" panicked at " in line):
            return False
        if first or (self.goes_on is not GoesOn.NOT and line[:1] in (b" ", b"\t")):
            self.lines.append(line.strip())
            return True
        return False


class StderrLines:
    """Takes bytes in pieces of any size; `now_s` is monotonic seconds.

    Attributes:
        waiting: A text was found whose message may go on: call `settle` when nothing has come for a while.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._passing_over = False
        self._open: _Open | None = None
        self._minute_s = -_MINUTE_S
        self._told_s: dict[tuple[str, bytes], dict[bytes, float]] = {}

    @property
    def waiting(self) -> bool:
        return self._open is not None

    def feed(self, data: bytes, now_s: float) -> list[StderrTold]:
        """Returns what the lines that are complete now tell."""
        if self._passing_over:
            end = data.find(b"\n")
            if end < 0:
                return []
            data = data[end:]
            self._passing_over = False
        last = data.rfind(b"\n")
        if last < 0:
            self._keep(self._rest + data)
            return []
        lines = b"\n" + self._rest + data[:last]
        self._keep(data[last + 1 :])
        if self._open is None and not may_tell(lines):
            return []
        return [fact for line in lines[1:].split(b"\n") for fact in self._line(line[:LINE_BYTES], now_s)]

    def settle(self, now_s: float) -> list[StderrTold]:
        """Returns the text whose message was waited for, with what there is of it."""
        if self._open is not None and self._rest:
            self._open.take(without_colours(self._rest))
        return list(self._close(now_s))

    def end(self, now_s: float) -> list[StderrTold]:
        """Returns what is left: nothing comes any more."""
        facts = list(self._line(self._rest, now_s)) if self._rest else []
        self._rest = b""
        return facts + list(self._close(now_s))

    def _keep(self, rest: bytes) -> None:
        self._rest = rest[:LINE_BYTES]
        self._passing_over = len(rest) > LINE_BYTES

    def _line(self, line: bytes, now_s: float) -> Iterator[StderrTold]:
        line = without_colours(line).rstrip(b"\r")
        if self._open is not None:
            if self._open.take(line):
                return
            yield from self._close(now_s)
        if not may_tell(b"\n" + line):
            return
        for text in TEXTS:
            found = text.pattern.search(line)
            if found is not None:
                groups = found.groupdict(b"")
                thread, place = groups.get("thread", b""), groups.get("place", b"")
                if groups.get("number"):
                    thread += b" (" + groups["number"] + b")"
                if groups.get("line"):
                    place += b":" + groups["line"]
                message = groups.get("message", b"").strip()
                self._open = _Open(text.kind, thread, place, text.goes_on, [message] if message else [])
                break
        if self._open is not None and self._open.goes_on is GoesOn.NOT:
            yield from self._close(now_s)

    def _close(self, now_s: float) -> Iterator[StderrTold]:
        told, self._open = self._open, None
        if told is None or not self._has_room(told, now_s):
            return
        message = b" ".join(told.lines)
        yield StderrTold(
            told.kind, _shown(told.thread, THREAD_CHARS), _shown(told.place, PLACE_CHARS), _shown(message, MESSAGE_CHARS)
        )

    def _has_room(self, told: _Open, now_s: float) -> bool:
        if now_s - self._minute_s >= _MINUTE_S:
            self._minute_s = now_s
            self._told_s.clear()
        place = (told.kind, told.place)
        if place not in self._told_s and len(self._told_s) >= PLACES_A_MINUTE:
            return False
        threads = self._told_s.setdefault(place, {})
        last_s = threads.get(told.thread)
        if last_s is None and len(threads) >= THREADS_A_PLACE:
            # As if they were one thread.
            last_s = max(threads.values())
            if now_s - last_s >= SAME_PLACE_S:
                del threads[min(threads, key=lambda thread: threads[thread])]
        if last_s is not None and now_s - last_s < SAME_PLACE_S:
            return False
        threads[told.thread] = now_s
        return True


def _shown(raw: bytes, limit: int) -> str:
    # Scrubbed whole: half a token is not known as one.
    return clean(scrub(raw.decode("utf-8", "replace")))[:limit]
