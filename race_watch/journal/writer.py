"""The host's side of the journal: no lock, no system call but a write to mapped memory.

A record's place is reserved by `next()` on one counter and filled by one `pack_into`; both are single steps under the
GIL, so threads, signal handlers, finalizers and native callbacks may all write at any moment. What was written survives
SIGKILL and `os._exit` with no flush, because the pages belong to the kernel.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import mmap
import os
import zlib
from collections.abc import Callable

from race_watch.clock import MONOTONIC_NS, WALL_NS
from race_watch.journal import layout

Emit = Callable[[int, str], None]

_never_freed: list[mmap.mmap] = []

_MADV_WIPEONFORK = 18  # linux/mman.h; mmap has no name for it


class Journal:
    """This process's journal: `emit(code, body)` appends, `count(index)` adds one to a counter.

    Args:
        path: Final path of the file. It appears there complete: locked, reserved and with its header.
        size: Bytes to reserve; slots take what the header leaves.
        nonce: 8 bytes that tell this process from any other with its pid and start time.
        identity: What the reader may need to know about the process; JSON types.

    Raises:
        OSError: The file cannot be made or there is no space for it. Space is reserved before it is mapped: a sparse file
            on a full file system would kill the host with SIGBUS at the first write.
    """

    __slots__ = ("_bytes", "_counters", "_mapped", "count", "emit", "nonce", "path", "pid")

    def __init__(self, path: str, size: int, nonce: bytes, identity: dict[str, object]) -> None:
        self.path = path
        self.pid = os.getpid()
        self.nonce = nonce
        slots = max(1, (size - layout.HEADER_BYTES) // layout.SLOT_BYTES)
        self._bytes = layout.HEADER_BYTES + slots * layout.SLOT_BYTES
        temporary = path + layout.UNFINISHED
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # The lock says "alive" to the reader. It belongs to the open file, which the map keeps open.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(fd, 0, self._bytes)
            self._mapped = mmap.mmap(fd, self._bytes)
            _write_header(self._mapped, slots, nonce, identity)
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.close(fd)
        ours = _ownership()
        self.emit = _emitter(self._mapped, slots, ours, self._count_cut)
        end = layout.COUNTERS_AT + layout.COUNTER.size * len(layout.COUNTERS)
        self._counters = memoryview(self._mapped)[layout.COUNTERS_AT : end].cast("Q")
        self.count = _counter(self._counters, ours)

    def _count_cut(self) -> None:
        self.count(layout.COUNTER_INDEX["bodies_cut"])

    def close(self) -> None:
        """Lets go of the file; the reader takes it from there. `emit` and `count` do nothing from now on.

        Also called in a fork's child for the parent's journal: the lock stays, since the parent has the same open file.
        """
        self.emit = nothing
        self.count = nothing
        self._counters.release()
        try:
            if self._mapped.size() == self._bytes:
                self._mapped.close()
                return
        except BufferError:
            # A thread is inside emit with the map in hand; the kernel unmaps it when the process ends.
            return
        except OSError:
            pass
        # The host has closed every descriptor, as daemons do, the map's own copy among them. Closing the map, or freeing it,
        # would close that number once more: by now it may be a socket of the host's.
        _never_freed.append(self._mapped)


def nothing(*_: object) -> None:
    """An `emit` and a `count` for a process that has no journal."""


def _write_header(mapped: mmap.mmap, slots: int, nonce: bytes, identity: dict[str, object]) -> None:
    who = json.dumps(identity).encode()[: layout.HEADER_BYTES - layout.IDENTITY_AT]
    header = layout.HEADER.pack(
        layout.MAGIC,
        layout.VERSION,
        layout.SLOT_BYTES,
        slots,
        os.getpid(),
        os.getppid(),
        len(who),
        boot_id(),
        start_ticks(),
        nonce,
        WALL_NS(),
        MONOTONIC_NS(),
    )
    mapped[: len(header)] = header
    mapped[layout.IDENTITY_AT : layout.IDENTITY_AT + len(who)] = who
    crc = layout.CRC.pack(zlib.crc32(who, zlib.crc32(header)))
    mapped[layout.HEADER_CRC_AT : layout.HEADER_CRC_AT + len(crc)] = crc


def _emitter(mapped: mmap.mmap, slots: int, ours: mmap.mmap | _SameProcess, count_cut: Callable[[], None]) -> Emit:
    reserve = itertools.count().__next__
    now, checksum, pack_into = MONOTONIC_NS, zlib.adler32, layout.SLOT.pack_into
    first_slot, slot_bytes, body_bytes = layout.HEADER_BYTES, layout.SLOT_BYTES, layout.BODY_BYTES

    def emit(code: int, body: str) -> None:
        if not ours[0]:
            return
        try:
            data = body.encode()
        except UnicodeEncodeError:
            data = body.encode("utf-8", "replace")
        size = len(data)
        if size > body_bytes:
            emit_long(code, data)
            return
        number = reserve()
        t_ns = now()
        # One call, so one step: a reader or a kill sees the slot as it was or as it is, or a check sum that does not fit.
        pack_into(
            mapped,
            first_slot + number % slots * slot_bytes,
            checksum(data, number ^ t_ns),  # it takes the low 32 bits by itself; to mask them here would cost 60 ns
            code,
            size,
            number,
            t_ns,
            data,
        )

    def emit_long(code: int, data: bytes) -> None:
        if len(data) > layout.MAX_BODY_BYTES:
            count_cut()
            data = data[: layout.MAX_BODY_BYTES]
        parts = -(-len(data) // layout.PART_BYTES)
        t_ns = now()
        first = -1
        for part in range(parts):
            number = reserve()
            first = number if part == 0 else first
            piece = layout.PART.pack(part, parts, number - first)
            piece += data[part * layout.PART_BYTES : (part + 1) * layout.PART_BYTES]
            at = first_slot + number % slots * slot_bytes
            check = checksum(piece, number ^ t_ns)
            pack_into(mapped, at, check, code | layout.LONG, len(piece), number, t_ns, piece)

    return emit


def _counter(counters: memoryview[int], ours: mmap.mmap | _SameProcess) -> Callable[[int], None]:
    steps = [itertools.count(1).__next__ for _ in layout.COUNTERS]

    def count(index: int) -> None:
        if ours[0]:
            # Native order is little-endian wherever there is a LiveKit to run. `pack_into` would take 70 ns more.
            counters[index] = steps[index]()

    return count


def _ownership() -> mmap.mmap | _SameProcess:
    """Returns what has a false item 0 in a forked child, also one that ran no fork hooks (a fork from C).

    Such a child shares the journal's map with its parent and must not write into it. A page that the kernel wipes on fork
    tells in 25 ns (in 50 through a function); `os.getpid()`, the fallback before Linux 4.14, is a system call of 200 ns.
    """
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
        page[0] = 1
        return page
    except (OSError, ValueError, AttributeError):
        return _SameProcess()


class _SameProcess:
    """The fallback, read in the same way."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, index: int) -> bool:
        return os.getpid() == self._pid


def file_name(nonce: bytes) -> str:
    """A name that no other process ever has: pids repeat in containers, start times with them."""
    return f"{boot_id().hex()[:8]}-{start_ticks()}-{os.getpid()}-{nonce.hex()}{layout.SUFFIX}"


def boot_id() -> bytes:
    """16 bytes that change with each boot; zeros where the kernel does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return bytes.fromhex(file.read().strip().replace(b"-", b"").decode())
    except (OSError, ValueError):
        return bytes(16)


def start_ticks() -> int:
    """This process's start time in clock ticks since boot; 0 where /proc cannot be read."""
    try:
        with open("/proc/self/stat", "rb") as file:
            # The second field is the command in parentheses and may hold spaces and parentheses itself.
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
