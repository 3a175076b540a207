"""The one broad `except` of the host half."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from race_watch.guard import STRIKES, Guard


class Strikes(list[tuple[str, str, bool]]):
    def __call__(self, hook: str, error: str, off: bool) -> None:
        self.append((hook, error, off))


@pytest.mark.parametrize("error", [ValueError, RecursionError, MemoryError, UnicodeError, StopIteration])
def test_error_of_the_body_is_counted_and_goes_no_further(error: type[Exception]) -> None:
    strikes = Strikes()

    def body(value: object) -> None:
        raise error

    assert Guard("a_hook", strikes).wrap(body)(1) is None  # type: ignore[func-returns-value]
    assert strikes == [("a_hook", error.__name__, False)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_error_belongs_to_the_host(error: type[BaseException]) -> None:
    strikes = Strikes()

    def body() -> None:
        raise error

    with pytest.raises(error):
        Guard("a_hook", strikes).wrap(body)()
    assert strikes == []


def test_cancellation_passes() -> None:
    import asyncio

    def body() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        Guard("a_hook", Strikes()).wrap(body)()


def test_hook_is_off_after_its_last_strike_with_all_its_bodies() -> None:
    strikes, calls = Strikes(), []

    def body() -> None:
        calls.append(1)
        raise ValueError

    guard = Guard("a_hook", strikes)
    first, second = guard.wrap(body), guard.wrap(body)
    for _ in range(STRIKES):
        first()
        second()
    assert len(calls) == STRIKES
    assert [off for _, _, off in strikes] == [False] * (STRIKES - 1) + [True]


def test_result_of_the_body_does_not_leak_into_the_host() -> None:
    assert Guard("a_hook", Strikes()).wrap(lambda: 5)() is None  # type: ignore[func-returns-value]


def test_report_that_fails_too_goes_no_further() -> None:
    def report(hook: str, error: str, off: bool) -> None:
        raise ValueError("the journal is closed")

    def body() -> None:
        raise ValueError

    guard = Guard("a_hook", report)
    guard.wrap(body)()
    assert guard.strikes == 1


def test_host_near_its_recursion_limit_is_not_ended_by_our_frames() -> None:
    """At each depth at which the guarded call could begin at all it must return."""
    failures: list[str] = []

    def body(value: Any) -> Any:
        return [[[value]]] and (lambda: (lambda: (lambda: value)())())()

    def report(hook: str, error: str, off: bool) -> None:
        (lambda: (lambda: None)())()

    guarded = Guard("a_hook", report).wrap(body)

    def as_deep_as_the_host_itself_needs(left: int) -> int:
        return left and as_deep_as_the_host_itself_needs(left - 1)

    def descend(left: int) -> None:
        if left:
            descend(left - 1)
            return
        # The host's own call needs one frame more than entering the guard does; if it has that, so have we.
        try:
            as_deep_as_the_host_itself_needs(1)
        except RecursionError:
            return
        try:
            guarded(1)
        except RecursionError as error:
            failures.append(str(error))

    limit = sys.getrecursionlimit()
    for depth in range(limit - 150, limit):
        try:
            descend(depth)
        except RecursionError:
            break
    assert failures == []


def test_guard_is_silent_while_the_interpreter_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    import race_watch.guard

    monkeypatch.setattr(race_watch.guard, "_finalizing", lambda: True)
    calls: list[int] = []
    Guard("a_hook", Strikes()).wrap(calls.append)(1)
    assert calls == []


def test_body_of_two_arguments_is_guarded_alike() -> None:
    strikes, calls = Strikes(), []

    def body(first: object, second: type[BaseException]) -> None:
        calls.append(first)
        raise second

    guarded = Guard("a_hook", strikes).wrap_two(body)
    with pytest.raises(KeyboardInterrupt):
        guarded(0, KeyboardInterrupt)
    for number in range(1, STRIKES + 2):
        guarded(number, ValueError)
    assert calls == list(range(STRIKES + 1))
    assert [off for _, _, off in strikes] == [False] * (STRIKES - 1) + [True]
