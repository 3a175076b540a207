"""Runs a program of `programs/` bare and watched, side by side, and lets the two work in turns: A B B A.

Turns are short, so whatever else the machine does meets both alike; the best turn of a process counts, being the one least
disturbed; the median over fresh pairs of processes evens out what differs from process to process (addresses, hash seeds).
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from race_watch.journal import directory, layout
from race_watch.lab.wheels import environment
from race_watch.launch import bootstrap_dir
from tests.benchmarks.row import BenchmarkError, Effort, Round

PROGRAMS = Path(__file__).with_name("programs")
_ENDS_IN_S = 20
# An installed package has its bytecode compiled; without it a start would measure the compiler.
_NOT_INHERITED = ("PYTHONPATH", "PYTHONASYNCIODEBUG", "PYTHONDONTWRITEBYTECODE", "RACE_WATCH")


@contextmanager
def run_directory() -> Iterator[str]:
    """A private directory for journals, on the storage that production would take."""
    path = directory.create()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def variables(run_dir: str | None, seed: int, settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a bare program (no `run_dir`) or a watched one; nothing of this process's own instrumentation."""
    plain = {
        name: value for name, value in os.environ.items() if name not in _NOT_INHERITED and not name.startswith("RACE_WATCH_")
    }
    plain["PYTHONHASHSEED"] = str(seed)
    if run_dir is None:
        return plain
    armed = {"PYTHONPATH": str(bootstrap_dir()), "RACE_WATCH_RUN_DIR": run_dir, "RACE_WATCH_WATCHER": "none"}
    return {**plain, **armed, **(settings or {})}


class _Worker:
    """A running program: one line to it is one turn, its answer the CPU time of one operation."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def turn(self) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            return float(self._process.stdout.readline())
        except (OSError, ValueError):
            _, errors = self._process.communicate(timeout=_ENDS_IN_S)
            last = errors.strip().splitlines()[-1:] or ["nothing on stderr"]
            raise BenchmarkError(f"{' '.join(self._process.args)}: {last[0]}") from None  # type: ignore[arg-type]

    def end(self) -> None:
        try:
            self._process.communicate(timeout=_ENDS_IN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def in_turns(
    effort: Effort,
    program: str,
    *arguments: str,
    livekit: str = "",
    settings: Mapping[str, str] | None = None,
    witness: str = "",
    alone: bool = False,
) -> list[Round]:
    """Measures `programs/<program>.py ARGUMENTS` in rounds; the unit is the program's.

    Args:
        livekit: The SDK's version, for programs that use it.
        settings: Further variables of the watched one.
        witness: A counter of the journal that must have grown: race_watch did look at what is measured.
        alone: There is no bare counterpart.

    Raises:
        BenchmarkError: A program failed, race_watch did not arm in it, or one of its hooks failed.
    """
    python = environment([f"livekit=={livekit}"], effort.python) if livekit else effort.python
    command = [str(python), str(PROGRAMS / f"{program}.py"), *arguments]
    rounds = []
    for seed in range(1, effort.rounds + 1):
        with run_directory() as run_dir, ExitStack() as ending:
            watched = _Worker(command, variables(run_dir, seed, settings))
            ending.callback(watched.end)
            bare = watched if alone else _Worker(command, variables(None, seed))
            ending.callback(bare.end)
            bare.turn(), watched.turn()  # warms up: caches, specialised bytecode, first sight of every file
            pair = best(bare.turn, watched.turn, effort.turns)
            check(run_dir, witness)
        rounds.append(Round(None, pair.watched) if alone else pair)
    return rounds


def best(bare: Callable[[], float], watched: Callable[[], float], turns: int) -> Round:
    """The best of each after so many turns of A B B A."""
    bare_best = watched_best = float("inf")
    for _ in range(turns):
        bare_best = min(bare_best, bare())
        watched_best = min(watched_best, watched(), watched())
        bare_best = min(bare_best, bare())
    return Round(bare_best, watched_best)


def check(run_dir: str, witness: str) -> None:
    """Raises BenchmarkError unless one process wrote a journal there, without hook errors and with the witness in it."""
    journals = [path.read_bytes() for path in Path(run_dir).glob("*" + layout.SUFFIX)]
    if len(journals) != 1:
        raise BenchmarkError(f"race_watch armed in {len(journals)} processes instead of 1")
    if _counter(journals[0], "hook_errors"):
        raise BenchmarkError("a hook of race_watch failed while it was measured")
    if witness and not _counter(journals[0], witness):
        raise BenchmarkError(f"race_watch counted no {witness}: it did not look at what was measured")


def _counter(journal: bytes, name: str) -> int:
    (value,) = struct.unpack_from("<Q", journal, layout.COUNTERS_AT + 8 * layout.COUNTER_INDEX[name])
    return int(value)
