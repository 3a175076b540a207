"""Replaced attributes: like the originals while they stand, and put back without harm to whoever came later."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interpreters import checked, fake_livekit, python, read_journals, watched_environment

from race_watch.events import HookInstalled, HookStruck
from race_watch.hooks.patching import Patches


class Base:
    def inherited(self) -> str:
        return "inherited"


class Target(Base):
    def method(self, value: int = 1, *, key: str = "k") -> str:
        """Documented."""
        return f"{value}{key}"

    @property
    def prop(self) -> str:
        return "prop"


def wrapping(tag: str, seen: list[str]) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def replacement(self: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(tag)
            return original(self, *args, **kwargs)

        return replacement

    return make


def test_undo_restores_what_was_there() -> None:
    before = dict(vars(Target))
    patches, seen = Patches(), []
    patches.replace(Target, "method", wrapping("ours", seen))
    patches.replace(Target, "inherited", wrapping("ours", seen))
    patches.replace(Target, "prop", lambda original: property(lambda self: original.fget(self)))
    assert (Target().method(), Target().inherited(), Target().prop) == ("1k", "inherited", "prop")
    assert seen == ["ours", "ours"]
    assert patches.undo() == []
    assert dict(vars(Target)) == before
    assert "inherited" not in vars(Target)
    assert patches.undo() == []


def test_missing_target_is_an_attribute_error_and_changes_nothing() -> None:
    before = dict(vars(Target))
    with pytest.raises(AttributeError, match="no_such"):
        Patches().replace(Target, "no_such", wrapping("ours", []))
    assert dict(vars(Target)) == before


@pytest.mark.parametrize("other_restores", [True, False])
def test_undo_of_the_first_leaves_the_wrap_of_the_second_working(monkeypatch: pytest.MonkeyPatch, other_restores: bool) -> None:
    original = Target.method
    seen: list[str] = []
    monkeypatch.setattr(Target, "method", original)
    ours = Patches()
    ours.replace(Target, "method", wrapping("ours", seen))
    under = Target.method
    theirs = functools.wraps(under)(wrapping("theirs", seen)(under))
    Target.method = theirs  # type: ignore[method-assign]
    assert ours.undo() == ["Target.method"]
    assert Target().method() == "1k"
    assert seen == ["theirs", "ours"]
    assert Target.method is theirs
    if other_restores:
        Target.method = under  # type: ignore[method-assign]
        assert Target().method() == "1k"


def test_a_hook_that_is_undone_first_still_lets_the_later_one_be_undone() -> None:
    before = dict(vars(Target))
    first, second, seen = Patches(), Patches(), []
    first.replace(Target, "method", wrapping("first", seen))
    second.replace(Target, "method", wrapping("second", seen))
    assert first.undo() == ["Target.method"]
    assert second.undo() == []
    assert Target().method() == "1k"
    assert seen == ["first"]
    Target.method = before["method"]  # type: ignore[method-assign]


# The real hooks, in a real process

_COMPARE = """
import asyncio, functools, inspect, json, logging, pickle
try:
    import uvloop
except ImportError:
    uvloop = None
import livekit.rtc
from livekit.rtc import _ffi_client, participant, room

def look(owner, name):
    value = inspect.getattr_static(owner, name)
    if isinstance(value, property):
        return ["property", value.__doc__, value.fset is None, str(inspect.signature(value.fget))]
    try:
        pickled = pickle.loads(pickle.dumps(getattr(owner, name))) is getattr(owner, name)
    except Exception as error:
        pickled = type(error).__name__
    fields = [str(getattr(value, field, None)) for field in functools.WRAPPER_ASSIGNMENTS]
    try:
        signature = str(inspect.signature(value))
    except ValueError:
        signature = "none"
    kinds = [inspect.isfunction(value), inspect.iscoroutinefunction(value), asyncio.iscoroutinefunction(value)]
    inherited = name in vars(type("Sub", (owner,), {}))
    return [fields, signature, kinds, pickled, inherited, bool(inspect.getsource(value)) if inspect.isfunction(value) else ""]
"""
_TARGETS = [
    "asyncio.BaseEventLoop create_task",
    "asyncio.BaseEventLoop call_exception_handler",
    "asyncio.BaseEventLoop __init__",
    "asyncio.BaseEventLoop close",
    "logging.Logger callHandlers",
    "livekit.rtc.Room connect",
    "livekit.rtc.Room disconnect",
    "livekit.rtc.Room local_participant",
    "livekit.rtc.Room _on_room_event",
    "participant.LocalParticipant publish_track",
    "participant.LocalParticipant unpublish_track",
    "_ffi_client.FfiClient request",
    "_ffi_client.FfiHandle __init__",
    "_ffi_client.FfiHandle dispose",
    "_ffi_client.FfiHandle mark_consumed",
]
_LOOK_TWICE = """
import race_watch
targets = json.loads('''TARGETS''')
pairs = [(eval(owner), name) for owner, name in (target.split() for target in targets)]
originals = [vars(owner)[name] for owner, name in pairs]
before = [look(owner, name) for owner, name in pairs]
undo = race_watch.install()
replaced = [vars(owner)[name] is not original for (owner, name), original in zip(pairs, originals)]
after = [look(owner, name) for owner, name in pairs]
left = undo()
restored = [vars(owner)[name] is original for (owner, name), original in zip(pairs, originals)]
print(json.dumps([replaced, before, after, restored, left]))
"""


def test_every_patched_attribute_looks_like_the_original_and_comes_back(tmp_path: Path, run_dir: Path) -> None:
    fake = fake_livekit(tmp_path / "fake")
    environment = watched_environment(run_dir, PYTHONPATH=str(fake))
    source = _COMPARE + _LOOK_TWICE.replace("TARGETS", json.dumps(_TARGETS))
    replaced, before, after, restored, left = json.loads(
        checked(python(source, environment, flags=["-W", "ignore::DeprecationWarning"]))
    )
    assert dict(zip(_TARGETS, replaced, strict=True)) == dict.fromkeys(_TARGETS, True)
    assert dict(zip(_TARGETS, after, strict=True)) == dict(zip(_TARGETS, before, strict=True))
    assert dict(zip(_TARGETS, restored, strict=True)) == dict.fromkeys(_TARGETS, True)
    assert left == []


def test_the_trap_for_the_first_loop_looks_like_the_original(run_dir: Path) -> None:
    source = """
import asyncio, functools, inspect
make = asyncio.BaseEventLoop.__init__
print([getattr(make, field, None) for field in functools.WRAPPER_ASSIGNMENTS if "annot" not in field], inspect.signature(make))
print(hasattr(make, "__wrapped__"))
"""
    bare = checked(python(source, watched_environment(run_dir, RACE_WATCH="0")))
    watched = checked(python(source, watched_environment(run_dir)))
    assert watched.splitlines()[0] == bare.splitlines()[0]
    assert (bare.splitlines()[1], watched.splitlines()[1]) == ("False", "True")


HOOKS = {
    "log_records",
    "process_end",
    "asyncio_loops",
    "asyncio_tasks",
    "ffi_handles",
    "counting",
    "ffi_panics",
    "ffi_requests",
    "room_calls",
    "room_events",
}
# What a new version of livekit may lack -> the file it is taken out of, how, and the hooks that need it.
MISSING = {
    "Room.connect": ("room", "del Room.connect", {"room_calls"}),
    "Room.disconnect": ("room", "del Room.disconnect", {"room_calls"}),
    "Room.local_participant": ("room", "del Room.local_participant", {"room_calls"}),
    "Room._on_room_event": ("room", "del Room._on_room_event", {"room_events"}),
    "LocalParticipant.publish_track": ("participant", "del LocalParticipant.publish_track", {"room_calls"}),
    "LocalParticipant.unpublish_track": ("participant", "del LocalParticipant.unpublish_track", {"room_calls"}),
    "FfiClient.request": ("_ffi_client", "del FfiClient.request", {"ffi_requests"}),
    "FfiClient": ("_ffi_client", "FfiClient = None", {"ffi_requests"}),
    "FfiHandle.dispose": ("_ffi_client", "del FfiHandle.dispose", {"ffi_handles"}),
    "FfiHandle.mark_consumed (before 1.1.21)": ("_ffi_client", "del FfiHandle.mark_consumed", set()),
    "module room": ("__init__", "import sys; sys.modules['livekit.rtc.room'] = None", {"room_calls", "room_events"}),
    "nothing": ("__init__", "", set()),
}


@pytest.mark.parametrize("missing", MISSING)
def test_hook_whose_target_is_missing_is_off_alone_and_says_so(tmp_path: Path, run_dir: Path, missing: str) -> None:
    module, removal, off = MISSING[missing]
    fake = fake_livekit(tmp_path / "fake")
    with open(fake / "livekit" / "rtc" / f"{module}.py", "a") as source:
        source.write(f"\n{removal}\n")
    host = "import asyncio, livekit.rtc; asyncio.new_event_loop().close(); print('ran')"
    assert checked(python(host, watched_environment(run_dir, after=[fake]))) == "ran\n"
    [journal] = read_journals(run_dir)
    struck = {event.hook for event in journal.events if isinstance(event, HookStruck) and event.off}
    installed = {event.hook for event in journal.events if isinstance(event, HookInstalled)}
    assert struck == off
    assert installed == HOOKS - off


def test_hook_that_fails_half_way_has_changed_nothing(tmp_path: Path, run_dir: Path) -> None:
    fake = fake_livekit(tmp_path / "fake")
    with open(fake / "livekit" / "rtc" / "room.py", "a") as source:
        source.write("\ndel Room.local_participant\n")
    host = """
import asyncio, livekit.rtc
asyncio.new_event_loop().close()
room = livekit.rtc.Room
print([hasattr(method, "__wrapped__") for method in (room.connect, room.disconnect, room._on_room_event)])
"""
    assert checked(python(host, watched_environment(run_dir, after=[fake]))) == "[False, False, True]\n"
