"""How many descriptors are open and what they are: told without opening one, so at EMFILE too."""

from __future__ import annotations

import os
import resource
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from interpreters import PACKAGE, bare_environment, outcome, python

from race_watch.hooks import descriptor_kinds, descriptors
from race_watch.hooks.descriptors import fd_limit, listed_fds, open_fds

tells_in_constant_time = pytest.mark.skipif(
    os.stat("/proc/self/fd").st_size == 0, reason="before Linux 6.2 the directory must be listed"
)


@contextmanager
def limited(soft: int) -> Iterator[None]:
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def classified() -> tuple[dict[str, int], bool]:
    """What a whole walk comes to."""
    (found,) = [found for found in descriptor_kinds.classified() if found is not None]
    return found


@tells_in_constant_time
def test_descriptors_are_counted_one_by_one() -> None:
    before = open_fds()
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(open(os.devnull))
        assert open_fds() == before + 5
    assert open_fds() == before


@tells_in_constant_time
def test_count_by_listing_is_the_same() -> None:
    assert listed_fds() == open_fds()


@tells_in_constant_time
def test_count_and_kinds_need_no_descriptor() -> None:
    before = classified()
    with limited(3):
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
        assert open_fds() == sum(before[0].values())
        assert classified() == before
        assert fd_limit() == 3


def test_count_by_listing_is_the_limit_where_none_is_free() -> None:
    with limited(3):
        assert listed_fds() == 3


def test_kernel_that_does_not_tell_is_asked_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link = tmp_path / "fd"
    link.symlink_to("/proc/self/task")  # a directory of /proc whose size is 0, as that of fd was
    monkeypatch.setattr(descriptors, "_FD_DIRECTORY", str(link))
    assert open_fds() == -1
    assert open_fds(lambda: 7) == 7


def test_unknown_count_is_minus_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(descriptors, "_FD_DIRECTORY", str(tmp_path / "no proc"))
    assert open_fds() == listed_fds() == -1


OPENED: dict[str, Callable[[], Sequence[Any]]] = {
    "udp": lambda: [socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)],
    "tcp": lambda: [socket.socket(socket.AF_INET, socket.SOCK_STREAM), socket.socket(socket.AF_INET6, socket.SOCK_STREAM)],
    "unix": socket.socketpair,
    "pipe": os.pipe,
    "epoll": lambda: [select.epoll()],
    "eventfd": lambda: [os.eventfd(0)],
    "file": lambda: [os.open(os.devnull, os.O_RDONLY)],
    "other": lambda: [socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)],
}


@pytest.mark.parametrize("kind", OPENED)
def test_descriptor_is_of_its_kind(kind: str) -> None:
    before, _ = classified()
    made = OPENED[kind]()
    try:
        after, complete = classified()
    finally:
        for one in made:
            os.close(one) if isinstance(one, int) else one.close()
    assert complete
    grown = {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}
    assert grown == {kind: len(made)}


def test_walk_goes_in_steps_and_stops_at_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptor_kinds, "_LOOKED_AT", 64)
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(open(os.devnull))
        looks = list(descriptor_kinds.classified())
    assert looks[:-1] == [None, None]
    assert looks[-1] is not None
    kinds, complete = looks[-1]
    assert not complete
    assert 32 < sum(kinds.values()) <= 64


def test_descriptor_that_is_closed_under_the_walk_is_no_error() -> None:
    with ExitStack() as stack:
        files = [stack.enter_context(open(os.devnull)) for _ in range(100)]
        walk = descriptor_kinds.classified()
        assert next(walk) is None
        for file in files:
            file.close()
        (found,) = [found for found in walk if found is not None]
    assert found[1]


LIMIT = 40
AT_THE_LIMIT = f"""
import asyncio, os, resource, socket, sys
sys.path.insert(0, {str(PACKAGE.parent)!r})
from race_watch.hooks.descriptor_kinds import classified
from race_watch.hooks.descriptors import open_fds
resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
held = []
try:
    while True:
        held.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
except OSError as error:
    print(error.strerror)
print(open_fds(), [found for found in classified() if found][0][1])
held[-1].close()
print(os.open(os.devnull, os.O_RDONLY) == {LIMIT} - 1)
"""


@tells_in_constant_time
def test_process_at_its_limit_is_counted_and_not_harmed() -> None:
    told = outcome(python(AT_THE_LIMIT, bare_environment()))
    assert told == (0, f"Too many open files\n{LIMIT} True\nTrue\n", "")
