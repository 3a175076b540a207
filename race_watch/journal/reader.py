"""The watcher's side of the journal: follows a file while its process writes, and reads what is left when it is gone.

Nothing that stands in a file is trusted: what is torn, overwritten or not understood is skipped and counted.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import zlib
from dataclasses import dataclass

from race_watch import events
from race_watch.journal import layout
from race_watch.records import Process, Record

# Polls that a reserved but unwritten slot is waited for while its writer lives: a thread can be held up for that long between
# reserving a number and filling it, but a longer wait would hold up every later record.
_PATIENCE_POLLS = 8
_LOOK_AHEAD = 16

ZOMBIE = "Z"


class JournalError(Exception):
    """A file that is not a journal of this layout; the text is one line."""


class JournalReader:
    """Follows one journal.

    Attributes:
        last_s: When the last record that was read was stated, in monotonic seconds; 0 before there was one.

    Raises:
        JournalError: The file is not a journal that this version can read.
        OSError: It cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.lost_overwritten = 0
        self.lost_torn = 0
        self.lost_malformed = 0
        self.records_read = 0
        self.last_s = 0.0
        self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            size = os.fstat(self._fd).st_size
            if size < layout.HEADER_BYTES + layout.SLOT_BYTES:
                raise JournalError(f"{path}: {size} bytes are too few for a journal")
            self._mapped = mmap.mmap(self._fd, size, prot=mmap.PROT_READ)
            try:
                self.process, self._slots = _read_header(self._mapped, path)
                if size < layout.HEADER_BYTES + self._slots * layout.SLOT_BYTES:
                    raise JournalError(f"{path}: shorter than its header says")
            except JournalError:
                self._mapped.close()
                raise
        except (JournalError, ValueError, OSError) as error:
            os.close(self._fd)
            raise error if isinstance(error, (JournalError, OSError)) else JournalError(f"{path}: {error}") from None
        self._next = 0
        self._waited = 0
        # First record number of a long record -> its pieces so far. One thread writes them, so they come in order.
        self._pending: dict[int, list[bytes]] = {}

    def alive(self) -> bool:
        """Whether the writer still holds its file. True for a foreign file system that knows no locks."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return False

    def writer_state(self) -> str:
        """The state, as in /proc, of the very process that made the journal; empty if it is not of this boot and pid namespace.

        A zombie has let go of everything; its parent has not asked for it yet.
        """
        try:
            with open(f"/proc/{self.process.pid}/stat", "rb") as file:
                # The second field is the command in parentheses and may hold spaces and parentheses itself.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return ""
        return fields[0].decode() if fields[0] != b"X" and int(fields[19]) == self.process.start_ticks else ""

    def counters(self) -> dict[str, int]:
        """The writer's counters by name."""
        return {
            name: layout.COUNTER.unpack_from(self._mapped, layout.COUNTERS_AT + 8 * index)[0]
            for index, name in enumerate(layout.COUNTERS)
        }

    def read(self, *, final: bool = False) -> list[Record]:
        """Returns the records since the last call, in order. Ends also while the writer is faster: the next call goes on.

        Args:
            final: The writer is gone; a slot that is not whole now never will be.
        """
        found: list[Record] = []
        lapped = False
        for _ in range(2 * self._slots):
            slot = self._slot(self._next)
            if slot is not None:
                self._waited = 0
                self._next += 1
                self._take(slot, found)
                continue
            overwritten = self.lost_overwritten
            number = self._resume_at(final)
            if number is None:
                break
            self._next = number
            if self.lost_overwritten > overwritten:
                if lapped:
                    break
                lapped = True
        if final:
            # Long records whose writer was killed between two pieces.
            self.lost_torn += len(self._pending)
            self._pending.clear()
        self.records_read += len(found)
        return found

    def close(self) -> None:
        self._mapped.close()
        os.close(self._fd)

    def _slot(self, number: int) -> _Slot | None:
        """The slot of record `number`, or None if what stands there is not (yet) that record."""
        check, kind, length, found, t_ns, body = self._fields(number)
        body = body[:length]
        # Kind 0 is a slot that was never written: all its bytes are zero, and so is their check sum.
        if (
            found != number
            or kind == 0
            or length > layout.BODY_BYTES
            or zlib.adler32(body, (number ^ t_ns) & 0xFFFFFFFF) != check
        ):
            return None
        return _Slot(kind, number, t_ns, body)

    def _resume_at(self, final: bool) -> int | None:
        """The next record worth reading after a slot that is not the expected one, or None to wait."""
        if final or self._stored(self._next) > self._next:
            numbers = {self._stored(index) for index in range(self._slots)}
            whole = [number for number in numbers if number > self._next and self._slot(number) is not None]
        else:
            # Most polls end here: a look at the next few slots tells that nothing new has come.
            ahead = range(self._next + 1, self._next + 1 + _LOOK_AHEAD)
            whole = [number for number in ahead if self._slot(number) is not None]
        if not whole:
            return self._after_torn_end() if final else None
        newest, following = max(whole), min(whole)
        oldest = newest - self._slots + 1
        if oldest > self._next:
            # The writer has lapped us. Leave a margin while it goes on overwriting.
            margin = self._slots // 16 if self.alive() else 0
            resume = min(newest, max(oldest + margin, following))
            self.lost_overwritten += resume - self._next
            return resume
        self._waited += 1
        if not final and self._waited <= _PATIENCE_POLLS:
            return None
        self._waited = 0
        self.lost_torn += following - self._next
        return following

    def _after_torn_end(self) -> int | None:
        """Steps over the last record if a kill has cut it short, and counts it; None if there is no such record."""
        _, kind, _, number, _, _ = self._fields(self._next)
        if kind == 0 or number != self._next:
            return None
        if not self._pending:  # else it is one more piece of what is counted as unfinished
            self.lost_torn += 1
        return self._next + 1

    def _stored(self, number: int) -> int:
        """The record number that stands in the slot of record `number`, whole or not."""
        return self._fields(number)[3]

    def _fields(self, number: int) -> tuple[int, int, int, int, int, bytes]:
        at = layout.HEADER_BYTES + number % self._slots * layout.SLOT_BYTES
        return layout.SLOT.unpack_from(self._mapped, at)

    def _take(self, slot: _Slot, found: list[Record]) -> None:
        first, body = slot.number, slot.body
        if slot.kind & layout.LONG:
            if len(body) < layout.PART.size:
                self.lost_malformed += 1
                return
            part, parts, back = layout.PART.unpack_from(body)
            first -= back
            if not self._join(first, part, body[layout.PART.size :]) or part + 1 < parts:
                self._forget_stale(slot.number)
                return
            body = b"".join(self._pending.pop(first))
        try:
            event = events.decode(slot.kind & ~layout.LONG, body.decode("utf-8", "replace"))
        except ValueError:
            self.lost_malformed += 1
            return
        self.last_s = slot.t_ns / 1e9
        found.append(Record(self.process, first, self.last_s, event))

    def _join(self, first: int, part: int, piece: bytes) -> bool:
        """Adds a piece to the long record that begins at `first`; False if one before it was lost, and so is the record."""
        pieces = self._pending.setdefault(first, [])
        if len(pieces) != part:
            # The piece that is missing was counted where it was missed.
            del self._pending[first]
            return False
        pieces.append(piece)
        return True

    def _forget_stale(self, number: int) -> None:
        """Lets go of long records whose last pieces were lost, and counted."""
        for first in [f for f in self._pending if number - f > self._slots]:
            del self._pending[first]


@dataclass(frozen=True, slots=True)
class _Slot:
    kind: int
    number: int
    t_ns: int
    body: bytes


def _read_header(mapped: mmap.mmap, path: str) -> tuple[Process, int]:
    raw = mapped[: layout.HEADER.size]
    magic, version, slot_bytes, slots, pid, ppid, length, boot, ticks, nonce, wall, mono = layout.HEADER.unpack(raw)
    if magic != layout.MAGIC:
        raise JournalError(f"{path}: not a race_watch journal")
    if version != layout.VERSION or slot_bytes != layout.SLOT_BYTES or slots < 1:
        raise JournalError(f"{path}: layout version {version} is not {layout.VERSION}; use the race_watch that wrote it")
    who = mapped[layout.IDENTITY_AT : layout.IDENTITY_AT + min(length, layout.HEADER_BYTES - layout.IDENTITY_AT)]
    if layout.CRC.unpack_from(mapped, layout.HEADER_CRC_AT)[0] != zlib.crc32(who, zlib.crc32(raw)):
        raise JournalError(f"{path}: damaged header")
    try:
        identity = json.loads(who)
    except (ValueError, RecursionError):
        identity = {}
    if not isinstance(identity, dict):
        identity = {}
    return Process(pid, ppid, boot.hex(), ticks, nonce.hex(), wall, mono, identity), slots
