"""Panics that the native library reports, through the SDK's own callback: told, and printed and ended by as before."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from interpreters import bare_environment, outcome, read_journals, run, watched_environment

from race_watch.events import FfiPanicked, HookStruck
from race_watch.lab.wheels import environment

pytestmark = [pytest.mark.wheels, pytest.mark.one_python]

VERSIONS = ("1.0.25", "1.1.8", "1.2.0")

# `panic(message)` is what native code does: it calls the callback with a serialised event.
_PANIC = """
import ctypes, os, signal, sys
from livekit import rtc
from livekit.rtc import _ffi_client
from livekit.rtc._proto.ffi_pb2 import FfiEvent

def panic(message):
    event = FfiEvent()
    event.panic.message = message
    data = event.SerializeToString()
    buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
    _ffi_client.ffi_event_callback(ctypes.cast(buffer, ctypes.POINTER(ctypes.c_uint8)), len(data))

"""
SURVIVES = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
AT_WORK = "timed out waiting for ReadyForRoomEventRequest after ConnectCallback"


def bare(source: str, version: str = "1.2.0") -> subprocess.CompletedProcess[str]:
    return run([str(environment([f"livekit=={version}"])), "-c", _PANIC + source], bare_environment())


def watched(run_dir: Path, source: str, version: str = "1.2.0") -> subprocess.CompletedProcess[str]:
    return run([str(environment([f"livekit=={version}"])), "-c", _PANIC + source], watched_environment(run_dir))


def panics(run_dir: Path) -> list[str]:
    """What was told, and no failure of ours."""
    (journal,) = read_journals(run_dir)
    assert not journal.count(HookStruck)
    return [event.message for event in journal.events if isinstance(event, FfiPanicked)]


@pytest.mark.parametrize("version", VERSIONS)
def test_panic_is_told_and_ends_the_process_as_it_did(run_dir: Path, version: str) -> None:
    source = f"panic({AT_WORK!r}); signal.pause()"
    ended = watched(run_dir, source, version)
    assert outcome(ended) == outcome(bare(source, version)) == (-signal.SIGTERM, "", f"FFI Panic:  {AT_WORK}\n")
    assert panics(run_dir) == [AT_WORK]


@pytest.mark.parametrize("version", VERSIONS)
def test_panics_of_a_process_that_ignores_its_signal_are_all_told(run_dir: Path, version: str) -> None:
    source = SURVIVES + "for number in range(3): panic(f'panic {number}')\npanic('')\nprint('lives on')"
    ended = watched(run_dir, source, version)
    assert outcome(ended) == outcome(bare(source, version))
    assert (ended.returncode, ended.stdout) == (0, "lives on\n")
    assert panics(run_dir) == ["panic 0", "panic 1", "panic 2", ""]


def test_text_of_a_panic_is_scrubbed_and_bounded(run_dir: Path) -> None:
    source = (
        SURVIVES
        + """
from race_watch import agent
if agent.current() is not None:
    agent.current().context.recorder.identity("caller-jane")
panic("caller-jane\\n jane@example.com " + "x" * 5000)
"""
    )
    told = watched(run_dir, source)
    assert "caller-jane\n jane@example.com " + "x" * 5000 in told.stderr
    (message,) = panics(run_dir)
    assert message.startswith("id:")
    assert "jane" not in message
    assert "\n" not in message
    assert len(message) == 300


@pytest.mark.parametrize(
    "stderr",
    [
        "sys.stderr = None",
        "sys.stderr.close()",
        "import io; sys.stderr = io.StringIO()",
        "sys.stderr = type('Odd', (), {'write': lambda self, text: 1 / 0, 'flush': lambda self: None})()",
    ],
    ids=["none", "closed", "a buffer", "fails"],
)
def test_print_fails_as_it_did_where_there_is_no_stderr(run_dir: Path, stderr: str) -> None:
    source = SURVIVES + f"{stderr}\npanic('x')\nprint('lives on')\nsys.stdout.flush()"
    assert outcome(watched(run_dir, source)) == outcome(bare(source))
    assert panics(run_dir) == ["x"]


def test_print_that_the_host_replaces_later_is_the_one_that_is_called(run_dir: Path) -> None:
    source = (
        SURVIVES
        + """
import builtins
real = builtins.print
builtins.print = lambda *values, **options: real("mine", *values, file=sys.stdout)
panic("x")
"""
    )
    ended = watched(run_dir, source)
    assert outcome(ended) == outcome(bare(source)) == (0, "mine FFI Panic:  x\n", "")
    assert panics(run_dir) == ["x"]


def test_undo_leaves_the_module_as_it_was(run_dir: Path) -> None:
    source = (
        SURVIVES
        + """
from race_watch import agent
print("print" in vars(_ffi_client))
left = agent.disarm()
print(left, "print" in vars(_ffi_client))
panic("x")
"""
    )
    assert outcome(watched(run_dir, source)) == (0, "True\n[] False\n", "FFI Panic:  x\n")
    assert panics(run_dir) == []


def test_undo_leaves_a_print_that_somebody_has_put_there_since(run_dir: Path) -> None:
    source = (
        SURVIVES
        + """
from race_watch import agent
ours = _ffi_client.print
_ffi_client.print = lambda *values, **options: ours("theirs", *values, **options)
print(agent.disarm())
panic("x")
"""
    )
    ended = watched(run_dir, source)
    assert outcome(ended) == (0, "['livekit.rtc._ffi_client.print']\n", "theirs FFI Panic:  x\n")
    assert panics(run_dir) == []


def test_other_lines_of_the_module_are_printed_and_not_told(run_dir: Path) -> None:
    source = "for said in (('FFI Panic: ',), ('other', 'x'), ('FFI Panic: ', 'a', 'b'), ()): _ffi_client.print(*said)"
    assert outcome(watched(run_dir, source)) == outcome(bare(source.replace("_ffi_client.print", "print")))
    assert panics(run_dir) == []
