"""What race_watch costs a host: each row measures a program bare and watched, in turns, and stands beside its budget.

`python -m tests.benchmarks [ROW ...]`. Every measurement runs in processes of its own, armed as in production (bootstrap on
PYTHONPATH), because the hooks are global. CPU time only: it does not grow while other processes have the CPU.
"""

from __future__ import annotations

from tests.benchmarks import counts, exceptions, journal, log_records, memory, room_events, startup, stderr, tasks

ROWS = (
    *tasks.ROWS,
    *log_records.ROWS,
    *room_events.ROWS,
    *counts.ROWS,
    *exceptions.ROWS,
    *journal.ROWS,
    *startup.ROWS,
    *memory.ROWS,
    *stderr.ROWS,
)
