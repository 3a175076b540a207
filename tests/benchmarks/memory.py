"""Resident memory of a process that uses the SDK and has filled its journal, which is mapped into it."""

from __future__ import annotations

from dataclasses import replace

from race_watch.settings import Settings
from tests.benchmarks.in_turns import in_turns
from tests.benchmarks.room_events import LIVEKIT
from tests.benchmarks.row import Compare, Effort, Round, Row

_MIB = 1024 * 1024
_JOURNAL_MIB = Settings().journal_bytes / _MIB


def _measure(effort: Effort) -> list[Round]:
    return in_turns(replace(effort, turns=1), "memory", livekit=LIVEKIT, witness="room_events")


ROWS = (Row("memory.host", "resident, with the SDK and a full journal", "MiB", Compare.DIFFERENCE, 2 + _JOURNAL_MIB, _measure),)
