"""Real processes below this one, with and without LiveKit's library, seen by /proc."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from race_watch.unattached import INTERVAL_S, Unattached

PATIENCE_S = 30.0
_LOADS = (
    "import ctypes, sys; library = ctypes.CDLL(sys.argv[1]) if sys.argv[1:] else None; print('loaded', flush=True); input()"
)
# A child of a child, as jobs are.
_BELOW = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"


@pytest.fixture
def library(tmp_path: Path) -> str:
    """A real shared library by the name of LiveKit's."""
    import _ctypes

    name = tmp_path / "liblivekit_ffi.so"
    source = getattr(_ctypes, "__file__", None) or next(Path(sysconfig.get_paths()["platstdlib"]).glob("lib-dynload/*.so"))
    shutil.copy(source, name)
    return str(name)


class Started:
    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[str]] = []

    def process(self, *command: str) -> int:
        made = subprocess.Popen(
            [sys.executable, "-c", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._processes.append(made)
        assert made.stdout is not None
        assert made.stdout.readline() == "loaded\n"
        return made.pid

    def end(self) -> None:
        while self._processes:
            self._processes.pop().communicate("end\n", timeout=PATIENCE_S)


@pytest.fixture
def started() -> Iterator[Started]:
    made = Started()
    yield made
    made.end()


def test_process_with_the_library_is_missing_unless_it_attached(library: str, started: Started) -> None:
    missing, attached = started.process(_LOADS, library), started.process(_LOADS, library)
    started.process(_LOADS)
    looked = Unattached()
    looked.look([attached], 0.0)
    assert looked.count == 0, "it may be about to attach"
    looked.look([attached], INTERVAL_S)
    assert looked.count == 1
    looked.look([attached, missing], 2 * INTERVAL_S)
    assert looked.count == 0


def test_process_below_another_is_seen_and_forgotten_when_it_has_ended(library: str, started: Started) -> None:
    started.process(_BELOW, _LOADS, library)
    looked = Unattached()
    for now_s in (0.0, INTERVAL_S):
        looked.look([], now_s)
    assert looked.count == 1
    started.end()
    looked.look([], 2 * INTERVAL_S)
    assert looked.count == 0


def test_one_look_an_interval(library: str, started: Started) -> None:
    looked = Unattached()
    looked.look([], 0.0)
    started.process(_LOADS, library)
    looked.look([], INTERVAL_S - 0.1)
    looked.look([], INTERVAL_S)
    assert looked.count == 0, "the second look was none"
    looked.look([], 2 * INTERVAL_S)
    assert looked.count == 1
