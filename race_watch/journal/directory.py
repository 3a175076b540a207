"""The run directory: private, on whatever storage can be written, holding the journals of one worker and its key.

Never a shared directory: truncating a mapped file kills its writer with SIGBUS, unlinking one is harmless.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterable

from race_watch.journal.layout import METRICS_FILE, PROGRESS_FILE, SUFFIX, UNFINISHED

PREFIX = "race-watch-"
KEY_FILE = "key"
KEY_BYTES = 16
# What may stand in the directory beside the journals.
_OURS = frozenset((KEY_FILE, PROGRESS_FILE, PROGRESS_FILE + UNFINISHED, METRICS_FILE, METRICS_FILE + UNFINISHED))
_SHM = "/dev/shm"
# A container's /dev/shm is 64 MiB unless somebody raised it: too small for 50 jobs, and it is charged to their memory.
_SHM_FREE_BYTES = 512 * 1024 * 1024
# What killed supervisors left behind stays this long for `race-watch report`, and so many of it; then the next ones remove it.
_LEFT_BEHIND_S = 24 * 3600
_LEFT_BEHIND_MOST = 16
_SWEPT_AT_ONCE = 2
# A directory that is so young may have no journal yet.
_YOUNG_S = 60.0
# Files are locked or have their name microseconds after they were made; one that is so old and is not locked never will.
_UNFINISHED_S = 10.0

# What may stand in a directory that nobody watches, or whose watcher keeps everything: so many journals, and so many bytes.
JOURNALS_KEPT = 1024
JOURNALS_KEPT_BYTES = 1024 * 1024 * 1024
# What a process that starts does about it at most: a removal takes 20 to 300 us, a look 5.
_REMOVED_AT_ONCE = 16
_LOOKED_AT = 256


def create() -> str:
    """Makes a new run directory on the first storage that takes one.

    Raises:
        OSError: None of the candidates can be written.
    """
    failure: OSError | None = None
    for parent in _candidates():
        try:
            path = os.path.join(parent, PREFIX + os.urandom(8).hex())
            os.mkdir(path, 0o700)
            _write_key(path)
            _sweep(parent)
            return path
        except OSError as error:
            failure = error
    raise failure if failure is not None else OSError("no directory to write to")


def use(path: str) -> str:
    """Makes or takes over the directory that somebody named; one that `create` made is not made again, its watcher being gone.

    Raises:
        OSError: It cannot be made, is a link, is not ours, or is open to others: we change no modes of what we did not make.
    """
    path = path.rstrip(os.sep) or os.sep  # lstat follows a link that is written with a slash
    if os.path.basename(path).startswith(PREFIX) and not os.path.lexists(path):
        raise FileNotFoundError(f"{path} was removed by its watcher")
    os.makedirs(path, mode=0o700, exist_ok=True)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{path} is not a directory (links are refused)")
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to user {found.st_uid}")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(f"{path} is open to others; name a directory inside it, which is then made private")
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be written")
    _write_key(path)
    return path


def key(path: str) -> bytes:
    """The directory's key for hashing participant identities; all processes of a worker hash alike.

    Raises:
        OSError: There is no key.
    """
    with open(os.path.join(path, KEY_FILE), "rb") as file:
        return file.read(KEY_BYTES)


def claim(path: str) -> int:
    """Says that this process watches the directory, until it ends or closes the descriptor that it gets.

    Raises:
        OSError: Another process watches it.
    """
    handle = os.open(os.path.join(path, KEY_FILE), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise BlockingIOError(f"{path} is watched by another race-watch") from None
    return handle


def make_room(journal: str, journal_bytes: int) -> int:
    """Removes the oldest journals of ended processes where there are too many for this one, which is about to be made.

    As a rule there are not, and it costs the listing of the directory. Those of living processes stay, however many.

    Returns:
        How many were removed.
    """
    path, own_name = os.path.split(journal)
    kept = min(JOURNALS_KEPT, JOURNALS_KEPT_BYTES // journal_bytes)
    try:
        names = os.listdir(path)
    except OSError:
        return 0
    if len(names) < kept:
        return 0
    journals = [name for name in names if name.endswith((SUFFIX, SUFFIX + UNFINISHED))]
    too_many = min(len(journals) + 1 - kept, _REMOVED_AT_ONCE)
    removed = 0
    for name in sorted(journals, key=lambda name: _started(name, own_name))[:_LOOKED_AT]:
        if removed >= too_many:
            break
        removed += _unlink_ended(os.path.join(path, name))
    return removed


def clear_unfinished(path: str, names: Iterable[str]) -> None:
    """Removes what killed processes have left of files that they were making; `names` are what the directory holds."""
    for name in names:
        if _is_unfinished(name):
            _unlink_ended(os.path.join(path, name))


def remove(path: str) -> None:
    """Removes the directory if it holds no journals any more; otherwise leaves it as it is."""
    try:
        names = os.listdir(path)
        if all(name in _OURS or (_is_unfinished(name) and not _held(os.path.join(path, name))) for name in names):
            for name in names:
                os.unlink(os.path.join(path, name))
        os.rmdir(path)
    except OSError:
        # Journals of processes that are still running, or somebody else's files: theirs to keep.
        return


def _candidates() -> list[str]:
    candidates = [os.environ.get("XDG_RUNTIME_DIR", "")]
    try:
        space = os.statvfs(_SHM)
        if space.f_bavail * space.f_frsize >= _SHM_FREE_BYTES:
            candidates.append(_SHM)
    except OSError:
        pass
    # Not tempfile's: it keeps its first answer for good, and the host may yet change TMPDIR.
    return [c for c in (*candidates, os.environ.get("TMPDIR"), "/tmp", "/var/tmp") if c]


def _write_key(path: str) -> None:
    name = os.path.join(path, KEY_FILE)
    if os.path.lexists(name):
        return
    # Appears whole or not at all: of processes that start together the first one's is everybody's.
    temporary = f"{name}.{os.urandom(8).hex()}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.write(handle, os.urandom(KEY_BYTES))
        os.link(temporary, name)
    except FileExistsError:
        pass
    finally:
        os.close(handle)
        os.unlink(temporary)


def _sweep(parent: str) -> None:
    """Removes directories of workers that ended without a watcher to clean up after them, the oldest first."""
    ages = []
    try:
        for name in os.listdir(parent):
            path = os.path.join(parent, name)
            if name.startswith(PREFIX) and stat.S_ISDIR((found := os.lstat(path)).st_mode) and found.st_uid == os.geteuid():
                ages.append((time.time() - found.st_mtime, path))
    except OSError:
        # Somebody else sweeps, too.
        return
    swept = 0
    for newer, (age_s, path) in reversed(list(enumerate(sorted(ages)))):
        if swept < _SWEPT_AT_ONCE and age_s > (_LEFT_BEHIND_S if newer < _LEFT_BEHIND_MOST else _YOUNG_S):
            swept += _remove_ended(path)


def _remove_ended(path: str) -> bool:
    """Removes a directory with its journals unless one of their writers lives, and says whether it is gone."""
    with contextlib.suppress(OSError):
        journals = [os.path.join(path, entry) for entry in os.listdir(path) if entry.endswith(SUFFIX)]
        if not any(_held(journal) for journal in journals):
            for journal in journals:
                os.unlink(journal)
            remove(path)
    return not os.path.lexists(path)


def _is_unfinished(name: str) -> bool:
    return name.endswith(SUFFIX + UNFINISHED) or name.startswith(KEY_FILE + ".")


def _started(name: str, own_name: str) -> tuple[bool, int]:
    """Sorts journals by the start of their processes, as their names say: earlier boots first, then by clock ticks."""
    boot, _, rest = name.partition("-")
    ticks = rest.partition("-")[0]
    return boot == own_name.partition("-")[0], int(ticks) if ticks.isdecimal() else 0


def _unlink_ended(file: str) -> bool:
    """Removes a file whose maker is gone, and says whether it was."""
    with contextlib.suppress(OSError):
        # Between its making and its locking nothing tells that its maker lives.
        young = _is_unfinished(os.path.basename(file)) and time.time() - os.lstat(file).st_mtime < _UNFINISHED_S
        if not young and not _held(file):
            os.unlink(file)
            return True
    return False


def _held(journal: str) -> bool:
    """Whether the journal's writer is alive."""
    handle = os.open(journal, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
