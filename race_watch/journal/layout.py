"""The journal's bytes: one mapped file per process, written by the host half, read by the watcher.

    0     header   `HEADER` and, from IDENTITY_AT, a JSON object that says who the process is
    128   counters one little-endian u64 for each name of `COUNTERS`
    4096  slots    SLOT_BYTES each; record number n stands in slot n % slot_count

A slot holds `SLOT`: a check sum (Adler-32 of the body, seeded with the low 32 bits of number ^ time), the kind, the length of
the body, the record number, the time in monotonic ns and the body. A body that is longer goes on in further slots: then the
kind has LONG set and each body starts with `PART`. Everything is little-endian. A change of meaning raises VERSION.
"""

from __future__ import annotations

import struct

MAGIC = b"RWJOURNL"
VERSION = 1
SUFFIX = ".rwj"
# Behind the name of a file that is being made.
UNFINISHED = ".new"
# Beside the journals: what the watchers have told already.
PROGRESS_FILE = "progress"
# And the metrics, for a worker that shows them among its own.
METRICS_FILE = "metrics.json"

# magic, version, slot bytes, slot count, pid, parent pid, identity length, boot id, start ticks, nonce, wall ns, monotonic ns
HEADER = struct.Struct("<8sHHIIII16sQ8sqq")
HEADER_CRC_AT = HEADER.size
CRC = struct.Struct("<I")
COUNTERS_AT = 128
COUNTER = struct.Struct("<Q")
IDENTITY_AT = 1024
HEADER_BYTES = 4096

SLOT_BYTES = 256
BODY_BYTES = SLOT_BYTES - 24
# check sum, kind, body length, record number, monotonic ns, body
SLOT = struct.Struct(f"<IHHQQ{BODY_BYTES}s")
LONG = 0x8000
# part, parts, how many numbers behind the record's first slot
PART = struct.Struct("<BBI")
PART_BYTES = BODY_BYTES - PART.size
MAX_PARTS = 16
MAX_BODY_BYTES = PART_BYTES * MAX_PARTS

COUNTERS = (
    "room_events",
    "log_records",
    "tasks_watched",
    "exceptions_seen",
    "exceptions_suppressed",
    "bodies_cut",
    "hook_errors",
)
COUNTER_INDEX = {name: index for index, name in enumerate(COUNTERS)}
