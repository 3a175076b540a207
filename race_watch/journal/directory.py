"""The run directory: private, on whatever storage can be written, holding the journals of one worker and its key.

Never a shared directory: truncating a mapped file kills its writer with SIGBUS, unlinking one is harmless.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time

from race_watch.journal.layout import SUFFIX

PREFIX = "race-watch-"
KEY_FILE = "key"
KEY_BYTES = 16
_SHM = "/dev/shm"
# A container's /dev/shm is 64 MiB unless somebody raised it: too small for 50 jobs, and it is charged to their memory.
_SHM_FREE_BYTES = 512 * 1024 * 1024
# What a killed supervisor left behind stays this long for `race-watch report`, then the next one removes it.
_LEFT_BEHIND_S = 24 * 3600


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


def remove(path: str) -> None:
    """Removes the directory if it holds no journals any more; otherwise leaves it as it is."""
    try:
        if os.listdir(path) == [KEY_FILE]:
            os.unlink(os.path.join(path, KEY_FILE))
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
    """Removes the directories of workers that ended long ago without a watcher to clean up after them."""
    try:
        names = os.listdir(parent)
    except OSError:
        return
    for name in names:
        path = os.path.join(parent, name)
        try:
            found = os.lstat(path)
            old = time.time() - found.st_mtime > _LEFT_BEHIND_S
            if not (name.startswith(PREFIX) and stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and old):
                continue
            journals = [os.path.join(path, entry) for entry in os.listdir(path) if entry.endswith(SUFFIX)]
            if not any(_held(journal) for journal in journals):
                for journal in journals:
                    os.unlink(journal)
                remove(path)
        except OSError:
            continue


def _held(journal: str) -> bool:
    """Whether the journal's writer is alive."""
    handle = os.open(journal, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
