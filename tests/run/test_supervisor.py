"""The supervised command behaves as the bare one: real processes, real signals, real terminals."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from supervising import (
    END,
    ENVIRONMENT,
    PATIENCE_S,
    Recorder,
    python,
    recording,
    run,
    shell,
    supervised,
    terminal,
    typed,
    with_signals,
)

from race_watch.supervisor import Exit

pytestmark = [
    pytest.mark.timeout(90),
    pytest.mark.skipif(sys.platform != "linux", reason="the tests read /proc and use util-linux"),
]


# How it ended


@pytest.mark.parametrize("code", [0, 1, 255])
def test_exit_code_is_repeated(code: int) -> None:
    assert run(supervised("sh", "-c", f"exit {code}")).returncode == code


@pytest.mark.parametrize("name", ["SIGABRT", "SIGKILL", "SIGTERM", "SIGSEGV", "SIGINT", "SIGPIPE"])
def test_death_by_signal_is_repeated(name: str) -> None:
    assert run(supervised("sh", "-c", f"kill -{name[3:]} $$")).returncode == -signal.Signals[name]


def test_death_by_real_time_signal_is_repeated() -> None:
    number = signal.SIGRTMIN + 3
    assert run(supervised(*python(f"import os; os.kill(os.getpid(), {number})"))).returncode == -number


def test_core_is_dumped_once(tmp_path: Path) -> None:
    if Path("/proc/sys/kernel/core_pattern").read_text().startswith(("|", "/")):
        pytest.skip("core dumps do not go to the working directory here")
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("core dumps are not permitted here")
    abort = f"cd {tmp_path} && ulimit -c unlimited && exec $0 $@ 'kill -ABRT $$'"
    result = run(["sh", "-c", abort, *supervised("sh", "-c")])
    assert result.returncode == -signal.SIGABRT
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("ended", "words", "status"),
    [
        pytest.param(Exit(3, None, False), "exit status 3", 3, id="code"),
        pytest.param(Exit(None, 6, True), "killed by SIGABRT", 134, id="signal"),
        pytest.param(Exit(None, 40, False), "killed by signal 40", 168, id="real-time"),
    ],
)
def test_exit_says_how_it_ended(ended: Exit, words: str, status: int) -> None:
    assert (ended.describe(), ended.shell_status) == (words, status)


def test_exit_code_is_known_although_sigchld_was_ignored_at_start() -> None:
    assert run(with_signals(*supervised("sh", "-c", "exit 7"), ignored="SIGCHLD")).returncode == 7


# Commands that cannot be started


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    (tmp_path / "plain.txt").write_text("text")
    (tmp_path / "no_interpreter").write_text("#!/no/such/interpreter\n")
    (tmp_path / "no_format").write_text("text")
    for name in ("no_interpreter", "no_format"):
        (tmp_path / name).chmod(0o755)
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        pytest.param("no-such-command", 127, "command not found", id="unknown"),
        pytest.param("", 127, "no command given", id="empty"),
        pytest.param("./absent", 127, "no such file", id="unknown path"),
        pytest.param("./plain.txt/x", 127, "no such file", id="below a file"),
        pytest.param("./plain.txt", 126, "permission denied", id="not executable"),
        pytest.param("plain.txt", 126, "permission denied", id="not executable in PATH"),
        pytest.param("./folder", 126, "is a directory", id="directory"),
        pytest.param("./no_interpreter", 126, "interpreter does not exist", id="bad interpreter"),
        pytest.param("no_interpreter", 126, "interpreter does not exist", id="bad interpreter in PATH"),
        pytest.param("./no_format", 126, "exec format error", id="no format"),
    ],
)
def test_command_that_cannot_run_is_explained(programs: Path, name: str, status: int, message: str) -> None:
    command = ["env", f"PATH={programs}:{os.environ['PATH']}", *supervised(name)]
    result = run(command, cwd=programs)
    assert result.returncode == status
    assert message in result.stderr.decode()
    assert result.stderr.count(b"\n") == 1
    assert b"Traceback" not in result.stderr


def test_no_command_is_explained() -> None:
    result = run(supervised())
    assert (result.returncode, result.stderr.count(b"\n")) == (127, 1)
    assert b"no command given" in result.stderr


def test_failed_start_leaves_signals_as_they_were() -> None:
    source = """
import signal
from race_watch.supervisor import CommandError, spawn
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
try:
    spawn(["no-such-command"])
except CommandError:
    print(signal.pthread_sigmask(signal.SIG_BLOCK, []) == before, signal.getsignal(signal.SIGCHLD).name)
"""
    assert run(python(source)).stdout == b"True SIG_IGN\n"


# Signals


@pytest.mark.parametrize(
    "name",
    ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGWINCH", "SIGCONT", "SIGTSTP", "SIGALRM"],
)
def test_signal_is_forwarded_once(name: str) -> None:
    with recording() as (process, recorder):
        process.send_signal(signal.Signals[name])
        assert recorder.next() == f"{name} {process.pid}"
        process.send_signal(END)
        assert recorder.rest() == []
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV", "SIGPIPE", "SIGXCPU"])
def test_signal_that_is_a_fault_unless_sent_is_forwarded_once(name: str) -> None:
    test_signal_is_forwarded_once(name)


def test_real_time_signals_are_forwarded_each() -> None:
    with recording() as (process, recorder):
        for _ in range(3):
            process.send_signal(signal.SIGRTMIN + 5)
        process.send_signal(END)
        assert recorder.rest() == [f"{signal.SIGRTMIN + 5} {process.pid}"] * 3


def test_group_kill_reaches_the_child_once() -> None:
    with recording() as (process, recorder):
        os.killpg(process.pid, signal.SIGTERM)
        assert recorder.next() == f"SIGTERM {process.pid}"
        process.send_signal(END)
        assert recorder.rest() == []


def test_timeout_reaches_the_child_once() -> None:
    with recording(before=["timeout", "-s", "TERM", "60"]) as (timeout, recorder):
        supervisor = _parent(recorder.pid)
        timeout.send_signal(signal.SIGTERM)  # as its time limit: it signals its command, then its group
        assert recorder.next() == f"SIGTERM {supervisor}"
        assert recorder.next() == f"SIGCONT {supervisor}"  # for a command that is stopped
        os.kill(supervisor, END)
        assert recorder.rest() == []


def test_signal_repeated_in_one_breath_is_forwarded_once() -> None:
    with recording() as (process, recorder):
        for _ in range(3):
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)
            assert recorder.next() == f"SIGTERM {process.pid}"
        process.send_signal(END)
        assert recorder.rest() == []


def test_signal_repeated_later_is_forwarded_again() -> None:
    with recording() as (process, recorder):
        for _ in range(3):
            process.send_signal(signal.SIGTERM)
            assert recorder.next() == f"SIGTERM {process.pid}"


def test_signal_between_start_and_wait_is_not_lost() -> None:
    source = """
import sys
from race_watch.supervisor import leave, spawn
child = spawn(sys.argv[1:])
sys.stdin.readline()
leave(child.wait())
"""
    recorder = Recorder()
    process = subprocess.Popen(
        python(source, *recorder.command), stdin=subprocess.PIPE, env=ENVIRONMENT, pass_fds=[recorder.descriptor]
    )
    try:
        recorder.started()
        process.send_signal(signal.SIGTERM)
        assert process.stdin
        process.stdin.write(b"go on\n")
        process.stdin.close()
        assert recorder.next() == f"SIGTERM {process.pid}"
        process.send_signal(END)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        recorder.close()


def test_signal_of_our_own_making_is_not_forwarded() -> None:
    source = """
import os, sys
from race_watch.supervisor import leave, spawn
read, write = os.pipe()
os.close(read)
def tick():
    try:
        os.write(write, b"x")  # SIGPIPE
    except BrokenPipeError:
        print("broken pipe", flush=True)
leave(spawn(sys.argv[1:]).wait(tick, 0.01))
"""
    recorder = Recorder()
    process = subprocess.Popen(
        python(source, *recorder.command), stdout=subprocess.PIPE, env=ENVIRONMENT, pass_fds=[recorder.descriptor]
    )
    assert process.stdout
    try:
        recorder.started()
        assert [process.stdout.readline() for _ in range(3)] == [b"broken pipe\n"] * 3
        process.send_signal(END)
        assert recorder.rest() == []
        process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        recorder.close()


def test_child_is_found_although_no_signal_can_be_awaited_with_a_time_limit() -> None:
    source = """
import signal, sys
del signal.sigtimedwait  # macOS
from race_watch.supervisor import leave, spawn
leave(spawn(sys.argv[1:]).wait())
"""
    recorder = Recorder()
    process = subprocess.Popen(python(source, *recorder.command), env=ENVIRONMENT, pass_fds=[recorder.descriptor])
    try:
        recorder.started()
        process.send_signal(signal.SIGTERM)
        assert recorder.next() == f"SIGTERM {process.pid}"
        process.send_signal(END)
        assert recorder.rest() == []
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        recorder.close()


@pytest.mark.parametrize(
    ("ignored", "blocked"),
    [
        pytest.param("", "", id="plain"),
        pytest.param("SIGHUP", "", id="nohup"),
        pytest.param("SIGINT SIGQUIT", "", id="background of a script"),
        pytest.param("SIGCHLD SIGUSR1 SIGTSTP", "", id="odd ones ignored"),
        pytest.param("", "SIGUSR1 SIGTERM SIGINT", id="blocked"),
    ],
)
def test_signal_state_of_the_child_is_as_bare(ignored: str, blocked: str) -> None:
    command = ["grep", "-E", "^Sig(Ign|Blk|Cgt|Pnd)", "/proc/self/status"]
    bare = run(with_signals(*command, ignored=ignored, blocked=blocked)).stdout
    assert bare.count(b"\n") == 4
    assert run(with_signals(*supervised(*command), ignored=ignored, blocked=blocked)).stdout == bare


def test_killed_supervisor_leaves_the_child_undisturbed() -> None:
    with recording() as (process, recorder):
        process.kill()
        process.wait(PATIENCE_S)
        os.kill(recorder.pid, signal.SIGUSR1)
        assert recorder.next() == f"SIGUSR1 {os.getpid()}"
        os.kill(recorder.pid, END)
        assert recorder.rest() == []


# Streams and descriptors


def test_binary_passes_through_untouched() -> None:
    data = bytes(range(256)) * 4096
    result = run(supervised("sh", "-c", "tee /dev/stderr"), input=data)
    assert (result.stdout, result.stderr) == (data, data)


def test_inherited_descriptor_is_usable_in_the_child() -> None:
    read, write = os.pipe()
    try:
        assert run(supervised("bash", "-c", f"echo through >&{write}"), pass_fds=[write]).returncode == 0
        assert os.read(read, 100) == b"through\n"
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.parametrize("redirection", ["", "<&-", "<&- >&-"])
def test_child_has_no_descriptor_of_ours(redirection: str) -> None:
    look = f'exec "$@" {redirection}'
    command = ["sh", "-c", "ls /proc/self/fd >&2"]
    bare = run(["sh", "-c", look, "sh", *command])
    assert run(["sh", "-c", look, "sh", *supervised(*command)]).stderr == bare.stderr


# The tick


def test_tick_error_is_kept_and_the_wait_goes_on() -> None:
    source = """
from race_watch.supervisor import spawn
calls = []
def tick():
    calls.append(1)
    if len(calls) == 3:
        raise RuntimeError("no more")
child = spawn(["sleep", "0.5"])
print(child.wait(tick, 0.01), repr(child.tick_error), len(calls))
"""
    assert run(python(source)).stdout.decode() == ("Exit(code=0, signal=None, core_dumped=False) RuntimeError('no more') 3\n")


# Terminals


def test_terminal_is_the_childs() -> None:
    look = "import os; print(*map(os.isatty, range(3)), os.tcgetpgrp(0) == os.getpgrp() == os.getpid())"
    with terminal(supervised(*python(look))) as opened:
        opened.expect("True True True True\r\n")
        assert opened.process.wait(PATIENCE_S) == 0


def test_child_in_a_terminal_has_no_descriptor_of_ours() -> None:
    with terminal(supervised("sh", "-c", r"ls /proc/self/fd | tr '\n' ' '; echo end")) as opened:
        opened.expect("^0 1 2 3 end")  # the last is the directory, as ls reads it


def test_terminal_signals_reach_the_child_once_and_from_the_kernel() -> None:
    recorder = Recorder()
    with terminal(supervised(*recorder.command), keep=[recorder.descriptor]) as opened:
        recorder.started()
        opened.type("\x03")
        assert recorder.next() == "SIGINT 0"
        opened.type("\x1c")
        assert recorder.next() == "SIGQUIT 0"
        opened.resize()
        assert recorder.next() == "SIGWINCH 0"
        opened.process.send_signal(END)
        assert recorder.rest() == []
        assert opened.process.wait(PATIENCE_S) == 0
    recorder.close()


def test_hangup_reaches_the_child_of_a_session_leader_once() -> None:
    recorder = Recorder()
    with terminal(supervised(*recorder.command), keep=[recorder.descriptor]) as opened:
        recorder.started()
        os.close(opened.master)
        opened.master = -1
        received = {recorder.next(), recorder.next()}  # the kernel sends both
        assert received == {f"SIGHUP {opened.process.pid}", f"SIGCONT {opened.process.pid}"}
        opened.process.send_signal(END)
        assert recorder.rest() == []
        assert opened.process.wait(PATIENCE_S) == 0
    recorder.close()


def test_ctrl_z_and_fg_under_a_shell() -> None:
    with shell() as bash:
        bash.type(typed(supervised("sh", "-c", "echo rea''dy; exec cat")) + "\n")
        bash.expect("ready\r\n")
        bash.type("\x1a")
        bash.expect(r"Stopped.*\n")
        bash.expect("prompt> ")
        bash.type("jobs -x ps -o state= --ppid %1\n")
        bash.expect(r"\nT\s*\r\n")
        bash.type("fg\n")
        bash.type("again\n")
        bash.expect("again\r\n")  # the echo
        bash.expect("again\r\n")
        bash.type("\x04")
        bash.expect("prompt> ")
        bash.type("echo status=$?\n")
        bash.expect("status=0\r\n")


def test_ctrl_z_and_bg_under_a_shell() -> None:
    with shell() as bash:
        bash.type(typed(supervised("sh", "-c", "echo rea''dy; exec sleep 60")) + "\n")
        bash.expect("ready\r\n")
        bash.type("\x1a")
        bash.expect(r"Stopped.*\n")
        bash.type("bg\n")
        bash.expect("prompt> ")
        bash.type("kill %1; wait %1; echo status=$?\n")
        bash.expect("status=143\r\n")


def test_stop_of_the_child_is_shown_to_the_shell() -> None:
    with shell() as bash:
        bash.type(typed(supervised("sh", "-c", "kill -STOP $$; echo rea''dy")) + "\n")
        bash.expect(r"Stopped.*\n")
        bash.type("fg\n")
        bash.expect("ready\r\n")
        bash.expect("prompt> ")


def test_ctrl_c_ends_the_command_and_the_shell_goes_on() -> None:
    with shell() as bash:
        bash.type(typed(supervised("sh", "-c", "echo rea''dy; exec sleep 60")) + "\n")
        bash.expect("ready\r\n")
        bash.type("\x03")
        bash.expect("prompt> ")
        bash.type("echo status=$?\n")
        bash.expect("status=130\r\n")


def test_failed_start_gives_the_terminal_back() -> None:
    with terminal(["sh", "-c", typed(supervised("no-such-command")) + "; read line; echo got=$line"]) as opened:
        opened.expect("command not found")
        opened.type("word\n")
        opened.expect("got=word\r\n")


def test_background_start_does_not_take_the_terminal() -> None:
    with shell() as bash:
        bash.type(typed(supervised("sh", "-c", "echo rea''dy; exec sleep 60")) + " &\n")
        bash.expect("ready\r\n")
        bash.type("read line; echo got=$line\n")
        bash.type("word\n")
        bash.expect("got=word\r\n")
        bash.type("kill %1; wait %1; echo status=$?\n")
        bash.expect("status=143\r\n")


def test_background_reader_is_stopped_as_bare_and_reads_after_fg() -> None:
    with shell() as bash:
        bash.type("set -b\n")  # tell of stopped jobs at once
        bash.type(typed(supervised("sh", "-c", "echo rea''dy; exec cat")) + " &\n")
        bash.expect("ready\r\n")
        bash.expect(r"Stopped.*\n")
        bash.type("fg\n")
        bash.type("again\n")
        bash.expect("again\r\n")  # the echo
        bash.expect("again\r\n")
        bash.type("\x04")
        bash.expect("prompt> ")


def test_script_keeps_the_terminal_and_ctrl_c_reaches_both() -> None:
    recorder = Recorder()
    script = "trap 'echo script has it' INT; " + typed(supervised(*recorder.command)) + "; echo status=$?"
    with terminal(["bash", "-c", script], keep=[recorder.descriptor]) as opened:
        recorder.started()
        supervisor = _parent(recorder.pid)
        opened.type("\x03")
        assert recorder.next() == f"SIGINT {supervisor}"
        os.kill(supervisor, END)
        assert recorder.rest() == []
        opened.expect("script has it")
        opened.expect("status=0\r\n")
    recorder.close()


def test_child_of_a_script_reads_the_terminal_and_the_script_does_after_it() -> None:
    script = typed(supervised("sh", "-c", "read line; echo child=$line")) + "; read line; echo script=$line"
    with terminal(["bash", "-c", script]) as opened:
        opened.type("one\n")
        opened.expect("child=one\r\n")
        opened.type("two\n")
        opened.expect("script=two\r\n")


def test_ctrl_z_stops_a_script_whose_child_has_the_terminal() -> None:
    child = supervised("sh", "-c", "read line; echo one=$line; read line; echo two=$line")
    with shell() as bash:
        bash.type(typed(["bash", "-c", typed(child) + "; echo script goes on"]) + "\n")
        bash.type("first\n")
        bash.expect("one=first\r\n")
        bash.type("\x1a")
        bash.expect(r"Stopped.*\n")
        bash.type("fg\n")
        bash.type("second\n")
        bash.expect("two=second\r\n")
        bash.expect("script goes on\r\n")
        bash.expect("prompt> ")


def test_pager_we_write_to_can_read_the_terminal() -> None:
    pager = python("import sys; sys.stdin.readline(); print('asks', flush=True); print(open('/dev/tty').readline())")
    with shell() as bash:
        bash.type(typed(supervised("sh", "-c", "echo data; exec sleep 60")) + " | " + typed(pager) + "\n")
        bash.expect("\nasks\r\n")
        bash.type("answer\n")
        bash.expect("answer\r\nanswer\r\n")
        bash.type("\x03")
        bash.expect("prompt> ")


def test_ctrl_z_without_a_shell_above_does_not_stop_the_child() -> None:
    with terminal(supervised("sh", "-c", "echo rea''dy; exec cat")) as opened:
        opened.expect("ready\r\n")
        opened.type("\x1a")
        opened.type("again\n")
        opened.expect("again\r\nagain\r\n")
        opened.type("\x04")
        assert opened.process.wait(PATIENCE_S) == 0


# PID 1


@pytest.fixture(scope="module")
def namespace() -> list[str]:
    """A prefix that makes the command PID 1."""
    for extra in ([], ["-r"]):
        prefix = ["unshare", *extra, "--pid", "--fork", "--mount-proc"]
        if shutil.which("unshare") and run([*prefix, "true"]).returncode == 0:
            return prefix
    pytest.skip("pid namespaces are not permitted here")


@pytest.mark.parametrize(
    ("script", "status"),
    [
        pytest.param("exit 3", 3, id="code"),
        pytest.param("kill -ABRT $$", 134, id="signal"),
        pytest.param("kill -KILL $$", 137, id="SIGKILL"),
    ],
)
def test_pid_1_repeats_the_status(namespace: list[str], script: str, status: int) -> None:
    assert run([*namespace, *supervised("sh", "-c", script)]).returncode == status


def test_pid_1_reaps_orphans(namespace: list[str]) -> None:
    source = """
import os, sys, time
read, write = os.pipe()
if os.fork() == 0:
    if (orphan := os.fork()) == 0:
        time.sleep(0.1)
        os._exit(9)
    os.write(write, b"%d" % orphan)
    os._exit(0)
os.wait()
orphan = os.read(read, 20).decode()
deadline = time.monotonic() + 20
while os.path.exists("/proc/" + orphan) and time.monotonic() < deadline:
    time.sleep(0.01)
print("parent", os.getppid(), "reaped", not os.path.exists("/proc/" + orphan))
sys.exit(5)
"""
    result = run([*namespace, *supervised(*python(source))])
    assert (result.stdout, result.returncode) == (b"parent 1 reaped True\n", 5)


def test_pid_1_forwards_and_ends(namespace: list[str]) -> None:
    script = "trap 'echo has it; exit 4' TERM; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        [*namespace, *supervised("sh", "-c", script)], stdout=subprocess.PIPE, env=ENVIRONMENT, text=True
    )
    assert process.stdout
    try:
        assert process.stdout.readline() == "ready\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        assert process.communicate(timeout=PATIENCE_S)[0] == "has it\n"
        assert process.returncode == 4
    finally:
        process.kill()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
