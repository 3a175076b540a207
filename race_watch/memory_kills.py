"""How many processes of this control group the kernel has killed for want of memory.

Source: Linux `Documentation/admin-guide/cgroup-v2.rst` (memory.events, `oom_kill`), `cgroup-v1/memory.rst`
(memory.oom_control).
"""

from __future__ import annotations

import os

_FILES = {"2": "memory.events", "1": "memory.oom_control"}


class MemoryKills:
    """Counts from its making on. Both versions count the group's own processes; version 2 those of groups below it too.

    Args:
        proc: The process's directory in procfs.
        root: Where the control groups are mounted.
    """

    def __init__(self, proc: str = "/proc/self", root: str = "/sys/fs/cgroup") -> None:
        self.path = _find(proc, root)
        self._seen = self._read()

    def new(self) -> int:
        """Kills since the last call."""
        before, self._seen = self._seen, self._read()
        return max(0, self._seen - before)

    def _read(self) -> int:
        if self.path is None:
            return 0
        try:
            with open(self.path, encoding="ascii") as file:
                lines = [line.split() for line in file]
        except (OSError, ValueError):
            return 0
        return next((int(line[1]) for line in lines if len(line) == 2 and line[0] == "oom_kill" and line[1].isdigit()), 0)


def _find(proc: str, root: str) -> str | None:
    """The file that counts, of the group that this process is in; None where there is none."""
    try:
        with open(os.path.join(proc, "cgroup"), encoding="utf-8", errors="surrogateescape") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return None
    for group in groups:
        if len(group) != 3:
            continue
        _, controllers, path = group
        if "memory" in controllers.split(","):
            found = _nearest(os.path.join(root, "memory"), path, _FILES["1"])
        elif not controllers:
            found = _nearest(root, path, _FILES["2"])
        else:
            continue
        if found is not None:
            return found
    return None


def _nearest(mount: str, path: str, name: str) -> str | None:
    """The file in the group's directory, or above: in a container the path may be the host's, and the mount its own group."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        found = os.path.join(mount, *parts[:depth], name)
        if os.path.exists(found):
            return found
    return None
