"""How many descriptors this process has open, and how many it may."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

_FD_DIRECTORY = "/proc/self/fd"


def _cannot_tell() -> int:
    return -1


def open_fds(otherwise: Callable[[], int] = _cannot_tell) -> int:
    """The number of open descriptors; -1 where it cannot be told.

    Since Linux 6.2 the directory's size is the count, in constant time and without a free descriptor (so at EMFILE too).

    Args:
        otherwise: Asked on older kernels.
    """
    try:
        return os.stat(_FD_DIRECTORY).st_size or otherwise()
    except OSError:
        return -1


def listed_fds() -> int:
    """The count for older kernels: 2 us a descriptor, so not in the loop's thread."""
    try:
        return len(os.listdir(_FD_DIRECTORY)) - 1
    except OSError as error:
        # Every number below the limit is taken, or there would be one to list them with.
        return fd_limit() if error.errno == errno.EMFILE else -1


def fd_limit() -> int:
    """The soft limit of this process; -1 for none."""
    return os.sysconf("SC_OPEN_MAX")
