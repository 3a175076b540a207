"""What counting costs. Argument: `handle`, a native handle made and dropped, or `sample`, the counts stated once.

The native library is not asked: a handle is dropped by a function that says yes.
"""

from __future__ import annotations

import os
import resource
import sys
from time import process_time_ns

from livekit.rtc import _ffi_client
from turns import each

OPERATIONS = 2000
# What a hard limit of 20,000 leaves.
DESCRIPTORS = 19_900


class NoLibrary:
    def livekit_ffi_drop_handle(self, handle: object) -> bool:
        return True


class NoClient:
    _ffi_lib = NoLibrary()
    _pid = os.getpid()


def made_and_dropped() -> float:
    FfiHandle = _ffi_client.FfiHandle  # noqa: N806
    began = process_time_ns()
    for handle in range(1, OPERATIONS + 1):
        FfiHandle(handle).dispose()
    return (process_time_ns() - began) / OPERATIONS / 1e3


def sampled() -> float:
    from race_watch import agent

    sample = agent.current().context.resources.sample
    began = process_time_ns()
    for _ in range(OPERATIONS):
        sample(now=True)
    return (process_time_ns() - began) / OPERATIONS / 1e3


def main(kind: str) -> None:
    if kind == "sample":
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        for _ in range(DESCRIPTORS):
            os.open(os.devnull, os.O_RDONLY)
        each(sampled)
    else:
        _ffi_client.FfiClient._instance = NoClient()
        each(made_and_dropped)
    sys.stdout.flush()
    # The SDK's own handler at exit would ask the library that is not there.
    os._exit(0)


main(*sys.argv[1:])
