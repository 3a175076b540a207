"""What is found on a worker's stderr: real texts of native deaths, in any pieces, and nothing in what others print."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from race_watch.events import StderrTold, decode
from race_watch.stderr.lines import LINE_BYTES, MESSAGE_CHARS, PLACES_A_MINUTE, SAME_PLACE_S, THREADS_A_PLACE, StderrLines

FUZZ = settings(deadline=None, derandomize=True, database=None)


def told(*pieces: bytes) -> list[StderrTold]:
    lines = StderrLines()
    return [fact for piece in pieces for fact in lines.feed(piece, 0.0)] + lines.end(0.0)


def panic(place: str, message: str, thread: str = "main") -> StderrTold:
    return StderrTold("rust_panic", thread, place, message)


# As livekit 1.1.7 and 1.0.25 print it, for a DisconnectRequest with a stale handle.
LIVEKIT_1_1_7 = rb"""
thread 'tokio-rt-worker' (30904) panicked at livekit-ffi/src/server/requests.rs:75:77:
called `Result::unwrap()` on an `Err` value: InvalidRequest("handle not found")
stack backtrace:
note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.
"""
LIVEKIT_1_0_25 = rb"""
thread 'tokio-runtime-worker' (30934) panicked at livekit-ffi/src/server/requests.rs:70:77:
called `Result::unwrap()` on an `Err` value: InvalidRequest("handle not found")
stack backtrace:
note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.
FFI Panic:  task 35 panicked with message "called `Result::unwrap()` on an `Err` value: InvalidRequest(\"handle not found\")"
"""
UNWRAPPED = 'called `Result::unwrap()` on an `Err` value: InvalidRequest("handle not found")'

TEXTS: dict[str, tuple[bytes, list[StderrTold]]] = {
    "livekit 1.1.7": (
        LIVEKIT_1_1_7,
        [panic("livekit-ffi/src/server/requests.rs:75:77", UNWRAPPED, "tokio-rt-worker (30904)")],
    ),
    "livekit 1.0.25": (
        LIVEKIT_1_0_25,
        [
            panic("livekit-ffi/src/server/requests.rs:70:77", UNWRAPPED, "tokio-runtime-worker (30934)"),
            StderrTold("ffi_panic", "", "", 'task 35 panicked with message "' + UNWRAPPED.replace('"', '\\"') + '"'),
        ],
    ),
    "ready for room event": (
        b"FFI Panic:  invalid request: timed out waiting for ReadyForRoomEventRequest after ConnectCallback (room_handle=5)\n",
        [
            StderrTold(
                "ffi_panic",
                "",
                "",
                "invalid request: timed out waiting for ReadyForRoomEventRequest after ConnectCallback (room_handle=5)",
            )
        ],
    ),
    "without a thread's number": (b"thread 'main' panicked at src/main.rs:4:5:\nno\n", [panic("src/main.rs:4:5", "no")]),
    "without a thread's name": (
        b"thread '<unnamed>' panicked at src/lib.rs:10:9:\nexplicit panic\nnote: run with `RUST_BACKTRACE=1`\n",
        [panic("src/lib.rs:10:9", "explicit panic", "<unnamed>")],
    ),
    "with indented lines": (
        b"thread 'main' panicked at src/main.rs:2:5:\nassertion `left == right` failed\n  left: 1\n right: 2\nnote: run with",
        [panic("src/main.rs:2:5", "assertion `left == right` failed left: 1 right: 2")],
    ),
    "without a message": (
        b"thread 'main' panicked at src/main.rs:2:5:\nnote: run with `RUST_BACK",
        [panic("src/main.rs:2:5", "")],
    ),
    "path with spaces": (b"thread 'main' panicked at /a b/src/main.rs:2:5:\nno\n", [panic("/a b/src/main.rs:2:5", "no")]),
    "quoted": (
        b"thread 'main' panicked at 'index out of bounds: the len is 3 but the index is 99', src/main.rs:4:5\nnote: run with",
        [panic("src/main.rs:4:5", "index out of bounds: the len is 3 but the index is 99")],
    ),
    "quoted on several lines": (
        b"thread 'w' panicked at 'assertion failed: `(left == right)`\n  left: `1`,\n right: `2`', src/main.rs:2:5\nlater\n",
        [panic("src/main.rs:2:5", "assertion failed: `(left == right)`   left: `1`,  right: `2`", "w")],
    ),
    "quoted with a quote": (b"thread 'w' panicked at 'it's', a', b.rs:1:2\n", [panic("b.rs:1:2", "it's', a", "w")]),
    "cannot unwind": (
        b"thread 'tokio-rt-worker' panicked at library/core/src/panicking.rs:221:5:\n"
        b"panic in a function that cannot unwind\nstack backtrace:\nthread caused non-unwinding panic. aborting.\n",
        [panic("library/core/src/panicking.rs:221:5", "panic in a function that cannot unwind", "tokio-rt-worker")],
    ),
    "one behind the other": (
        b"thread 'a' panicked at a.rs:1:1:\none\nthread 'b' panicked at b.rs:2:2:\ntwo\n",
        [panic("a.rs:1:1", "one", "a"), panic("b.rs:2:2", "two", "b")],
    ),
    "two at the same time": (
        b"thread 'a' panicked at a.rs:1:1:\nthread 'b' panicked at b.rs:2:2:\none\ntwo\n",
        [panic("a.rs:1:1", "", "a"), panic("b.rs:2:2", "one", "b")],
    ),
    "stack overflow": (
        b"\nthread 'main' has overflowed its stack\nfatal runtime error: stack overflow, aborting\n",
        [panic("", "fatal runtime error: stack overflow, aborting", "")],
    ),
    "out of memory": (
        b"memory allocation of 16777216 bytes failed\n",
        [panic("", "memory allocation of 16777216 bytes failed", "")],
    ),
    "in colours": (
        b"\x1b[31m\x1b[1mthread 'main' panicked at src/main.rs:4:5:\x1b[0m\n\x1b[1mno\x1b[0m\r\n"
        b"\x1b[31mfree(): invalid size\x1b[0m\n",
        [panic("src/main.rs:4:5", "no"), StderrTold("glibc", "", "", "free(): invalid size")],
    ),
    "behind what has no line end": (b"50 %\rthread 'a' panicked at a.rs:1:1:\none\n", [panic("a.rs:1:1", "one", "a")]),
    "without a line end": (b"malloc(): corrupted top size", [StderrTold("glibc", "", "", "malloc(): corrupted top size")]),
    "no UTF-8": (b"thread 'a' panicked at a.rs:1:1:\n\xff\xfe\n", [panic("a.rs:1:1", "\ufffd\ufffd", "a")]),
    "malloc": (
        b"malloc(): unsorted double linked list corrupted\n",
        [StderrTold("glibc", "", "", "malloc(): unsorted double linked list corrupted")],
    ),
    "double free": (
        b"double free or corruption (!prev)\n",
        [StderrTold("glibc", "", "", "double free or corruption (!prev)")],
    ),
    "double-linked": (
        b"corrupted double-linked list\n",
        [StderrTold("glibc", "", "", "corrupted double-linked list")],
    ),
    "munmap": (b"munmap_chunk(): invalid pointer\n", [StderrTold("glibc", "", "", "munmap_chunk(): invalid pointer")]),
    "old glibc": (
        b"*** Error in `python': free(): invalid pointer: 0x00007f1b4c0008c0 ***\n",
        [StderrTold("glibc", "", "", "*** Error in `python': free(): invalid pointer: 0x00007f1b4c0008c0 ***")],
    ),
    "new glibc": (
        b"Fatal glibc error: malloc.c:2599 (sysmalloc): assertion failed: (old_top == initial_top (av) && old_size == 0)\n",
        [
            StderrTold(
                "glibc",
                "",
                "malloc.c:2599",
                "(sysmalloc): assertion failed: (old_top == initial_top (av) && old_size == 0)",
            )
        ],
    ),
    "libwebrtc": (
        b"\n\n#\n# Fatal error in: ../../pc/sdp_offer_answer.cc, line 1234\n# last system error: 11\n"
        b"# Check failed: transceiver (1 vs. 2)\n# no transceiver",
        [
            StderrTold(
                "cpp_abort", "", "../../pc/sdp_offer_answer.cc:1234", "Check failed: transceiver (1 vs. 2) no transceiver"
            )
        ],
    ),
    "libc++": (
        b"libc++abi: terminating due to uncaught exception of type std::bad_alloc: std::bad_alloc\n",
        [StderrTold("cpp_abort", "", "", "terminating due to uncaught exception of type std::bad_alloc: std::bad_alloc")],
    ),
    "libstdc++": (
        b"terminate called after throwing an instance of 'std::runtime_error'\n  what():  no device\nmore\n",
        [
            StderrTold(
                "cpp_abort",
                "",
                "",
                "terminate called after throwing an instance of 'std::runtime_error' what():  no device",
            )
        ],
    ),
}


@pytest.mark.parametrize(("text", "facts"), TEXTS.values(), ids=TEXTS)
def test_text_is_found_among_other_lines(text: bytes, facts: list[StderrTold]) -> None:
    assert told(b"INFO livekit ready\n" + text) == facts
    assert [fact.kind for fact in told(text + (b"" if text.endswith(b"\n") else b"\n") + b"INFO bye\n")] == [
        f.kind for f in facts
    ]


@FUZZ
@given(st.data())
def test_pieces_do_not_matter(data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.sampled_from([text for text, _ in TEXTS.values()]), max_size=4))
    junk = st.binary(max_size=60) | st.sampled_from([b"\n", b"\r\n", b"thread 'x", b" panicked at ", b"x" * (LINE_BYTES + 5)])
    stream = b"".join(piece for text in texts for piece in (text, data.draw(junk)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert told(*pieces) == told(stream)
    assert told(*(stream[i : i + 1] for i in range(len(stream)))) == told(stream)


ORDINARY = {
    "record": b"2026-11-21 10:00:00,000 ERROR livekit participant disconnected\n",
    "traceback": b'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\nRuntimeError: corrupted size\n',
    "quoted in JSON": b'{"message": "thread \'a\' panicked at a.rs:1:1:\\nboom", "level": "INFO"}\n',
    "glibc's words of another": b"ERROR app job died: free(): invalid pointer\nWARNING malloc() is slow\nmalloc: 5 blocks\n",
    "python's words of another": b"INFO caught Fatal Python error: Aborted\nFatal error, giving up\n",
    "rust's words of another": b"the pilot panicked at noon\nthread 'a' panicked at the disco\nmain thread 'a' panicked\n",
    "headings": b"# Fatal error in our tooling\n*** done ***\n*** 3 faces detected ***!\n",
    "words of C++": b"terminating worker\nterminate called for by the operator\n",
    "assertion of Python": b"AssertionError: Assertion `x' failed.\n",
    "prompts": b"> \n$ \n\r50 %\r60 %\n",
    "junk": bytes(range(256)) * 64,
}


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_other_lines_tell_nothing(text: bytes) -> None:
    assert told(text) == []


NATIVE = {
    "double free": (
        "libc.malloc.restype = c.c_void_p; p = c.c_void_p(libc.malloc(64)); libc.free(p); libc.free(p)",
        "glibc",
        "free",
    ),
    "stack": ("libc.__stack_chk_fail()", "glibc", "stack smashing"),
    "buffer": ("libc.__chk_fail()", "glibc", "buffer overflow"),
    "assertion": ("libc.__assert_fail(b'x > 0', b'mix.c', 12, b'mix')", "glibc", "mix: Assertion `x > 0' failed."),
    "crash with faulthandler": (
        "import faulthandler; faulthandler.enable(); c.string_at(0)",
        "python_fatal",
        "Segmentation fault",
    ),
    "abort with faulthandler": ("import faulthandler; faulthandler.enable(); libc.abort()", "python_fatal", "Aborted"),
    "fatal error": ("c.pythonapi.Py_FatalError(b'no way')", "python_fatal", "no way"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's texts")
@pytest.mark.parametrize(("source", "kind", "words"), NATIVE.values(), ids=NATIVE)
def test_text_of_a_real_death_is_found(source: str, kind: str, words: str) -> None:
    script = f"import ctypes as c; libc = c.CDLL(None); {source}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert done.returncode < 0
    (fact,) = told(done.stderr)
    assert fact.kind == kind
    assert words in fact.message


def test_secrets_are_not_carried_on() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJBUEkifQ.s3cr3t"
    message = f"connect with {token} for alice@example.com, +49 170 1234567, api_key=hunter2 failed".encode()
    for text in (
        b"thread 'a' panicked at a.rs:1:1:\n" + message,
        b"FFI Panic:  " + message,
        b"Fatal Python error: " + message,
        b"thread 'a' panicked at '" + message + b"', a.rs:1:1",
    ):
        (fact,) = told(text + b"\n")
        assert "<token>" in fact.message
        for secret in (token, "eyJ", "alice", "1234567", "hunter2"):
            assert secret not in fact.message


def test_secret_across_the_cut_is_not_carried_on() -> None:
    token = b"eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJBUEkifQ.s3cr3t"
    for before in range(MESSAGE_CHARS - len(token) - 2, MESSAGE_CHARS + 2):
        (fact,) = told(b"FFI Panic:  " + b"." * before + b" " + token + b"\n")
        assert "eyJ" not in fact.message


def test_facts_are_bounded_and_can_be_written_down() -> None:
    (fact,) = told(b"thread '" + b"t" * 60 + b"' panicked at " + b"p" * 390 + b":1:1:\n" + b"\x1f\x1e\t m" * 4000 + b"\n")
    assert len(fact.thread) + len(fact.place) + len(fact.message) <= 64 + 200 + 300
    values = (fact.kind, fact.thread, fact.place, fact.message)
    assert decode(StderrTold.code, StderrTold.body(*values)) == fact


def test_line_without_an_end_takes_no_memory() -> None:
    lines = StderrLines()
    for _ in range(200):
        lines.feed(b"x" * 50_000, 0.0)
    assert len(lines._rest) == LINE_BYTES
    assert lines.feed(b"free(): invalid pointer\nfree(): invalid size\n", 0.0) == [
        StderrTold("glibc", "", "", "free(): invalid size")
    ]


def test_storm_of_one_place_is_told_from_time_to_time_and_hides_no_other() -> None:
    lines = StderrLines()
    storm = b"".join(b"thread 'a' panicked at a.rs:1:1:\nsurvived %d\n" % n for n in range(1000))
    assert [fact.message for fact in lines.feed(storm, 0.0)] == ["survived 0"]
    last = b"thread 'a' panicked at b.rs:2:2:\nnot survived\nbye\n"
    assert [fact.place for fact in lines.feed(last, 0.1)] == ["b.rs:2:2"]
    assert lines.feed(storm, SAME_PLACE_S / 2) == []
    assert len(lines.feed(storm, SAME_PLACE_S)) == 1


def test_jobs_that_die_of_one_fault_at_once_are_each_told() -> None:
    deaths = [b"thread '<unnamed>' (%d) panicked at a.rs:1:1:\nattempt to divide by zero\n" % pid for pid in (23, 43, 68)]
    assert [fact.thread for fact in told(b"".join(deaths))] == ["<unnamed> (23)", "<unnamed> (43)", "<unnamed> (68)"]


def test_storm_of_many_threads_at_one_place_is_bounded_and_hides_no_other_place() -> None:
    storm = b"".join(b"thread 'a' (%d) panicked at a.rs:1:1:\nsurvived\n" % n for n in range(1000))
    last = b"thread 'a' (1) panicked at b.rs:2:2:\nnot survived\n"
    assert [fact.place for fact in told(storm + last)] == [*["a.rs:1:1"] * THREADS_A_PLACE, "b.rs:2:2"]


def test_storm_of_many_threads_at_one_place_is_told_of_again_after_a_while() -> None:
    def panic(number: int) -> bytes:
        return b"thread 'a' (%d) panicked at a.rs:1:1:\nnever mind\n" % number

    lines = StderrLines()

    def told_at(now_s: float, data: bytes) -> list[str]:
        return [fact.thread for fact in [*lines.feed(data, now_s), *lines.settle(now_s)]]

    assert len(told_at(1.0, b"".join(panic(n) for n in range(100)))) == THREADS_A_PLACE
    assert told_at(1.0 + SAME_PLACE_S, panic(200)) == ["a (200)"]
    assert told_at(1.1 + SAME_PLACE_S, panic(201)) == []
    assert told_at(1.0 + 2 * SAME_PLACE_S, panic(202)) == ["a (202)"]


def test_storm_of_many_places_is_bounded() -> None:
    storm = b"".join(b"thread 'a' panicked at a.rs:%d:1:\nsurvived\n" % n for n in range(1000))
    assert len(told(storm)) == PLACES_A_MINUTE


def test_message_is_waited_for_and_then_not() -> None:
    lines = StderrLines()
    assert lines.feed(b"thread 'a' panicked at a.rs:1:1:\nleft\n", 0.0) == []
    assert lines.waiting
    assert lines.feed(b"  1\n  partly", 0.0) == []
    assert lines.settle(0.2) == [panic("a.rs:1:1", "left 1 partly", "a")]
    assert not lines.waiting
    assert lines.feed(b" and the rest\nfree(): invalid size\n", 0.3) == [StderrTold("glibc", "", "", "free(): invalid size")]
    assert lines.settle(1.0) == lines.end(1.0) == []


def test_text_takes_lines_of_others_into_its_message_at_most() -> None:
    text = textwrap.dedent("""\
        thread 'a' panicked at 'never closed
        one
        two
        three
        free(): invalid pointer
        """)
    assert told(text.encode()) == [
        StderrTold("rust_panic", "a", "", "never closed one two three"),
        StderrTold("glibc", "", "", "free(): invalid pointer"),
    ]
