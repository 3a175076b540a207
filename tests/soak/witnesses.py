"""What is held against a dead process's journal: the ledger of what it had committed."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from race_watch.events import LoopClosed
from race_watch.journal import layout
from race_watch.journal.reader import JournalReader
from tests.soak.numbered import CONNECTED_EVERY, number_of, slots
from tests.watcher.journals import whole

_COUNTS = struct.Struct("<QQ")
# The record that was being written, and the oldest one, whose place it took.
_TORN_MOST = 2
# What hooks may have written between two records.
_OF_HOOKS = 64


@dataclass
class Tally:
    """What all checks together have seen."""

    processes: int = 0
    committed: int = 0
    read: int = 0
    torn: int = 0
    newborns: int = 0


class Witness:
    """One process of the worker, its journal opened while it still has its name.

    Raises:
        OSError, JournalError: The journal is gone, or is none.
    """

    def __init__(self, ledger: Path) -> None:
        about = json.loads(ledger.read_bytes()[_COUNTS.size :])
        self.pid: int = about["pid"]
        self.main: bool = about["main"]
        self._ledger = ledger
        self._reader = JournalReader(about["journal"])
        self._journal = open(about["journal"], "rb")  # noqa: SIM115 - open as long as the witness

    def check(self, tally: Tally, *, has_sdk: bool) -> list[str]:
        """What is wrong with the journal, now that its process is dead and nobody has it open for writing."""
        committed, newborns = _COUNTS.unpack_from(self._ledger.read_bytes())
        reader, problems = self._reader, []
        if reader.alive():
            problems.append("the journal is locked")
        found = reader.read(final=True)
        while more := reader.read(final=True):
            found += more
        records = [(record.number, number_of(record.event.kind)) for record in found if isinstance(record.event, LoopClosed)]
        numbers = [number for _, number in records if number is not None]
        if len(numbers) < len(records):
            problems.append(f"{len(records) - len(numbers)} records were read that nobody has written")
        if committed and not numbers:
            problems.append("nothing was read")
        elif numbers and numbers != list(range(numbers[0], numbers[-1] + 1)):
            problems.append(f"not every record from {numbers[0]} to {numbers[-1]} was read once and in order")
        elif numbers and numbers[-1] not in (committed, committed + 1):
            problems.append(f"the last one read is {numbers[-1]}")
        elif numbers and numbers[0] > 1 and self._had_room_for(numbers[0] - 1, records, _OF_HOOKS if has_sdk else 0):
            problems.append(f"{numbers[0] - 1} was not overwritten, nor read")
        if reader.lost_torn > _TORN_MOST or reader.lost_malformed:
            problems.append(f"{reader.lost_torn} torn and {reader.lost_malformed} malformed records")
        tally.processes += 1
        tally.committed += committed
        tally.read += len(numbers)
        tally.torn += reader.lost_torn
        tally.newborns += newborns
        what = "main process" if self.main else "child"
        return [f"{what} {self.pid} with {committed} committed records: {problem}" for problem in problems]

    def close(self) -> None:
        self._reader.close()
        self._journal.close()

    def _had_room_for(self, missing: int, records: list[tuple[int, int | None]], others: int) -> bool:
        """Whether the ring still had the record before the first that was read, by another reading of the file."""
        oldest, first = records[0]
        assert first is not None
        began = oldest - (first % CONNECTED_EVERY == 0) - slots(missing)
        raw = self._journal.read()
        size, numbers = (len(raw) - layout.HEADER_BYTES) // layout.SLOT_BYTES, whole(raw)
        # What is not whole was being written.
        reserved = max(numbers) + size - len(numbers)
        return began - others > reserved - size
