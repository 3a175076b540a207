"""Media runtimes that a track has for itself: three descriptors and three threads each, where all others share one.

A local track that is created while no room is connected gets one, and keeps it.
Source: livekit-ffi of livekit 1.1.8 and 1.2.0, measured: a runtime has two pipes, one epoll and the threads network, worker and
signaling; besides the shared one a process has two pipes and five epolls (two tokio runtimes, the loop).
"""

from __future__ import annotations

from collections.abc import Mapping

DESCRIPTORS = 3
# Fewer may be anybody's pipes.
LEAST = 3
_OTHER_PIPES = 4
_OTHER_EPOLLS = 6
_OTHER_THREADS = 5


def private_runtimes(descriptors: Mapping[str, int], threads: Mapping[str, int], tracks: int) -> int:
    """How many there are, where pipes, epolls, threads and tracks agree on it; else 0.

    Args:
        descriptors, threads: Counts by kind.
        tracks: Live native handles of tracks.
    """
    pipes = descriptors.get("pipe", 0) - _OTHER_PIPES
    found = descriptors.get("epoll", 0) - _OTHER_EPOLLS
    agree = pipes == 2 * found and tracks >= found and threads.get("webrtc", 0) >= 3 * found + _OTHER_THREADS
    return found if agree and found >= LEAST else 0
