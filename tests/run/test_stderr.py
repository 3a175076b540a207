"""The worker's stderr under `race-watch run`: the same to the byte, dependent on nobody, and what it tells of is stated."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from commands import PATIENCE_S, Place
from streams import RUN, Reader, eventually, python, told_in, unread, working
from supervising import terminal

from race_watch.events import StderrTold
from race_watch.journal import directory
from race_watch.lab.background import background_sfu
from race_watch.lab.runner import run_scenario
from race_watch.stderr.copying import Copying

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="the relay needs splice and tee"),
]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


OUTPUTS = {
    "nothing": b"",
    "one line": b"one line\n",
    "no line end": b"one line\nand a half",
    "carriage returns": b"\r10 %\r20 %\r\n\rdone",
    "colours": b"\x1b[31mERROR\x1b[0m \x1b]0;title\x07\n",
    "every byte": bytes(range(256)) * 100,
    "no UTF-8": b"\xff\xfe\x80\n" * 1000,
    "one long line": b"x" * 300_000,
    "a panic": b"\nthread 'a' (7) panicked at a.rs:1:1:\nboom\nnote: run with `RUST_BACKTRACE=1`\n",
    "much": random.Random(1).randbytes(5_000_000),
}

# Writes a file to stderr in pieces of odd sizes.
WRITE = """
import os, random, sys
data, sizes = open("output", "rb").read(), random.Random(2)
at = 0
while at < len(data):
    at += os.write(2, data[at:at + sizes.choice([1, 7, 80, 500, 4096, 5000, 70_000])])
"""

# Writes as many bytes as a line of its stdin says, as numbered lines, and says so.
WRITE_ON_DEMAND = """
import os, sys
data = b"".join(b"line %d\\n" % n for n in range(1_000_000))
at = 0
for line in sys.stdin:
    end = at + int(line)
    while at < end:
        at += os.write(2, data[at:min(end, at + 1000)])
    print("wrote", line, end="", flush=True)
"""
NUMBERED = b"".join(b"line %d\n" % n for n in range(1_000_000))
SOME = 3_000_000


@pytest.fixture(params=OUTPUTS.values(), ids=OUTPUTS)
def output(request: pytest.FixtureRequest, place: Place) -> bytes:
    data: bytes = request.param
    (place.home / "output").write_bytes(data)
    return data


def panic(place: str, message: str) -> bytes:
    return f"thread 'a' (7) panicked at {place}:\n{message}\n".encode()


def panicked(place: str, message: str) -> StderrTold:
    return StderrTold("rust_panic", "a (7)", place, message)


# The same to the byte


def test_pipe_gets_what_the_worker_writes(place: Place, output: bytes) -> None:
    with working(place, *python(WRITE)) as worker:
        _, stderr = worker.process.communicate(timeout=PATIENCE_S)
        assert stderr == output
        assert worker.process.returncode == 0
        assert worker.relays() == []


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_file_gets_what_the_worker_writes(place: Place, output: bytes, mode: str) -> None:
    path = place.home / "stderr.log"
    path.write_bytes(b"before\n")
    with path.open(mode) as file, working(place, *python(WRITE), stderr=file) as worker:
        worker.process.communicate(timeout=PATIENCE_S)
        assert worker.process.returncode == 0
    assert path.read_bytes() == (b"before\n" if mode == "ab" else b"") + output


def test_slow_reader_gets_it_all_in_order(place: Place) -> None:
    (place.home / "output").write_bytes(NUMBERED[:500_000])
    with working(place, *python(WRITE)) as worker:
        assert Reader(worker.process.stderr, at_once=100).all() == NUMBERED[:500_000]


def test_terminal_stays_the_workers(place: Place) -> None:
    look = "import os; print(os.isatty(2), os.ttyname(2) == os.ttyname(0), flush=True); os.write(2, b'seen\\n')"
    with terminal([*RUN, "--quiet", "--", *python(look)]) as opened:
        opened.expect("True True\r\n")
        opened.expect("seen\r\n")
        assert opened.process.wait(PATIENCE_S) == 0


def test_pipe_for_both_streams_keeps_its_order(place: Place) -> None:
    script = "import os; [os.write(1 + n % 2, b'%d\\n' % n) for n in range(10_000)]"
    with working(place, *python(script), stderr=subprocess.STDOUT) as worker:
        stdout, _ = worker.process.communicate(timeout=PATIENCE_S)
    assert stdout == b"".join(b"%d\n" % n for n in range(10_000))


@pytest.mark.parametrize("blocking", [True, False])
def test_pipe_waits_for_room_as_bare_or_does_not(place: Place, blocking: bool) -> None:
    read, write = os.pipe()
    os.set_blocking(write, blocking)
    with open(read, "rb"), working(place, *python("import os; print(os.get_blocking(2))"), stderr=write) as worker:
        os.close(write)
        assert worker.hear() == str(blocking).encode()


def test_worker_and_relay_have_no_descriptor_of_another(place: Place) -> None:
    with working(place, "sh", "-c", "ls /proc/self/fd; read wait") as worker:
        assert [worker.hear() for _ in range(4)] == [b"0", b"1", b"2", b"3"]  # the last is the directory, as ls reads it
        assert worker.process.stdout is not None
        assert worker.process.stdin is not None
        theirs = {f"pipe:[{os.fstat(stream.fileno()).st_ino}]" for stream in (worker.process.stdin, worker.process.stdout)}
        for relay in worker.relays():
            links = {os.readlink(link) for link in Path(f"/proc/{relay}/fd").iterdir()}
            assert not links & theirs
            assert os.devnull in links


# Its end


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("kill -ABRT $$", -signal.SIGABRT), ("kill -KILL $$", -9)])
def test_end_is_repeated_and_its_last_words_are_there(place: Place, script: str, status: int) -> None:
    with working(place, "sh", "-c", f"seq 100000 >&2; {script}") as worker:
        _, stderr = worker.process.communicate(timeout=PATIENCE_S)
        assert stderr == b"".join(b"%d\n" % n for n in range(1, 100_001))
        assert worker.process.returncode == status
        assert worker.relays() == []


def test_summary_comes_behind_the_last_words(place: Place) -> None:
    with working(place, "sh", "-c", "seq 100000 >&2", options=[]) as worker:
        _, stderr = worker.process.communicate(timeout=PATIENCE_S)
    _, _, behind = stderr.partition(b"\n100000\n")
    assert b"race-watch: summary\n" in behind
    assert b"race-watch" not in stderr[: -len(behind)].replace(b"race-watch: metrics", b"")


def test_command_that_cannot_run_leaves_no_relay(place: Place) -> None:
    with working(place, "no-such-command") as worker:
        _, stderr = worker.process.communicate(timeout=PATIENCE_S)
        assert worker.process.returncode == 127
        assert stderr.count(b"\n") == 1
        assert worker.relays() == []


def test_process_that_keeps_stderr_open_delays_nobody_and_is_still_heard(place: Place) -> None:
    script = """
import os, sys
os.write(2, b"early\\n")
if os.fork():
    os._exit(3)
sys.stdin.readline()
os.write(2, b"late\\n")
"""
    with working(place, *python(script)) as worker:
        stderr = Reader(worker.process.stderr)
        assert worker.process.wait(PATIENCE_S) == 3
        assert len(worker.relays()) == 2
        worker.say(b"go on")
        assert stderr.all() == b"early\nlate\n"
        assert worker.relays() == []


def test_nobody_reads_until_all_has_ended(place: Place) -> None:
    # 40 kB in short lines: fewer bytes than a pipe takes, and more pieces.
    script = "import os, time\nfor n in range(400): os.write(2, b'%0100d\\n' % n); time.sleep(0.001)"
    with working(place, *python(script), options=[]) as worker:
        assert worker.process.wait(PATIENCE_S) == 0
        stderr = Reader(worker.process.stderr).all()
    lines = [line for line in stderr.splitlines() if line[:1] == b"0"]
    assert lines == [b"%0100d" % n for n in range(400)]
    assert b"race-watch: summary" in stderr


def test_reader_that_stands_still_delays_the_end_by_a_bounded_time_and_loses_nothing(place: Place) -> None:
    with working(place, *python(WRITE_ON_DEMAND)) as worker:
        worker.say(b"5000000")
        eventually(lambda: unread(worker.process.stderr) > 40_000)
        os.kill(worker.pid, signal.SIGKILL)
        assert worker.process.wait(PATIENCE_S) == -signal.SIGKILL
        stderr = Reader(worker.process.stderr).all()
    assert len(stderr) > 40_000
    assert NUMBERED.startswith(stderr)


# Nobody to depend on


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_supervisor_that_is_gone_or_stands_still_is_not_missed(place: Place, end: signal.Signals) -> None:
    with working(place, *python(WRITE_ON_DEMAND)) as worker:
        stderr = Reader(worker.process.stderr)
        worker.say(b"1000")
        assert worker.hear() == b"wrote 1000"
        worker.process.send_signal(end)
        for _ in range(2):
            worker.say(b"%d" % SOME)
            assert worker.hear() == b"wrote %d" % SOME
        worker.process.stdin.close()  # type: ignore[union-attr]
        if end == signal.SIGSTOP:
            eventually(lambda: len(stderr.read) == 1000 + 2 * SOME)
            worker.process.send_signal(signal.SIGCONT)
        assert stderr.all() == NUMBERED[: 1000 + 2 * SOME]
        eventually(lambda: not worker.relays())


@pytest.mark.parametrize("size", [3_000, 300_000])
def test_relay_that_is_killed_again_and_again_loses_and_repeats_nothing(place: Place, size: int) -> None:
    read, chance, rounds = bytearray(), random.Random(3), 20
    with working(place, *python(WRITE_ON_DEMAND)) as worker:
        stderr = worker.process.stderr
        assert stderr is not None
        for number in range(rounds):
            worker.say(b"%d" % size)
            before_the_kill = size * number + chance.randrange(size)
            while len(read) < before_the_kill:
                read += os.read(stderr.fileno(), chance.choice([100, 10_000]))
            eventually(lambda: killed(worker.relays()[1:]))
            while len(read) < size * (number + 1):
                read += os.read(stderr.fileno(), 65536)
            assert worker.hear() == b"wrote %d" % size
        worker.process.stdin.close()  # type: ignore[union-attr]
        assert read + stderr.read() == NUMBERED[: size * rounds]
        assert worker.process.wait(PATIENCE_S) == 0


def killed(relays: list[int]) -> bool:
    with suppress(ProcessLookupError):  # it was the one before, which is not quite gone
        for relay in relays:
            os.kill(relay, signal.SIGKILL)
            return True
    return False


def test_relay_goes_on_when_its_keeper_and_the_supervisor_are_killed(place: Place) -> None:
    with working(place, *python(WRITE_ON_DEMAND)) as worker:
        stderr = Reader(worker.process.stderr)
        worker.say(b"1000")
        assert worker.hear() == b"wrote 1000"
        keeper, relay = worker.relays()
        worker.process.kill()
        os.kill(keeper, signal.SIGKILL)
        worker.say(b"%d" % SOME)
        assert worker.hear() == b"wrote %d" % SOME
        assert worker.relays() == [relay]
        worker.process.stdin.close()  # type: ignore[union-attr]
        assert stderr.all() == NUMBERED[: 1000 + SOME]
        eventually(lambda: not worker.relays())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGPIPE", "SIGUSR1", "SIGALRM"])
def test_relay_takes_no_signal(place: Place, name: str) -> None:
    with working(place, *python(WRITE_ON_DEMAND)) as worker:
        stderr = Reader(worker.process.stderr)
        worker.say(b"1000")
        assert worker.hear() == b"wrote 1000"
        before = worker.relays()
        for relay in before:
            os.kill(relay, signal.Signals[name])
        worker.say(b"1000")
        assert worker.hear() == b"wrote 1000"
        eventually(lambda: len(stderr.read) == 2000)
        assert worker.relays() == before


def test_relay_is_in_no_group_and_under_no_name_of_the_supervisor(place: Place) -> None:
    with working(place, *python(WRITE_ON_DEMAND)) as worker:
        worker.say(b"1")
        assert worker.hear() == b"wrote 1"
        assert worker.pid not in worker.relays()  # as its only child
        for relay in worker.relays():
            assert os.getsid(relay) not in (os.getsid(worker.process.pid), relay)
            assert os.getpgid(relay) != os.getpgid(worker.process.pid)
            assert Path(f"/proc/{relay}/comm").read_text() == "stderr-relay\n"
            assert b"race" not in Path(f"/proc/{relay}/cmdline").read_bytes()
            assert os.readlink(f"/proc/{relay}/cwd") == "/"


@pytest.mark.parametrize("stopped", [False, True])
def test_reader_that_has_gone_ends_the_worker_as_bare(place: Place, stopped: bool) -> None:
    with working(place, "sh", "-c", "echo ready; read wait; exec yes >&2") as worker:
        assert worker.hear() == b"ready"
        child = worker.pid
        worker.process.stderr.close()  # type: ignore[union-attr]
        if stopped:
            worker.process.send_signal(signal.SIGSTOP)
        worker.say(b"go on")
        eventually(lambda: state_of(child) == "Z" if stopped else worker.process.poll() is not None)
        worker.process.send_signal(signal.SIGCONT)
        assert worker.process.wait(PATIENCE_S) == -signal.SIGPIPE
        assert worker.relays() == []


def test_reader_that_has_gone_is_an_error_to_a_worker_that_ignores_the_signal(place: Place) -> None:
    script = """
import os
print("ready", flush=True)
input()
try:
    while True:
        os.write(2, b"x")
except BrokenPipeError:
    print("broken pipe", flush=True)
"""
    with working(place, *python(script)) as worker:
        assert worker.hear() == b"ready"
        worker.process.stderr.close()  # type: ignore[union-attr]
        worker.say(b"go on")
        assert worker.hear() == b"broken pipe"


def test_reader_that_stands_still_stops_the_worker_as_bare_and_then_gets_all(place: Place) -> None:
    with working(place, *python(WRITE_ON_DEMAND)) as worker:
        worker.say(b"%d" % (2 * SOME))
        eventually(lambda: unread(worker.process.stderr) > 40_000 and state_of(worker.pid) == "S")
        stderr = Reader(worker.process.stderr)
        assert worker.hear() == b"wrote %d" % (2 * SOME)
        worker.process.stdin.close()  # type: ignore[union-attr]
        assert stderr.all() == NUMBERED[: 2 * SOME]


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_killed_supervisors_directory_is_free_although_the_relay_lives(place: Place) -> None:
    run_dir = place.home / "run"
    with working(place, *python(WRITE_ON_DEMAND), options=["--quiet", "--run-dir", str(run_dir)]) as worker:
        worker.say(b"1")
        assert worker.hear() == b"wrote 1"
        worker.process.kill()
        worker.process.wait(PATIENCE_S)
        assert len(worker.relays()) == 2
        os.close(directory.claim(str(run_dir)))


def test_last_words_of_a_container_are_delivered(place: Place) -> None:
    prefix = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("pid namespaces are not permitted here")
    command = [*prefix, *RUN, "--quiet", "--", "sh", "-c", "seq 200000 >&2"]
    done = subprocess.run(command, capture_output=True, env=place.env(), cwd=place.home, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0
    assert done.stderr == b"".join(b"%d\n" % n for n in range(1, 200_001))


def test_defect_of_ours_does_not_end_the_copying() -> None:
    (source, written), (read, target) = os.pipe(), os.pipe()
    ours, theirs = os.pipe()
    closed: list[bool] = []

    def state(*_: object) -> None:
        raise RuntimeError("a defect")

    copying = threading.Thread(target=Copying(source, target, ours, state, lambda: closed.append(True)).run)
    copying.start()
    text = b"".join(panic(f"a.rs:{n}:1", "boom") for n in range(5))
    for _ in range(10):
        os.write(written, text)
        assert os.read(read, len(text)) == text
    os.close(written)
    copying.join(PATIENCE_S)
    assert closed == [True]
    for descriptor in (source, read, target, ours, theirs):
        os.close(descriptor)


# Left alone

LOOKS = "import os, sys; print(os.fstat(2).st_ino, flush=True); sys.stdin.readline()"
OFF: dict[str, tuple[list[str], dict[str, str]]] = {
    "--no-stderr": (["--no-stderr"], {}),
    "RACE_WATCH_STDERR": ([], {"RACE_WATCH_STDERR": "off"}),
    "RACE_WATCH": ([], {"RACE_WATCH": "0"}),
    "watched elsewhere": ([], {"RACE_WATCH_WATCHER": "none", "RACE_WATCH_RUN_DIR": "run"}),
}


@pytest.mark.parametrize(("options", "variables"), OFF.values(), ids=OFF)
def test_descriptor_is_passed_on_where_it_is_switched_off(place: Place, options: list[str], variables: dict[str, str]) -> None:
    with working(place, *python(LOOKS), options=["--quiet", *options], variables=variables) as worker:
        assert worker.hear() == b"%d" % os.fstat(worker.process.stderr.fileno()).st_ino  # type: ignore[union-attr]
        assert worker.relays() == []


def test_descriptor_is_another_where_it_is_not_switched_off(place: Place) -> None:
    with working(place, *python(LOOKS)) as worker:
        assert worker.hear() != b"%d" % os.fstat(worker.process.stderr.fileno()).st_ino  # type: ignore[union-attr]
        assert len(worker.relays()) == 2


def test_closed_stderr_stays_closed(place: Place) -> None:
    with working(place, "sh", "-c", "ls /proc/self/fd 2>/dev/null; echo lost >&2 || echo $?") as worker:
        bare = worker.process.communicate(timeout=PATIENCE_S)[0]
    script = 'exec "$@" 2>&-'
    command = [*RUN, "--quiet", "--", "sh", "-c", "ls /proc/self/fd 2>/dev/null; echo lost >&2 || echo $?"]
    done = subprocess.run(
        ["sh", "-c", script, "sh", *command], capture_output=True, env=place.env(), cwd=place.home, check=False
    )
    without = subprocess.run(["sh", "-c", script, "sh", *command[len(RUN) + 2 :]], capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (without.stdout, b"")
    assert done.stdout != bare


MODE = "import sys; from race_watch.stderr.source import open_stderr; print(open_stderr(sys.argv[1]).mode)"
MODES = {
    "pipe": ('"$@" 2>&1 >&3 | cat', "a pipe, by way of a relay"),
    "file": ('"$@" 2>file', "a file, read beside the worker"),
    "closed": ('"$@" 2>&-', "left alone: it is closed"),
    "device": ('"$@" 2>/dev/null', "left alone: a device"),
    "named pipe": ('mkfifo fifo; cat fifo & "$@" 2>fifo', "left alone: a named pipe"),
    "shared with stdout": ('"$@" 2>&1 | cat', "left alone: the same pipe as stdout"),
    "shared with another": ('"$@" 2>&1 >&3 4>&2 | cat', "left alone: the same pipe as descriptor 4"),
    "read end": ('true | "$@" 2<&0 </dev/null', "left alone: it is not open for writing"),
}


def test_relay_that_cannot_be_started_is_no_obstacle(place: Place) -> None:
    script = """
import os, resource, sys
from race_watch.stderr import relay, source
for most in range(len(os.listdir("/proc/self/fd")), 16):
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, 100))
    before = os.listdir("/proc/self/fd")
    opened = source.open_stderr(sys.argv[1])
    if opened.fd is not None:
        break
    print(opened.mode, os.listdir("/proc/self/fd") == before)
print(opened.mode)
"""
    with_pipe = subprocess.run(python(script, str(place.home)), capture_output=True, env=place.env(), check=True)
    *failed, last = with_pipe.stdout.decode().splitlines()
    assert set(failed) == {"left alone: Too many open files True", "left alone: the relay's process failed True"}
    assert last == "a pipe, by way of a relay"


@pytest.mark.parametrize(("redirection", "mode"), MODES.values(), ids=MODES)
def test_what_stderr_is_decides_how_it_is_seen(place: Place, redirection: str, mode: str) -> None:
    command = ["sh", "-c", f"exec 3>&1; {redirection}", "sh", *python(MODE, str(place.home))]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=place.env(), cwd=place.home, timeout=PATIENCE_S, check=False)
    assert done.stdout.decode() == f"{mode}\n"


def test_socket_and_terminal_are_left_alone(place: Place) -> None:
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(python(MODE, "."), stdout=subprocess.PIPE, stderr=theirs, env=place.env(), check=False)
        assert done.stdout == b"left alone: a socket\n"
    with terminal(python(MODE, ".")) as opened:
        opened.expect("left alone: a terminal\r\n")


ABORTS = "import asyncio, os; asyncio.new_event_loop().close(); input(); os.abort()"
NOT_LOOKED_FOR = "  panic texts were not looked for: stderr was left alone: "


@pytest.mark.parametrize(
    ("options", "script", "told"),
    [
        pytest.param(["--no-stderr"], ABORTS, [f"{NOT_LOOKED_FOR}switched off"], id="left alone"),
        pytest.param([], ABORTS, [], id="looked at"),
        pytest.param(["--no-stderr"], ABORTS.replace("os.abort()", "os._exit(3)"), [], id="no crash"),
        pytest.param(["--no-stderr", "--quiet"], ABORTS, [], id="quiet"),
    ],
)
def test_summary_says_why_the_panic_text_of_a_crash_is_missing(
    place: Place, options: list[str], script: str, told: list[str]
) -> None:
    done = place.run(*options, script=script, stdin="\n")
    assert [line for line in done.stderr.splitlines() if "panic texts" in line] == told


@pytest.mark.parametrize(
    ("options", "mode"), [([], "a pipe, by way of a relay"), (["--no-stderr"], "left alone: switched off")]
)
def test_health_says_how_stderr_is_seen(place: Place, options: list[str], mode: str) -> None:
    with place.start(*RUN, *options, "--", *python("input()")) as process:
        assert process.stderr is not None
        url = process.stderr.readline().split()[-1].replace("/metrics", "/healthz")
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            assert json.load(answer)["stderr"] == mode
        process.communicate("\n", timeout=PATIENCE_S)


# What it tells of


def kept(place: Place) -> list[str]:
    return ["--quiet", "--keep", "--run-dir", str(place.home / "run")]


def test_panic_on_a_pipe_is_stated_by_the_relay(place: Place) -> None:
    (place.home / "output").write_bytes(b"INFO ready\n" + panic("a.rs:1:1", "boom for alice@example.com"))
    with working(place, *python(WRITE), options=kept(place)) as worker:
        worker.process.communicate(timeout=PATIENCE_S)
    assert told_in(place.home / "run") == {"stderr": [panicked("a.rs:1:1", "boom for <e-mail>")]}


def test_text_without_a_line_end_is_stated_when_the_worker_has_ended(place: Place) -> None:
    script = "import os, sys; os.write(2, b'free(): invalid pointer'); os.fork() or sys.stdin.readline()"
    with working(place, *python(script), options=kept(place)) as worker:
        worker.process.wait(PATIENCE_S)
        assert told_in(place.home / "run") == {"stderr": [StderrTold("glibc", "", "", "free(): invalid pointer")]}


def test_panic_that_a_worker_survives_is_stated_while_it_runs(place: Place) -> None:
    (place.home / "output").write_bytes(panic("a.rs:1:1", "survived"))
    with working(place, *python(WRITE + "\nsys.stdin.readline()"), options=kept(place)) as worker:
        eventually(lambda: told_in(place.home / "run") == {"stderr": [panicked("a.rs:1:1", "survived")]})
        assert worker.process.poll() is None


def test_panic_is_stated_although_the_supervisor_was_killed_and_the_relay_too(place: Place) -> None:
    (place.home / "output").write_bytes(panic("a.rs:1:1", "boom"))
    with working(place, *python("print('ready', flush=True); input()" + WRITE), options=kept(place)) as worker:
        stderr = Reader(worker.process.stderr)
        assert worker.hear() == b"ready"
        worker.process.kill()
        worker.process.wait(PATIENCE_S)
        os.kill(worker.relays()[1], signal.SIGKILL)
        worker.say(b"go on")
        assert stderr.all() == panic("a.rs:1:1", "boom")
    assert told_in(place.home / "run") == {"stderr": [panicked("a.rs:1:1", "boom")]}


def test_panic_that_nobody_reads_is_stated(place: Place) -> None:
    script = f"import os\nfor n in range(900): os.write(2, b'%0999d\\n' % n)\nos.write(2, {panic('a.rs:1:1', 'boom')!r})"
    with working(place, *python(script), options=kept(place)) as worker:
        assert worker.process.wait(PATIENCE_S) == 0
        assert told_in(place.home / "run") == {"stderr": [panicked("a.rs:1:1", "boom")]}


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_panics_in_a_file_are_stated_by_the_supervisor_also_when_it_is_truncated(place: Place, mode: str) -> None:
    script = """
import os, sys
for line in sys.stdin:
    os.write(2, b"thread 'a' (7) panicked at %s:1:1:\\nboom\\n" % line.strip().encode())
"""
    path, run_dir = place.home / "stderr.log", place.home / "run"
    path.write_bytes(panic("before.rs:1:1", "of another run"))
    expected = [panicked(f"{name}.rs:1:1", "boom") for name in ("a", "b", "c")]
    with path.open(mode) as file, working(place, *python(script), options=kept(place), stderr=file) as worker:
        worker.say(b"a.rs")
        eventually(lambda: told_in(run_dir) == {"watcher": expected[:1]})
        os.truncate(path, 0)
        worker.say(b"b.rs")
        eventually(lambda: told_in(run_dir) == {"watcher": expected[:2]})
        worker.say(b"c.rs")
        worker.process.stdin.close()  # type: ignore[union-attr]
        worker.process.wait(PATIENCE_S)
        assert told_in(run_dir) == {"watcher": expected}
        assert worker.relays() == []


def test_faulthandler_stays_as_the_host_has_it(place: Place) -> None:
    script = "import ctypes, faulthandler; faulthandler.enable(); ctypes.string_at(0)"
    bare = subprocess.run(python(script), capture_output=True, check=False)
    with working(place, *python(script), options=kept(place)) as worker:
        _, stderr = worker.process.communicate(timeout=PATIENCE_S)
    assert worker.process.returncode == bare.returncode == -signal.SIGSEGV
    without_thread = [line for line in stderr.splitlines() if b"thread 0x" not in line]
    assert without_thread == [line for line in bare.stderr.splitlines() if b"thread 0x" not in line]
    assert told_in(place.home / "run") == {"stderr": [StderrTold("python_fatal", "", "", "Segmentation fault")]}


def test_relay_that_outlives_the_run_keeps_no_journal(place: Place) -> None:
    text = panic("a.rs:1:1", "boom")
    script = f"import os, sys; os.write(2, {text!r}); os.fork() or (sys.stdin.readline(), os.write(2, {text!r}))"
    with working(place, *python(script)) as worker:
        stderr = Reader(worker.process.stderr)
        assert worker.process.wait(PATIENCE_S) == 0
        assert os.listdir(place.runtime) == []
        worker.say(b"go on")
        assert stderr.all() == text * 2
        assert os.listdir(place.runtime) == []


@pytest.mark.wheels
@pytest.mark.one_python
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("livekit", "status", "line"), [("1.1.7", -signal.SIGABRT, 75), ("1.0.25", -signal.SIGTERM, 70)])
def test_panic_of_the_native_library_is_stated(place: Place, livekit: str, status: int, line: int) -> None:
    with background_sfu() as url:
        done = run_scenario(
            "disconnect_stale_handle", livekit=livekit, sfu_url=url, under=[*RUN, *kept(place), "--"], env=place.env()
        )
    assert done.returncode == status
    panics, *others = told_in(place.home / "run")["stderr"]
    assert panics.kind == "rust_panic"
    assert panics.thread.startswith("tokio-r")
    assert panics.place == f"livekit-ffi/src/server/requests.rs:{line}:77"
    assert 'InvalidRequest("handle not found")' in panics.message
    assert panics.place in done.stderr
    assert [fact.kind for fact in others] == (["ffi_panic"] if livekit == "1.0.25" else [])
