"""The relay's copying, in a process of its own: CPU time of a line that comes alone (us), or of a megabyte of them (ms)."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable

from turns import each

from race_watch.stderr.copying import Copying

LINE = b"2026-11-21 13:47:00,123 INFO livekit.agents job received room=sales-000001 participant=alice state=running\n"
LINES = 3_000
MEGABYTES = 50


def relayed(work: Callable[[int, int], None]) -> float:
    """CPU seconds of the process that copies while `work(written, read)` goes on; it ends with the last writer."""
    (source, written), (read, target), (ours, theirs) = os.pipe(), os.pipe(), socket.socketpair()
    pid = os.fork()
    if pid == 0:
        os.close(written)
        os.close(read)
        Copying(source, target, theirs.fileno(), lambda *_: None, lambda: None).run()
        os._exit(0)
    os.close(source)
    os.close(target)
    work(written, read)
    os.close(written)
    while os.read(read, 65536):
        pass
    os.close(read)
    ours.close()
    theirs.close()
    usage = os.wait4(pid, 0)[2]
    return usage.ru_utime + usage.ru_stime


def one_by_one(written: int, read: int) -> None:
    for _ in range(LINES):
        os.write(written, LINE)
        os.read(read, len(LINE))


def in_a_flood(written: int, read: int) -> None:
    def drain() -> None:
        left = MEGABYTES * len(megabyte)
        while left:
            left -= len(os.read(read, 65536))

    megabyte = LINE * (1_000_000 // len(LINE))
    reader = threading.Thread(target=drain)
    reader.start()
    for _ in range(MEGABYTES):
        at = 0
        while at < len(megabyte):
            at += os.write(written, megabyte[at : at + 8192])
    reader.join()


if sys.argv[1] == "line":
    each(lambda: relayed(one_by_one) / LINES * 1e6)
else:
    each(lambda: relayed(in_a_flood) / MEGABYTES * 1e3)
