"""A control group of the test's own with little memory, where the kernel kills who wants more: of version 1."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

MOUNT = Path("/sys/fs/cgroup/memory")
PATIENCE_S = 30.0


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """Makes the group, empty; everything in it must have ended at the end. Skips where none can be made."""
    own = _own_group()
    if own is None:
        pytest.skip("no writable control group of version 1 for memory here")
    made = own / f"race-watch-test-{secrets.token_hex(4)}"
    try:
        made.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    try:
        (made / "memory.limit_in_bytes").write_text(str(limit_bytes))
        with suppress(OSError):
            # Memory that is swapped out is not wanting.
            (made / "memory.swappiness").write_text("0")
        yield made
    finally:
        _remove(made)


def entering(group: Path, *command: str) -> list[str]:
    """The command, as a process of the group from its start on."""
    return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group), *command]


def _own_group() -> Path | None:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        group = MOUNT / path.lstrip("/")
        if "memory" in controllers.split(",") and os.access(group / "cgroup.procs", os.W_OK):
            return group
    return None


def _remove(group: Path) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            group.rmdir()
            return
        except OSError:
            # The last process may not be quite gone.
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)
