"""The way into the journal: identities as keyed hashes, free text without people and keys, strikes told."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from arming import Armed

from race_watch.events import HookStruck
from race_watch.hooks import recorder as recorder_module
from race_watch.hooks.recorder import Recorder
from race_watch.journal import layout


def attached(key: bytes = b"k" * 16, *, plain: bool = False) -> tuple[Recorder, list[tuple[int, str]], list[int]]:
    recorder, emitted, counted = Recorder(), [], []  # type: ignore[var-annotated]
    recorder.attach(lambda code, body: emitted.append((code, body)), counted.append, "00ff", key, plain=plain)
    return recorder, emitted, counted


def test_recorder_without_a_journal_does_nothing() -> None:
    recorder = Recorder()
    recorder.state(HookStruck, "hook", "error", 1)
    recorder.count(0)
    recorder.guard("hook").on_strike("hook", "error", False)
    assert recorder.nonce == ""


def test_detached_recorder_is_silent_again() -> None:
    recorder, emitted, counted = attached()
    recorder.state(HookStruck, "hook", "error", 1)
    recorder.detach()
    recorder.state(HookStruck, "hook", "error", 1)
    recorder.count(0)
    assert (len(emitted), counted) == (1, [])


def test_identity_is_the_same_for_a_key_and_nobody_else() -> None:
    one, again, other = (attached(key)[0] for key in (b"a" * 16, b"a" * 16, b"b" * 16))
    hashed = one.identity("sip_+15551234567")
    assert hashed == again.identity("sip_+15551234567") == one.identity("sip_+15551234567")
    assert hashed != other.identity("sip_+15551234567")
    assert hashed != one.identity("sip_+15551234568")
    assert hashed.startswith("id:")
    assert len(hashed) == 15
    assert one.identity("") == ""


def test_identity_with_lone_surrogates_is_hashed_too() -> None:
    assert attached()[0].identity("\udcff").startswith("id:")


def test_plain_identities_are_kept_and_cleaned() -> None:
    recorder = attached(plain=True)[0]
    assert recorder.identity("jane\x1fdoe\n") == "jane doe "
    assert len(recorder.identity("x" * 500)) == 128


def test_new_journal_forgets_whom_the_old_one_knew() -> None:
    recorder = attached()[0]
    recorder.identity("caller-jane")
    recorder.attach(lambda *_: None, lambda *_: None, "11", b"x" * 16, plain=False)
    assert recorder.scrub("caller-jane") == "caller-jane"


def test_identities_take_bounded_memory_and_the_latest_are_known() -> None:
    recorder = attached()[0]
    for number in range(5000):
        recorder.identity(f"caller-{number}-x")
    assert len(recorder._identities) + len(recorder._older) <= 2 * recorder_module._KNOWN_IDENTITIES
    for number in range(5000 - recorder_module._KNOWN_IDENTITIES, 5000):
        assert f"caller-{number}-x" not in recorder.scrub(f"no caller-{number}-x here")


def test_longest_identity_is_taken_out_first() -> None:
    for names in itertools.permutations(("caller", "caller-jane", "caller-jane-doe")):
        recorder = attached()[0]
        hashes = {name: recorder.identity(name) for name in names}
        assert recorder.scrub("caller-jane-doe, caller-jane, caller") == ", ".join(
            hashes[name] for name in ("caller-jane-doe", "caller-jane", "caller")
        )


def test_short_identities_stay_in_texts() -> None:
    recorder = attached()[0]
    recorder.identity("a")
    recorder.identity("an")
    assert recorder.scrub("an agent") == "an agent"


KEPT = [
    "cannot access local participant before connecting",
    "TR_AMbdz7Xkt2jQ9Y",
    "handle not found",
    "'AudioStream' object has no attribute '_ffi_handle'",
    "room disconnected while waiting for participant",
    "aclose(): asynchronous generator is already running",
    "timed out after 30.0s",
    "[Errno 111] Connect call failed ('::1', 8080)",
    "invalid literal for int() with base 10: 'no number'",
    "list index out of range",
    "risk-free",
]


@pytest.mark.parametrize("text", KEPT)
def test_messages_that_signatures_live_on_are_left_alone(text: str) -> None:
    assert attached()[0].scrub(text) == text


SCRUBBED = {
    "Bearer abc": "Bearer <secret>",
    "access_token=abc&x=1": "access_token=<secret>",
    "API_SECRET: s3cret!": "API_SECRET: <secret>",
    '{"password": "x"}': '{"password": <secret>',
    "mail jane@example.org now": "mail <e-mail> now",
    "call +49 151 12345678 now": "call <number> now",
    "key 0123456789abcdef0123456789abcdef": "key <key>",
    "sk-ant-api03-abcdefgh_ij": "<key>",
    "eyJabc.def.ghi and": "<token> and",
}


@pytest.mark.parametrize("text", SCRUBBED)
def test_secrets_leave_a_word_in_their_place(text: str) -> None:
    assert attached()[0].scrub(text) == SCRUBBED[text]


HOSTILE = ["a" * 30_000, "1" * 2048, "a1-" * 680, "@" * 2048, "a@" * 1024, "a@b." * 512, "eyJ" * 680, "eyJ." * 512, "1(" * 1024]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:4])
def test_no_text_makes_scrubbing_slow(text: str) -> None:
    recorder = attached()[0]
    for number in range(2048):
        recorder.identity(f"caller-{number}-x")
    before = time.thread_time()
    recorder.scrub(text)
    assert time.thread_time() - before < 1


def test_identities_may_come_while_a_text_is_scrubbed() -> None:
    recorder, stop, failures = attached()[0], threading.Event(), []

    def learn() -> None:
        try:
            for number in itertools.count():
                recorder.identity(f"caller-{number}")
                if stop.is_set():
                    return
        except Exception as error:  # noqa: BLE001 - the test's own report
            failures.append(error)

    threads = [threading.Thread(target=learn) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        recorder.scrub("nobody is here")
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not failures


def test_strikes_are_counted_and_stated(armed: Armed) -> None:
    def broken() -> None:
        raise ValueError

    body = armed.context.recorder.guard("mine").wrap(broken)
    for _ in range(5):
        body()
    armed.strikes = 3
    assert armed.seen(HookStruck) == [HookStruck("mine", "ValueError", off) for off in (0, 0, 1)]
    assert armed.counters()["hook_errors"] == 3


@pytest.mark.parametrize("error", [ValueError, TypeError, RecursionError, MemoryError])
def test_strike_that_cannot_be_told_is_lost(error: type[Exception]) -> None:
    def broken(*_: object) -> None:
        raise error

    recorder = Recorder()
    recorder.attach(broken, broken, "00", b"", plain=False)
    guard = recorder.guard("mine")
    body = guard.wrap(broken)
    for _ in range(5):
        body()
    assert guard.off


def test_counters_have_the_names_that_are_counted() -> None:
    _, _, counted = attached()
    recorder, _, counted = attached()
    recorder.guard("mine").wrap(lambda: 1 / 0)()
    assert counted == [layout.COUNTER_INDEX["hook_errors"]]
