"""The threads of this process, counted without a descriptor and named by kind."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from test_descriptors import limited

from race_watch.hooks import threads
from race_watch.hooks.threads import classified, thread_count


@contextmanager
def running(name: str = "") -> Iterator[int]:
    """A thread that waits, named as native code names its own; its number."""
    ready, end = threading.Event(), threading.Event()

    def body() -> None:
        if name:
            ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)  # PR_SET_NAME
        ready.set()
        end.wait()

    thread = threading.Thread(target=body)
    thread.start()
    ready.wait()
    try:
        assert thread.native_id is not None
        yield thread.native_id
    finally:
        end.set()
        thread.join()
        # Python has done with it before the kernel has.
        while os.path.exists(f"/proc/self/task/{thread.native_id}"):
            time.sleep(0.001)


def kinds(but: int = 0) -> dict[str, int]:
    (found,) = [found for found in classified(but) if found is not None]
    return found


def test_threads_are_counted_one_by_one() -> None:
    before = thread_count()
    with running(), running():
        assert thread_count() == before + 2
    assert thread_count() == before


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tokio-rt-worker", "tokio"),
        ("tokio-runtime-w", "tokio"),
        ("AudioSourceCapt", "audio_source"),
        ("livekit-audio", "livekit_audio"),
        ("worker_thread 0", "webrtc"),
        ("signaling_threa", "webrtc"),
        ("AudioEncoderQue", "webrtc"),
        ("", "python"),
    ],
)
def test_thread_is_of_its_kind(name: str, kind: str) -> None:
    before = kinds()
    with running(name):
        after = kinds()
    assert after[kind] == before.get(kind, 0) + 1
    assert sum(after.values()) == sum(before.values()) + 1


def test_thread_that_looks_is_left_out() -> None:
    everybody = kinds()
    with running() as number:
        assert kinds(but=number) == everybody


def test_look_goes_in_steps_and_stops_at_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_LOOKED_AT", 20)
    with ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(running())
        looks = list(classified(but=0))
    assert looks[:-1] == [None]
    assert looks[-1] is not None
    assert sum(looks[-1].values()) == 20


def test_without_a_free_descriptor_threads_are_counted_and_not_named() -> None:
    before = thread_count()
    with limited(3):
        assert kinds() == {}
        assert thread_count() == before
