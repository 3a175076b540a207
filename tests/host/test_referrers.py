"""Who holds a native handle that should be gone: a chain of names, stated rarely, of a kind that has grown; nothing is kept."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from arming import Armed
from interpreters import checked, fake_livekit, python, read_journals, watched_environment
from test_ffi_handles import SDK, frame_in

from race_watch.events import HandleHeld
from race_watch.hooks import referrers
from race_watch.hooks.ffi_handles import FfiHandles
from race_watch.hooks.referrers import Referrers

TRACK = frame_in(SDK + "track.py")
AT_MODULE_LEVEL: list[object] = []


class Handle:
    def __init__(self, handle: int) -> None:
        self.handle = handle


class Publication:
    def __init__(self, handle: Handle) -> None:
        self._ffi_handle = handle


class Bot:
    def __init__(self) -> None:
        self.kept: list[Publication] = []


class Case:
    """Publications made one by one, as the SDK makes them, and looks in between."""

    def __init__(self, armed: Armed, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(referrers, "monotonic_s", lambda: self.now_s)
        self._armed = armed
        self._number = 0
        self.handles = FfiHandles(armed.context.recorder)
        self.handles.objects = {}
        self.look = Referrers(armed.context.recorder, self.handles).look

    def publications(self, count: int) -> list[Publication]:
        made = []
        for _ in range(count):
            self._number += 1
            handle = Handle(self._number)
            self.handles.made(handle, TRACK)
            made.append(Publication(handle))
        return made

    def grown(self, count: int = 16) -> list[Publication]:
        """Publications that were not there at the first look."""
        self.look()
        return self.publications(count)

    def held(self) -> list[HandleHeld]:
        self.look()
        return self._armed.seen(HandleHeld)


@pytest.fixture
def case(armed: Armed, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(armed, monkeypatch)


def test_chain_leads_from_the_handle_to_who_keeps_it(case: Case) -> None:
    bot = Bot()
    bot.kept += case.grown()
    (held,) = case.held()
    assert held.kind == "track"
    assert held.chain[:3] == (f"{__name__}.Publication", "list", f"{__name__}.Bot")


def test_chain_ends_at_a_module(case: Case) -> None:
    AT_MODULE_LEVEL.extend(case.grown())
    try:
        (held,) = case.held()
    finally:
        AT_MODULE_LEVEL.clear()
    assert held.chain == (f"{__name__}.Publication", "list", f"{__name__}:AT_MODULE_LEVEL")


HOLDS = """
import sys, time
from livekit import rtc
from race_watch import agent
context = agent.current().context
print("race_watch.hooks.referrers" in sys.modules)
context.counting.start()
def look():
    # Each begins with the limit, when the one before has ended.
    context.resources.fd_limit = 0
    while not context.resources.fd_limit:
        time.sleep(0.02)
look(); look()
kept = [rtc.FfiHandle(number) for number in range(1, 21)]
look(); look()
context.counting.stop()
"""


@pytest.mark.parametrize(("setting", "chains"), [("0", []), ("1", [("other", ("list", "__main__:kept"))])])
def test_holder_is_told_where_it_is_asked_for(tmp_path: Path, run_dir: Path, setting: str, chains: list[object]) -> None:
    variables = watched_environment(
        run_dir, after=[fake_livekit(tmp_path / "fake")], RACE_WATCH_COUNT_EVERY_S="1", RACE_WATCH_REFERRERS=setting
    )
    assert checked(python(HOLDS, variables)) == f"{setting == '1'}\n"
    (journal,) = read_journals(run_dir)
    assert [(event.kind, event.chain) for event in journal.events if isinstance(event, HandleHeld)] == chains


@pytest.mark.parametrize(
    ("base", "grown", "stated"),
    [(0, 15, 0), (0, 16, 1), (5, 15, 0), (5, 16, 1), (20, 39, 0), (20, 40, 1)],
)
def test_kind_has_grown_when_it_is_twice_its_base(case: Case, base: int, grown: int, stated: int) -> None:
    kept = case.publications(base)
    case.look()
    kept += case.publications(grown - base)
    assert len(case.held()) == stated
    assert len(kept) == grown


def test_kind_is_looked_at_again_after_ten_minutes_and_at_a_new_maximum(case: Case) -> None:
    kept = case.grown()
    assert len(case.held()) == 1
    kept += case.publications(50)
    assert len(case.held()) == 1
    case.now_s += 601
    assert len(case.held()) == 2
    case.now_s += 601
    assert len(case.held()) == 2
    kept += case.publications(1)
    assert len(case.held()) == 3


def test_link_that_took_too_long_is_the_last(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    bot = Bot()
    bot.kept += case.grown()
    found = gc.get_referrers

    def slow(*objects: object) -> list[object]:
        case.now_s += 0.06
        return found(*objects)

    monkeypatch.setattr(gc, "get_referrers", slow)
    (held,) = case.held()
    assert len(held.chain) <= 1


def test_handle_is_let_go_of_at_once(case: Case) -> None:
    kept = case.grown()
    case.look()
    references = [weakref.ref(publication._ffi_handle) for publication in kept]
    gc.disable()
    try:
        kept.clear()
        assert [reference() for reference in references] == [None] * 16
    finally:
        gc.enable()


def test_no_value_is_stated(case: Case) -> None:
    secret = {"caller +49 30 1234567": case.grown()}
    (held,) = case.held()
    assert "49" not in "".join(held.chain)
    assert secret


def function_that_keeps(publications: list[Publication]) -> Callable[[], list[Publication]]:
    def callback() -> list[Publication]:
        return publications

    return callback


def test_closure_is_named_by_its_function(case: Case) -> None:
    callback = function_that_keeps(case.grown())
    (held,) = case.held()
    assert held.chain[:2] == (f"{__name__}.Publication", "list")
    assert f"{__name__}:function_that_keeps.<locals>.callback" in held.chain
    assert callback()
