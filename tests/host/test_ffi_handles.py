"""Native handles by what owns them: each counted once, from any thread, whoever drops it and however often."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
from arming import Armed
from interpreters import PACKAGE, bare_environment, checked, fake_livekit, python, watched_environment

from race_watch.events import RoomHandleDropped
from race_watch.hooks import ffi_handles
from race_watch.hooks.ffi_handles import KINDS, FfiHandles
from race_watch.hooks.recorder import Recorder

SDK = "/app/site-packages/livekit/rtc/"


class Handle:
    def __init__(self, handle: int) -> None:
        self.handle = handle


def frame_in(path: str, function: str = "__init__", owner: object = None) -> FrameType:
    """A frame of a function of that name in that file."""
    source = f"import sys\ndef {function}(self): return sys._getframe()\n"
    namespace: dict[str, Callable[[object], FrameType]] = {}
    exec(compile(source, path, "exec"), namespace)
    return namespace[function](owner)


def live(handles: FfiHandles) -> dict[str, int]:
    return {kind: len(live) for kind, live in handles.kinds.items() if live}


class DataTrackStream:
    pass


class LocalDataTrack:
    pass


MAKERS = {
    ("room.py", "connect", None): "room",
    ("room.py", "_on_room_event", None): "buffer",
    ("participant.py", "__init__", None): "participant",
    ("track_publication.py", "__init__", None): "publication",
    ("track.py", "__init__", None): "track",
    ("data_track.py", "__init__", LocalDataTrack): "track",
    ("data_track.py", "__init__", DataTrackStream): "stream",
    ("audio_stream.py", "__init__", None): "stream",
    ("video_source.py", "__init__", None): "source",
    ("audio_frame.py", "_from_owned_info", None): "buffer",
    ("_ffi_client.py", "request", None): "buffer",
    ("apm.py", "__init__", None): "other",
    ("new_in_some_release.py", "__init__", None): "other",
}


@pytest.mark.parametrize(("file", "function", "owner"), MAKERS)
def test_kind_is_told_by_the_line_that_makes_the_handle(file: str, function: str, owner: type | None) -> None:
    handles = FfiHandles(Recorder())
    handles.made(Handle(7), frame_in(SDK + file, function, owner and owner()))
    assert live(handles) == {MAKERS[file, function, owner]: 1}


def test_handle_that_the_application_makes_is_other() -> None:
    handles = FfiHandles(Recorder())
    handles.made(Handle(7), frame_in("/app/participant.py"))
    assert live(handles) == {"other": 1}


def test_equal_lines_of_different_files_are_told_apart() -> None:
    handles = FfiHandles(Recorder())
    for number, file in enumerate(("track.py", "track_publication.py"), start=1):
        handles.made(Handle(number), frame_in(SDK + file))
    assert live(handles) == {"publication": 1, "track": 1}


def test_handle_is_counted_once_and_dropped_once() -> None:
    handles, handle = FfiHandles(Recorder()), Handle(7)
    track = frame_in(SDK + "track.py")
    handles.made(handle, track)
    handles.made(Handle(8), track)
    for _ in range(3):
        handles.dropped(handle, None)
    assert (len(handles.live), live(handles)) == (1, {"track": 1})


def test_what_is_no_handle_is_not_counted() -> None:
    handles = FfiHandles(Recorder())
    handles.made(Handle(0), frame_in(SDK + "track.py"))
    handles.dropped(Handle(0), None)
    handles.dropped(Handle(99), None)
    handles.dropped(object.__new__(Handle), None)
    assert len(handles.live) == 0


def test_handles_themselves_are_not_kept() -> None:
    handles, handle = FfiHandles(Recorder()), Handle(7)
    handles.made(handle, frame_in(SDK + "track.py"))
    reference = weakref.ref(handle)
    gc.disable()
    try:
        del handle
        assert reference() is None
    finally:
        gc.enable()


def test_lines_that_make_handles_are_remembered_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffi_handles, "_MAKERS_KEPT", 3)
    handles = FfiHandles(Recorder())
    for number in range(1, 11):
        handles.made(Handle(number), frame_in(SDK + "track.py"))
    assert live(handles) == {"track": 10}
    assert len(handles._makers) == 3


def test_threads_that_make_and_drop_lose_no_count() -> None:
    handles, track, stream = FfiHandles(Recorder()), frame_in(SDK + "track.py"), frame_in(SDK + "audio_stream.py")

    def body(first: int) -> None:
        for number in range(first, first + 5000):
            handles.made(Handle(number), track if number % 2 else stream)
            if number % 10:
                handles.dropped(Handle(number), None)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        workers = [threading.Thread(target=body, args=(1 + 5000 * worker,)) for worker in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(before)
    assert (len(handles.live), live(handles)) == (2000, {"stream": 2000})  # every tenth


def test_rooms_own_handle_is_seen_to_go_once(armed: Armed) -> None:
    handles, handle = armed.context.resources.handles, Handle(7)
    handles.of_room(7, 3)
    handles.made(handle, frame_in(SDK + "room.py", "connect"))
    handles.of_room(7, 4)
    handles.dropped(handle, None)
    handles.dropped(handle, None)
    assert armed.seen(RoomHandleDropped) == [RoomHandleDropped(4)]


def test_all_kinds_are_stated_once_the_sdk_is_there() -> None:
    handles = FfiHandles(Recorder())
    assert handles.by_kind() == ""
    handles.known = True
    handles.made(Handle(1), frame_in(SDK + "track.py"))
    assert dict(pair.split("=") for pair in handles.by_kind().split("\x1e")) == {**dict.fromkeys(KINDS, "0"), "track": "1"}


FORKED = """
import os
from livekit import rtc
from race_watch import agent
kept = [rtc.FfiHandle(number) for number in (1, 2, 3)]
handles = agent.current().context.resources.handles
print(len(handles.live), flush=True)
child = os.fork()
if not child:
    kept[0].dispose()
    more = rtc.FfiHandle(4)
    print(len(handles.live), flush=True)
    os._exit(0)
os.waitpid(child, 0)
kept[0].dispose()
print(len(handles.live))
"""


def test_child_of_a_fork_has_none_of_its_parents_handles(tmp_path: Path, run_dir: Path) -> None:
    variables = watched_environment(run_dir, after=[fake_livekit(tmp_path / "fake")])
    assert checked(python(FORKED, variables)) == "3\n1\n2\n"


MADE_BEFORE = """
import weakref
from livekit.rtc import _ffi_client
_ffi_client._live_handles = weakref.WeakSet()
kept = [_ffi_client.FfiHandle(number) for number in (0, 1, 2)]
kept[1].dispose()
_ffi_client._live_handles.update(kept)
import race_watch
from race_watch import agent
undo = race_watch.install()
handles = agent.current().context.resources.handles
print(len(handles.live))
kept[2].mark_consumed()
print(len(handles.live))
undo()
kept.append(_ffi_client.FfiHandle(3))
print(len(handles.live))
"""


def test_handles_from_before_are_counted_where_the_sdk_knows_them_and_undo_ends_it(tmp_path: Path, run_dir: Path) -> None:
    path = f"{PACKAGE.parent}:{fake_livekit(tmp_path / 'fake')}"
    variables = bare_environment(PYTHONPATH=path, RACE_WATCH_RUN_DIR=str(run_dir), RACE_WATCH_WATCHER="none")
    assert checked(python(MADE_BEFORE, variables)) == "1\n0\n0\n"
