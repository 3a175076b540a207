"""The journal from its writer to its reader: what was written is read, what is damaged is skipped and counted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journals import TEXT, hook_of, journal, piece, put, reading, slot, texts, whole, write

from race_watch import events
from race_watch.journal import layout
from race_watch.journal.reader import JournalError, JournalReader

PATIENCE_S = 60.0
# More polls than the reader waits for a slot that a living writer has reserved and not filled.
LONG_ENOUGH = 20
FUZZ = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "one.rwj"


def numbered(count: int) -> list[str]:
    return [f"record {number}" for number in range(count)]


# What was written is read


def test_records_come_in_order_each_once_with_number_and_time(path: Path) -> None:
    with journal(path) as made, reading(path) as reader:
        before = time.monotonic()
        made.emit(TEXT, "a")
        made.emit(TEXT, "b")
        first = reader.read()
        made.emit(TEXT, "c")
        second = reader.read()
        after = time.monotonic()
        assert [(r.number, hook_of(r.event)) for r in first + second] == [(0, "a"), (1, "b"), (2, "c")]
        times = [r.t_s for r in first + second]
        assert before <= times[0] <= times[1] <= times[2] <= after
        assert reader.read() == []
        assert (reader.records_read, reader.lost_torn, reader.lost_overwritten, reader.lost_malformed) == (3, 0, 0, 0)


def test_header_says_who_wrote_and_when(path: Path) -> None:
    with journal(path, role="fork", sdk={"livekit": "1.1.8"}), reading(path) as reader:
        process = reader.process
        assert (process.pid, process.ppid, process.role) == (os.getpid(), os.getppid(), "fork")
        assert process.nonce == b"nonce-08".hex()
        assert process.identity["sdk"] == {"livekit": "1.1.8"}
        assert abs(process.wall(time.monotonic()) - time.time_ns()) < 1e9


@pytest.mark.parametrize("size", [0, 1, 231, 232, 233, 226 * 2, 226 * 2 + 1, layout.MAX_BODY_BYTES])
def test_body_of_any_length_is_read_as_written(path: Path, size: int) -> None:
    body = "".join(chr(97 + index % 26) for index in range(size))
    write(path, [body, "next"])
    with reading(path) as reader:
        assert texts(reader) == [body, "next"]


def test_long_body_of_many_bytes_a_character_is_read_as_written(path: Path) -> None:
    body = "ü€😀" * 300
    write(path, [body])
    with reading(path) as reader:
        assert texts(reader) == [body]


def test_longer_body_than_there_can_be_is_cut_and_counted(path: Path) -> None:
    with journal(path) as made, reading(path) as reader:
        made.emit(TEXT, "x" * (layout.MAX_BODY_BYTES + 1))
        made.emit(TEXT, "next")
        assert texts(reader) == ["x" * layout.MAX_BODY_BYTES, "next"]
        assert reader.counters()["bodies_cut"] == 1


def test_body_that_is_no_valid_text_is_read_with_replacements(path: Path) -> None:
    write(path, ["lone \ud800 surrogate", "next"])
    with reading(path) as reader:
        assert texts(reader) == ["lone ? surrogate", "next"]


def test_pieces_of_two_threads_that_alternate_become_two_records(path: Path) -> None:
    write(path, [])
    for number, packed in enumerate(
        [
            piece(0, 0, 0, 3, b"first "),
            piece(1, 1, 0, 2, b"second "),
            piece(2, 0, 1, 3, b"is "),
            slot(3, b"short"),
            piece(4, 1, 1, 2, b"is whole"),
            piece(5, 0, 2, 3, b"whole"),
        ]
    ):
        put(path, number, packed)
    with reading(path) as reader:
        assert sorted(texts(reader)) == ["first is whole", "second is whole", "short"]
        assert reader.lost_torn == 0


def test_threads_that_write_long_records_at_once_lose_and_mix_nothing(path: Path) -> None:
    bodies = [[f"{who}.{turn}." + chr(97 + who) * (1 + 37 * turn) for turn in range(40)] for who in range(6)]
    interval = sys.getswitchinterval()
    with journal(path, slots=4096) as made:
        threads = [threading.Thread(target=lambda mine: [made.emit(TEXT, b) for b in mine], args=(mine,)) for mine in bodies]
        sys.setswitchinterval(1e-6)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE_S)
        finally:
            sys.setswitchinterval(interval)
    with reading(path) as reader:
        found = texts(reader)
        assert reader.lost_torn == 0
    for who, mine in enumerate(bodies):
        assert [body for body in found if body.startswith(f"{who}.")] == mine


def test_counters_are_read_by_name(path: Path) -> None:
    with journal(path) as made, reading(path) as reader:
        for index, name in enumerate(layout.COUNTERS):
            assert reader.counters()[name] == 0
            for _ in range(index + 1):
                made.count(index)
        assert list(reader.counters().values()) == [1 + index for index in range(len(layout.COUNTERS))]


def test_two_readers_of_one_journal_both_read_everything(path: Path) -> None:
    with journal(path) as made, reading(path) as one:
        made.emit(TEXT, "a")
        assert texts(one) == ["a"]
        with reading(path) as other:
            made.emit(TEXT, "b")
            assert texts(other) == ["a", "b"]
            assert texts(one) == ["b"]
            assert one.alive()
            assert other.alive()


# A ring that was lapped


@pytest.mark.parametrize("count", [16, 17, 40, 16 * 100 + 3])
def test_ended_writer_that_lapped_its_ring_leaves_a_ring_of_records_and_the_rest_is_counted(path: Path, count: int) -> None:
    write(path, numbered(count), slots=16)
    with reading(path) as reader:
        assert texts(reader, final=True) == numbered(count)[-16:]
        assert reader.lost_overwritten == count - 16
        assert reader.lost_torn == 0


@pytest.mark.parametrize("count", [100, 128, 1_000])
def test_living_writer_that_lapped_its_reader_loses_a_counted_number(path: Path, count: int) -> None:
    with journal(path, slots=64) as made, reading(path) as reader:
        made.emit(TEXT, "first")
        assert texts(reader) == ["first"]
        for text in numbered(count):
            made.emit(TEXT, text)
        found = texts(reader)
        assert found == numbered(count)[-len(found) :]
        assert len(found) + reader.lost_overwritten == count
        assert len(found) >= 64 - 64 // 16
        made.emit(TEXT, "later")
        assert texts(reader) == ["later"]


def test_reader_that_keeps_up_loses_nothing_over_many_laps(path: Path) -> None:
    with journal(path, slots=8) as made, reading(path) as reader:
        found = []
        for text in numbered(500):
            made.emit(TEXT, text)
            found += texts(reader)
        assert found == numbered(500)
        assert reader.lost_overwritten == reader.lost_torn == 0


_HOT_WRITER = """
import sys
from race_watch.journal.writer import Journal
made = Journal(sys.argv[1], 1 << 18, b"nonce-08", {})
for lap in range(5000):
    made.emit(2, "as fast as it can")
print("ready", flush=True)
while True:
    made.emit(2, "as fast as it can")
"""


def test_reading_ends_while_the_writer_is_faster_than_the_reader(path: Path) -> None:
    with writer(_HOT_WRITER, path) as process, reading(path) as reader:
        done = threading.Event()

        def read() -> None:
            for _ in range(3):
                reader.read()
            reader.read(final=True)
            done.set()

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        ended = done.wait(20)
        assert process.poll() is None
        process.kill()
        thread.join(PATIENCE_S)
        assert ended, "read() went on for as long as the writer did"
        process.wait(PATIENCE_S)
        assert set(texts(reader, final=True)) <= {"as fast as it can"}
        assert reader.records_read > 0
        assert reader.lost_overwritten > 0


# Slots that are damaged or were never written


def damage(path: Path, number: int, at: int = 24, slots: int = 64) -> None:
    where = layout.HEADER_BYTES + number % slots * layout.SLOT_BYTES + at
    raw = bytearray(path.read_bytes())
    raw[where] ^= 0x55
    with path.open("r+b") as file:
        file.write(raw)


def until_it_gives_up(reader: JournalReader) -> list[str]:
    found: list[str] = []
    for _ in range(LONG_ENOUGH):
        found += texts(reader)
    return found


@pytest.mark.parametrize("at", [0, 6, 8, 16, 24, 30], ids=["check", "length", "number", "time", "body", "body end"])
def test_torn_slot_is_skipped_and_counted(path: Path, at: int) -> None:
    with journal(path) as made:
        for text in numbered(5):
            made.emit(TEXT, text)
        damage(path, 2, at)
        with reading(path) as reader:
            assert until_it_gives_up(reader) == ["record 0", "record 1", "record 3", "record 4"]
            assert reader.lost_torn == 1
            made.emit(TEXT, "later")
            assert texts(reader) == ["later"]


def test_slot_that_a_thread_has_reserved_is_waited_for(path: Path) -> None:
    with journal(path) as made:
        for text in numbered(4):
            made.emit(TEXT, text)
        put(path, 1, bytes(layout.SLOT_BYTES))
        with reading(path) as reader:
            assert texts(reader) == ["record 0"]
            assert texts(reader) == []
            put(path, 1, slot(1, b"late"))
            assert texts(reader) == ["late", "record 2", "record 3"]
            assert reader.lost_torn == 0


def test_unwritten_slots_between_written_ones_are_given_up_after_a_while(path: Path) -> None:
    with journal(path) as made:
        for text in numbered(6):
            made.emit(TEXT, text)
        for number in (2, 3):
            put(path, number, bytes(layout.SLOT_BYTES))
        with reading(path) as reader:
            assert until_it_gives_up(reader) == ["record 0", "record 1", "record 4", "record 5"]
            assert reader.lost_torn == 2


def test_torn_slots_of_an_ended_writer_are_skipped_at_once(path: Path) -> None:
    write(path, numbered(60))
    torn = [0, 1, *range(5, 45), 58]
    for number in torn:
        damage(path, number)
    with reading(path) as reader:
        assert texts(reader, final=True) == [f"record {n}" for n in range(60) if n not in torn]
        assert reader.lost_torn == len(torn)


def test_last_record_that_a_kill_cut_short_is_counted(path: Path) -> None:
    write(path, numbered(3))
    damage(path, 2)
    with reading(path) as reader:
        assert texts(reader, final=True) == ["record 0", "record 1"]
        assert texts(reader, final=True) == []
        assert reader.lost_torn == 1


def test_long_record_that_a_kill_cut_short_is_counted_and_not_read(path: Path) -> None:
    write(path, ["before"])
    put(path, 1, piece(1, 1, 0, 3, b"one "))
    put(path, 2, piece(2, 1, 1, 3, b"two "))
    with reading(path) as reader:
        assert texts(reader, final=True) == ["before"]
        assert reader.lost_torn == 1


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_long_record_without_one_of_its_pieces_is_not_read(path: Path, lost: int) -> None:
    write(path, ["x" * 226 * 3, "next"])
    damage(path, lost)
    with reading(path) as reader:
        assert texts(reader, final=True) == ["next"]
        assert reader.lost_torn >= 1


def test_long_record_whose_head_was_overwritten_is_not_read(path: Path) -> None:
    write(path, ["y" * 226 * 4, *numbered(14)], slots=16)
    with reading(path) as reader:
        assert texts(reader, final=True) == numbered(14)
        assert (reader.lost_overwritten, reader.lost_torn) == (2, 0)


def test_record_that_is_not_understood_is_counted_and_the_next_one_read(path: Path) -> None:
    write(path, ["a", "b", "c"])
    put(path, 0, slot(0, b"too\x1fmany\x1ffields"))
    put(path, 1, slot(1, b"", kind=0x7FFF))
    with reading(path) as reader:
        assert texts(reader, final=True) == ["c"]
        assert (reader.lost_malformed, reader.lost_torn) == (2, 0)


# Files that are no journals


@contextmanager
def no_descriptor_is_left_open() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


def with_header(raw: bytes, **changed: int) -> bytes:
    """The file with fields of its header changed and its check sum right."""
    names = ("magic", "version", "slot_bytes", "slots", "pid", "ppid", "length", "boot", "ticks", "nonce", "wall", "mono")
    fields = dict(zip(names, layout.HEADER.unpack_from(raw), strict=True))
    header = layout.HEADER.pack(*{**fields, **changed}.values())
    who = raw[layout.IDENTITY_AT : layout.IDENTITY_AT + min(fields["length"], layout.HEADER_BYTES - layout.IDENTITY_AT)]
    return header + layout.CRC.pack(zlib.crc32(who, zlib.crc32(header))) + raw[layout.HEADER.size + layout.CRC.size :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda raw: b"", "too few", id="empty"),
        pytest.param(lambda raw: raw[:100], "too few", id="shorter than a header"),
        pytest.param(lambda raw: raw[: layout.HEADER_BYTES], "too few", id="header only"),
        pytest.param(lambda raw: raw[:-1], "shorter than its header says", id="truncated"),
        pytest.param(lambda raw: b"\0" * len(raw), "not a race_watch journal", id="zeros"),
        pytest.param(lambda raw: os.urandom(8) + raw[8:], "not a race_watch journal", id="foreign"),
        pytest.param(lambda raw: raw[:30] + b"\xff" + raw[31:], "damaged header", id="damaged header"),
        pytest.param(lambda raw: raw[:1030] + b"\xff" + raw[1031:], "damaged header", id="damaged identity"),
        pytest.param(lambda raw: with_header(raw, version=2), "version 2 is not 1", id="future version"),
        pytest.param(lambda raw: with_header(raw, slot_bytes=512), "use the race_watch that wrote it", id="other slots"),
        pytest.param(lambda raw: with_header(raw, slots=0), "use the race_watch that wrote it", id="no slots"),
        pytest.param(lambda raw: with_header(raw, slots=0xFFFFFFFF), "shorter than its header says", id="a terabyte"),
    ],
)
def test_file_that_cannot_be_a_journal_is_refused_in_one_line(path: Path, change: object, message: str) -> None:
    write(path, ["a"])
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    with no_descriptor_is_left_open():
        with pytest.raises(JournalError, match=message) as raised:
            JournalReader(str(path))
        assert "\n" not in str(raised.value)
        assert str(path) in str(raised.value)


@pytest.mark.parametrize("who", [b"[" * 3072, b"not json", b"\xff\xfe", b'["a list"]', b"null"])
def test_identity_that_is_no_object_makes_an_unknown_process(path: Path, who: bytes) -> None:
    write(path, ["a"])
    raw = path.read_bytes()
    raw = raw[: layout.IDENTITY_AT] + who.ljust(layout.HEADER_BYTES - layout.IDENTITY_AT) + raw[layout.HEADER_BYTES :]
    header = bytearray(raw)
    header[28:32] = len(who).to_bytes(4, "little")
    path.write_bytes(with_header(bytes(header)))
    with reading(path) as reader:
        assert reader.process.identity == {}
        assert reader.process.role == "unknown"
        assert texts(reader) == ["a"]


def test_link_is_refused(path: Path, tmp_path: Path) -> None:
    write(path, ["a"])
    link = tmp_path / "link.rwj"
    link.symlink_to(path)
    with no_descriptor_is_left_open(), pytest.raises(OSError, match="symbolic links"):
        JournalReader(str(link))


# Arbitrary bytes

_SLOTS = 24


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A lapped ring with short and long records and one written short of its end."""
    path = tmp_path_factory.mktemp("fuzz") / "valid.rwj"
    write(path, [f"{number} " + "z" * (number * 53 % 600) for number in range(30)], slots=_SLOTS)
    return path.read_bytes()


def expected(raw: bytes) -> set[str]:
    """The bodies that the whole slots of a file can make."""
    slots = whole(raw)
    bodies = set()
    for number, (kind, body) in slots.items():
        if not kind & layout.LONG:
            bodies.add(body)
        elif len(body) >= layout.PART.size:
            part, parts, _ = layout.PART.unpack_from(body)
            if part == 0 and parts:
                # Only threads of one process alternate, and this one had none: pieces stand side by side.
                pieces = [slots.get(number + index, (0, b""))[1] for index in range(parts)]
                bodies.add(b"".join(p[layout.PART.size :] for p in pieces))
    return {body.decode("utf-8", "replace") for body in bodies}


def body_of(event: events.Event) -> str:
    values = [getattr(event, field.name) for field in fields(event)]  # type: ignore[arg-type]
    return event.body(*(events.LIST_SEP.join(value) if isinstance(value, tuple) else value for value in values))


def check(raw: bytes, path: Path) -> None:
    path.write_bytes(raw)
    try:
        reader = JournalReader(str(path))
    except JournalError:
        return
    try:
        reader.alive()
        reader.counters()
        found = reader.read() + reader.read(final=True)
        assert reader.read(final=True) == []
    finally:
        reader.close()
    assert len(found) <= _SLOTS
    possible = expected(raw)
    for record in found:
        # The check sum does not cover the kind: a body may come as an event of another kind, but no body is made up.
        assert body_of(record.event) in possible


def test_undamaged_file_of_the_fuzz_is_read(valid: bytes, path: Path) -> None:
    path.write_bytes(valid)
    with reading(path) as reader:
        found = texts(reader, final=True)
    assert len(found) >= 10
    assert found[-1].startswith("29 ")
    assert set(found) <= expected(valid)


_ANYWHERE = st.integers(0, layout.HEADER_BYTES + _SLOTS * layout.SLOT_BYTES - 1)


@FUZZ
@given(patches=st.lists(st.tuples(_ANYWHERE, st.binary(min_size=1, max_size=64)), min_size=1, max_size=6))
def test_arbitrary_bytes_anywhere_make_no_error_and_no_event(
    valid: bytes, path: Path, patches: list[tuple[int, bytes]]
) -> None:
    raw = bytearray(valid)
    for at, patch in patches:
        raw[at : at + len(patch)] = patch
    check(bytes(raw[: len(valid)]), path)


@FUZZ
@given(
    slots=st.lists(
        st.tuples(st.integers(0, _SLOTS - 1), st.binary(max_size=layout.SLOT_BYTES), st.integers(0, layout.SLOT_BYTES - 1)),
        min_size=1,
        max_size=_SLOTS,
    )
)
def test_slots_overwritten_from_any_byte_make_no_error_and_no_event(
    valid: bytes, path: Path, slots: list[tuple[int, bytes, int]]
) -> None:
    raw = bytearray(valid)
    for index, patch, start in slots:
        at = layout.HEADER_BYTES + index * layout.SLOT_BYTES + start
        raw[at : at + len(patch)] = patch
    check(bytes(raw[: len(valid)]), path)


@FUZZ
@given(size=st.integers(0, layout.HEADER_BYTES + _SLOTS * layout.SLOT_BYTES))
def test_file_cut_anywhere_makes_no_error_and_no_event(valid: bytes, path: Path, size: int) -> None:
    check(valid[:size], path)


@FUZZ
@given(
    forged=st.lists(
        st.tuples(
            st.integers(0, 0xFFFF),
            st.binary(max_size=layout.BODY_BYTES),
            st.integers(-2, 2 * _SLOTS),
            st.integers(0, 2**64 - 1),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_whole_slots_with_any_content_make_no_error(
    valid: bytes, path: Path, forged: list[tuple[int, bytes, int, int]]
) -> None:
    raw = bytearray(valid)
    for kind, body, number, t_ns in forged:
        number %= 2**64
        at = layout.HEADER_BYTES + number % _SLOTS * layout.SLOT_BYTES
        raw[at : at + layout.SLOT_BYTES] = slot(number, body, kind, t_ns)
    path.write_bytes(raw)
    with reading(path) as reader:
        found = reader.read() + reader.read(final=True)
        assert len(found) <= 2 * _SLOTS
        assert reader.read(final=True) == []


# Alive or dead


@contextmanager
def writer(source: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that writes a journal; it has said `ready`."""
    process = subprocess.Popen([sys.executable, "-c", source, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


_WAITING_WRITER = """
import sys, time
from race_watch.journal.writer import Journal
made = Journal(sys.argv[1], 1 << 16, b"nonce-08", {})
made.emit(2, "written")
print("ready", flush=True)
time.sleep(60)
"""


def test_lock_says_alive_until_the_writer_is_killed_and_its_records_remain(path: Path) -> None:
    with writer(_WAITING_WRITER, path) as process, reading(path) as reader:
        assert reader.alive()
        assert reader.alive()
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
        assert not reader.alive()
        assert texts(reader, final=True) == ["written"]


def test_writer_that_lets_go_is_dead_for_every_reader(path: Path) -> None:
    with ExitStack() as stack:
        with journal(path):
            one, other = stack.enter_context(reading(path)), stack.enter_context(reading(path))
            assert one.alive()
            assert other.alive()
        assert not one.alive()
        assert not other.alive()


# One process forks writers and kills each at a random point: acknowledged over a pipe means that `emit` had returned.
_KILLER = """
import json, os, random, select, signal, sys, time
from race_watch.journal.writer import Journal

def write(path, out):
    made = Journal(path, 1 << 20, os.urandom(8), {})
    os.write(out, b"0\\n")
    for number in range(1, 1_000_000):
        made.emit(2, f"{number} " + "q" * (number * 97 % (2500 if number % 5 == 0 else 200)))
        os.write(out, b"%d\\n" % number)

random.seed(int(sys.argv[2]))
for turn in range(int(sys.argv[3])):
    path = f"{sys.argv[1]}/{turn}.rwj"
    read, out = os.pipe()
    pid = os.fork()
    if pid == 0:
        write(path, out)
    os.close(out)
    acknowledged, due = b"", None
    while True:
        left = None if due is None else max(0.0, due - time.monotonic())
        if due is not None and left == 0.0:
            os.kill(pid, signal.SIGKILL)
            due = time.monotonic() + 60
        if not select.select([read], [], [], left)[0]:
            continue
        more = os.read(read, 65536)
        if not more:
            break
        if due is None:
            due = time.monotonic() + random.random() * 0.02
        acknowledged = (acknowledged + more)[-64:]
    os.close(read)
    os.waitpid(pid, 0)
    print(json.dumps([path, int(acknowledged.split(b"\\n")[-2])]), flush=True)
"""


def test_writer_killed_at_any_point_leaves_every_acknowledged_record_whole(tmp_path: Path) -> None:
    turns = 40
    command = [sys.executable, "-c", _KILLER, str(tmp_path), "1959", str(turns)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == turns
    assert sum(acknowledged for _, acknowledged in results) > 100 * turns
    for path, acknowledged in results:
        with reading(Path(path)) as reader:
            assert not reader.alive()
            found = texts(reader, final=True)
            numbers = [int(text.split()[0]) for text in found] or [0]
            # Consecutive, to the acknowledged one or the one that was being acknowledged; what is before was overwritten.
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
            assert acknowledged <= numbers[-1] <= acknowledged + 1
            assert numbers[0] <= 1 or reader.lost_overwritten + reader.lost_torn > 0
            assert reader.lost_malformed == 0
            # The one that the kill has interrupted was not acknowledged; it may have torn the oldest one, whose place it took.
            assert reader.lost_torn <= 2
            assert found == [f"{n} " + "q" * (n * 97 % (2500 if n % 5 == 0 else 200)) for n in numbers if n]
