"""Kills for want of memory as the control group counts them: in files of both versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from race_watch.memory_kills import MemoryKills

V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
V2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill {}\noom_group_kill 0\n"


class Tree:
    """A procfs and control groups, made in the test's own folder."""

    def __init__(self, folder: Path, groups: str) -> None:
        self.proc, self.root = folder / "proc", folder / "cgroup"
        self.proc.mkdir()
        (self.proc / "cgroup").write_text(groups)

    def put(self, path: str, content: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file

    def kills(self) -> MemoryKills:
        return MemoryKills(str(self.proc), str(self.root))


# name: /proc/self/cgroup, the file, its content
LAYOUTS = {
    "version 2 in a container": ("0::/\n", "memory.events", V2),
    "version 2 on a host": ("0::/system.slice/worker.service\n", "system.slice/worker.service/memory.events", V2),
    "version 2, the host's path in a container": ("0::/kubepods/pod1/abc\n", "memory.events", V2),
    "version 2, a path above the container's": ("0::/../../abc\n", "memory.events", V2),
    "version 1 in a container": ("4:memory:/docker/abc\n0::/\n", "memory/memory.oom_control", V1),
    "version 1 on a host": ("5:cpu,cpuacct:/\n4:memory:/docker/abc\n", "memory/docker/abc/memory.oom_control", V1),
    "version 1 with another controller": ("4:hugetlb,memory:/a\n", "memory/a/memory.oom_control", V1),
    "hybrid, memory in version 1": ("4:memory:/a\n0::/b\n", "memory/a/memory.oom_control", V1),
    "hybrid, memory in version 2": ("5:pids:/a\n0::/b\n", "b/memory.events", V2),
    "a path with a colon": ("0::/a:b\n", "a:b/memory.events", V2),
}


@pytest.mark.parametrize(("groups", "path", "content"), LAYOUTS.values(), ids=LAYOUTS)
def test_kills_since_the_last_look_are_counted(tmp_path: Path, groups: str, path: str, content: str) -> None:
    tree = Tree(tmp_path, groups)
    file = tree.put(path, content.format(2))
    kills = tree.kills()
    assert kills.path == str(file)
    counted = [kills.new()]
    for count in (2, 3, 3, 7):
        file.write_text(content.format(count))
        counted.append(kills.new())
    assert counted == [0, 0, 1, 0, 4]


def test_group_of_its_own_comes_before_one_above(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/a/b\n")
    tree.put("memory.events", V2.format(1))
    tree.put("a/memory.events", V2.format(1))
    own = tree.put("a/b/memory.events", V2.format(1))
    assert tree.kills().path == str(own)


@pytest.mark.parametrize(
    "content",
    ["", "oom_kill\n", "oom_kill x\n", "oom_kill -1\n", "oom_kill 1 2\n", "oom 5\n", "oom_kill_disable 5\n", "\udcff"],
    ids=["empty", "no number", "a word", "negative", "two numbers", "another count", "a longer name", "no text"],
)
def test_file_that_is_not_understood_counts_nothing(tmp_path: Path, content: str) -> None:
    tree = Tree(tmp_path, "0::/\n")
    file = tree.put("memory.events", V2.format(0))
    kills = tree.kills()
    file.write_bytes(content.encode(errors="surrogateescape"))
    assert kills.new() == 0


def test_count_that_goes_back_is_not_a_kill(tmp_path: Path) -> None:
    """The group was made anew, or its count was reset."""
    tree = Tree(tmp_path, "0::/\n")
    file = tree.put("memory.events", V2.format(5))
    kills = tree.kills()
    file.write_text(V2.format(0))
    assert kills.new() == 0
    file.write_text(V2.format(1))
    assert kills.new() == 1


def test_file_that_vanishes_counts_nothing(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/\n")
    file = tree.put("memory.events", V2.format(1))
    kills = tree.kills()
    file.unlink()
    assert kills.new() == 0


@pytest.mark.parametrize("groups", ["", "nonsense\n", "1:name=systemd:/\n", "0::/\n"])
def test_without_a_group_nothing_is_counted(tmp_path: Path, groups: str) -> None:
    kills = Tree(tmp_path, groups).kills()
    assert (kills.path, kills.new()) == (None, 0)


def test_without_procfs_nothing_is_counted(tmp_path: Path) -> None:
    kills = MemoryKills(str(tmp_path / "nowhere"), str(tmp_path))
    assert (kills.path, kills.new()) == (None, 0)
