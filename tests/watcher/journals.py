"""Journals made by the real writer, slots packed by hand, and a second reading of the layout to judge the reader by."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from race_watch import events
from race_watch.journal import layout
from race_watch.journal.reader import JournalReader
from race_watch.journal.writer import Journal

NONCE = b"nonce-08"
TEXT = events.HookInstalled.code
"""The code of an event whose body is one text."""


@contextmanager
def journal(path: Path, slots: int = 64, nonce: bytes = NONCE, **identity: object) -> Iterator[Journal]:
    """A journal of this process, let go of at the end."""
    made = Journal(str(path), layout.HEADER_BYTES + slots * layout.SLOT_BYTES, nonce, {"role": "main", **identity})
    try:
        yield made
    finally:
        made.close()


@contextmanager
def reading(path: Path) -> Iterator[JournalReader]:
    reader = JournalReader(str(path))
    try:
        yield reader
    finally:
        reader.close()


def write(path: Path, texts: Sequence[str], slots: int = 64) -> None:
    """A journal of an ended process with these records."""
    with journal(path, slots) as made:
        for text in texts:
            made.emit(TEXT, text)


def texts(reader: JournalReader, *, final: bool = False) -> list[str]:
    """The records since the last call; all of them must be texts."""
    return [hook_of(record.event) for record in reader.read(final=final)]


def hook_of(event: events.Event) -> str:
    assert isinstance(event, events.HookInstalled)
    return event.hook


def slot(number: int, body: bytes, kind: int = TEXT, t_ns: int = 1_000) -> bytes:
    """A whole slot, packed by hand."""
    check = zlib.adler32(body, (number ^ t_ns) & 0xFFFFFFFF)
    return layout.SLOT.pack(check, kind, len(body), number, t_ns, body)


def piece(number: int, first: int, part: int, parts: int, body: bytes, t_ns: int = 1_000) -> bytes:
    """A slot with a piece of the long record that began at `first`."""
    return slot(number, layout.PART.pack(part, parts, number - first) + body, TEXT | layout.LONG, t_ns)


def put(path: Path, number: int, packed: bytes, slots: int = 64) -> None:
    """Writes a slot into the file as another thread of the writer would."""
    with path.open("r+b") as file:
        file.seek(layout.HEADER_BYTES + number % slots * layout.SLOT_BYTES)
        file.write(packed)


def whole(raw: bytes) -> dict[int, tuple[int, bytes]]:
    """Record number -> kind and body of every slot whose check sum holds, at whatever place it stands."""
    found = {}
    for at in range(layout.HEADER_BYTES, len(raw) - layout.SLOT_BYTES + 1, layout.SLOT_BYTES):
        check, kind, length, number, t_ns, body = layout.SLOT.unpack_from(raw, at)
        if kind and length <= layout.BODY_BYTES and zlib.adler32(body[:length], (number ^ t_ns) & 0xFFFFFFFF) == check:
            found[number] = kind, body[:length]
    return found
