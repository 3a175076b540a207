"""The threads of this process: how many, in constant time, and whose they are, by the names that native code gives its own.

Source: thread names of livekit 1.0.25 to 1.2.0 as the kernel has them, cut to 15 characters.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

_TASKS = "/proc/self/task"
# Threads that one look names; the rest is only counted.
_LOOKED_AT = 1024
# At 20 us a name, opened, read and closed, a step stays below 1 ms.
_A_STEP = 16

_KINDS = (
    ("tokio-", "tokio"),
    ("AudioSourceCapt", "audio_source"),
    ("livekit-audio", "livekit_audio"),
    ("network_thread", "webrtc"),
    ("worker_thread", "webrtc"),
    ("signaling_threa", "webrtc"),
    ("rtc-low-prio", "webrtc"),
    ("AudioDevice", "webrtc"),
    ("SyntheticAudioD", "webrtc"),
    ("AudioEncoder", "webrtc"),
    ("VideoEncoder", "webrtc"),
    ("EncoderQueue", "webrtc"),
    ("DecodingQueue", "webrtc"),
    ("VideoDecoderQue", "webrtc"),
    ("IncomingVideoSt", "webrtc"),
)

KINDS = (*dict.fromkeys(kind for _, kind in _KINDS), "python", "other")


def thread_count() -> int:
    """All threads of the process; -1 where it cannot be told. Needs no descriptor."""
    try:
        return os.stat(_TASKS).st_nlink - 2
    except OSError:
        return -1


def classified(but: int) -> Iterator[dict[str, int] | None]:
    """Names one thread after the other; yields None after each step, then counts by kind. `but` is one left out."""
    try:
        numbers = os.listdir(_TASKS)[:_LOOKED_AT]
    except OSError:
        yield {}
        return
    pythons = {thread.native_id for thread in threading.enumerate()}
    kinds: dict[str, int] = {}
    for looked_at, number in enumerate(numbers, start=1):
        kind = _kind(number, pythons) if int(number) != but else ""
        if kind:
            kinds[kind] = kinds.get(kind, 0) + 1
        if looked_at % _A_STEP == 0:
            yield None
    yield kinds


def _kind(number: str, pythons: set[int | None]) -> str:
    """The kind of one thread; empty where it is gone meanwhile, or no descriptor is free to ask with."""
    try:
        descriptor = os.open(f"{_TASKS}/{number}/comm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        name = os.read(descriptor, 32).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    # Native threads that have logged are among Python's: their names come first.
    known = next((kind for start, kind in _KINDS if name.startswith(start)), "")
    return known or ("python" if int(number) in pythons else "other")
