"""The command line as a user has it: what passes through, what is printed, what is left behind, what is said of mistakes."""

from __future__ import annotations

import http.client
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from commands import LOSES_A_TASK, PATIENCE_S, RACE_WATCH, ROOT, Place, incidents_in, last_of_each

from race_watch.cli import main
from race_watch.signatures import SIGNATURES

pytestmark = pytest.mark.timeout(90)

LIVES_ON = "print('worker ran')"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def left_behind(place: Place) -> list[str]:
    return os.listdir(place.runtime)


# Transparent

SCRIPTS = {
    "plain": "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)",
    "stdin": "import sys; [print(line.upper(), end='') for line in sys.stdin]",
    "traceback": "def f(): raise ValueError('x')\nf()",
    "warning": "import warnings; warnings.warn('careful')",
    "asyncio": "import asyncio\nasync def m(): await asyncio.sleep(0); print('ran')\nasyncio.run(m(), debug=True)",
    "asyncio error": "import asyncio\nasync def m(): raise ValueError('x')\nasyncio.run(m())",
    "logging": "import logging\nlogging.warning('w'); logging.getLogger('a').error('e', exc_info=ValueError('x'))",
    "lost task": LOSES_A_TASK,
    "child": "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', 'import asyncio, sys; sys.exit(5)']))",
    "fork": "import os\npid = os.fork()\npid and os.waitpid(pid, 0)\nprint('parent' if pid else 'child', flush=True)",
    "multiprocessing": (
        "import multiprocessing as m\nif __name__ == '__main__':\n"
        "  p = m.get_context('spawn').Process(target=print, args=('child',)); p.start(); p.join(); print(p.exitcode)"
    ),
    "silent": "",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_script_without_livekit_is_the_same_and_leaves_nothing(place: Place, script: str) -> None:
    (place.home / "script.py").write_text(script)
    command = [sys.executable, "script.py"]
    bare = place.call(*command, stdin="one\ntwo\n")
    watched = place.race_watch("run", "--quiet", "--metrics-port", "0", "--", *command, stdin="one\ntwo\n")
    assert (watched.stdout, watched.stderr, watched.returncode) == (bare.stdout, bare.stderr, bare.returncode)
    assert left_behind(place) == []


def test_stdin_reaches_the_command_byte_for_byte(place: Place) -> None:
    text = "".join(f"line {n} ü\n" for n in range(20_000))
    done = place.race_watch("run", "--quiet", "--metrics-port", "0", "--", "cat", stdin=text)
    assert done.stdout == text


def test_options_of_the_command_are_its_own(place: Place) -> None:
    script = "import sys; print(sys.argv[1:])"
    for dashes in ((), ("--",)):
        done = place.race_watch(
            "run", "-q", "--metrics-port", "0", *dashes, sys.executable, "-c", script, "--quiet", "--help", "--", "-x"
        )
        assert done.stdout == "['--quiet', '--help', '--', '-x']\n"


def by_writer(stderr: str) -> list[list[str]]:
    """The lines of the worker and ours, without what varies."""
    lines = re.sub(r"pid=\d+|0x[0-9a-f]+|:\d+/metrics", "", stderr).splitlines()
    ours = [i for i, line in enumerate(lines) if line.startswith("race-watch:") or "race-watch: summary" in lines[:i]]
    return [[line for i, line in enumerate(lines) if (i in ours) is mine] for mine in (False, True)]


def test_second_run_is_like_the_first(place: Place) -> None:
    first, second = (place.run(script=LOSES_A_TASK) for _ in range(2))
    # Two processes write to one stderr: the order is each one's own.
    assert by_writer(first.stderr) == by_writer(second.stderr)
    assert first.stdout == second.stdout == "worker done\n"
    assert left_behind(place) == []


# What it prints


def test_incidents_metrics_and_summary_are_printed_unless_quiet(place: Place) -> None:
    done = place.run(script=LOSES_A_TASK)
    ours = [line for line in done.stderr.splitlines() if line.startswith("race-watch:")]
    assert re.fullmatch(r"race-watch: metrics at http://127\.0\.0\.1:\d+/metrics", ours[0])
    assert re.fullmatch(
        r"race-watch: task_exception_lost \| the application's fault \| LookupError in <string>:look_up \| pid=\d+ task=Task-2",
        ours[1],
    )
    assert ours[2:] == ["race-watch: summary"]
    assert "ended: exit status 0" in done.stderr
    assert "1 process watched" in done.stderr
    assert "\x1b" not in done.stderr
    quiet = place.run("--quiet", script=LOSES_A_TASK)
    assert "race-watch" not in quiet.stderr
    variable = place.run(script=LOSES_A_TASK, RACE_WATCH_QUIET="1")
    assert "race-watch" not in variable.stderr


def test_process_that_was_not_watched_is_said(place: Place) -> None:
    done = place.race_watch("run", "--metrics-port", "0", "--", "true")
    assert "no process attached" in done.stderr


def test_metrics_are_served_while_the_command_runs_and_not_after(place: Place) -> None:
    process = place.start(*RACE_WATCH, "run", "--metrics-port", "0", "--", sys.executable, "-c", "input()")
    assert process.stderr is not None
    line = process.stderr.readline()
    url = urlsplit(line.split()[-1])

    def status() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", url.port, timeout=10)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().status
        finally:
            connection.close()

    assert status() == 200
    process.communicate("go on\n", timeout=PATIENCE_S)
    assert process.returncode == 0
    with pytest.raises(OSError, match="refused"):
        status()


def test_incident_file_is_appended_to_run_by_run(place: Place) -> None:
    path = place.home / "incidents.jsonl"
    for runs in (1, 2):
        done = place.run("--quiet", "--incidents", str(path), script=LOSES_A_TASK)
        assert done.returncode == 0
        assert len(incidents_in(path)) == runs
    assert [incident["category"] for incident in incidents_in(path)] == ["task_exception_lost"] * 2


# Mistakes: one line each

USAGE = {
    "unknown option": (["run", "--no-such-option", "--", "true"], "No such option '--no-such-option'"),
    "unknown command": (["wathc"], "No such command 'wathc'"),
    "no command": (["run"], "Missing argument 'COMMAND...'"),
    "port out of range": (["run", "--metrics-port", "70000", "--", "true"], "70000 is not in the range"),
    "port that is none": (["run", "--metrics-port", "http", "--", "true"], "'http' is not a valid int"),
    "directory for a file": (["run", "--incidents", "/", "--", "true"], "is a directory"),
    "option without value": (["run", "--run-dir"], "requires an argument"),
    "no directory to watch": (["watch"], "Missing option '--run-dir'"),
    "no directory to report": (["report"], "Missing argument 'RUN_DIR'"),
}


def assert_one_line(stderr: str) -> None:
    assert stderr.startswith("race-watch: ")
    assert stderr.count("\n") == 1
    assert stderr.endswith("\n")
    assert "Traceback" not in stderr


@pytest.mark.parametrize(("arguments", "message"), USAGE.values(), ids=USAGE)
def test_wrong_command_line_is_one_line_and_exit_2(place: Place, arguments: list[str], message: str) -> None:
    done = place.race_watch(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert_one_line(done.stderr)
    assert message in done.stderr


REFUSED: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "report on nothing": (lambda home: ["report", str(home / "nowhere")], "is not a directory"),
    "report on a file": (lambda home: ["report", __file__], "is not a directory"),
    "report on an empty directory": (lambda home: ["report", str(home / "runtime")], "no journals in"),
    "unknown signature": (lambda home: ["signatures", "no-such-race"], "no signature 'no-such-race'"),
    "watch on a file": (lambda home: ["watch", "--run-dir", __file__], "cannot use"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_done_is_one_line_and_exit_1(place: Place, arguments: Callable[[Path], list[str]], message: str) -> None:
    done = place.race_watch(*arguments(place.home))
    assert (done.returncode, done.stdout) == (1, "")
    assert_one_line(done.stderr)
    assert message in done.stderr


PROBLEMS: dict[str, tuple[dict[str, str], str]] = {
    "port out of range": ({"RACE_WATCH_METRICS_PORT": "70000"}, "RACE_WATCH_METRICS_PORT=70000 is not between 0 and 65535"),
    "port that is none": ({"RACE_WATCH_METRICS_PORT": "http"}, "RACE_WATCH_METRICS_PORT='http' is not a whole number"),
    "unknown variable": ({"RACE_WATCH_METRIC_PORT": "9000"}, "did you mean RACE_WATCH_METRICS_PORT?"),
    "unknown choice": ({"RACE_WATCH_IDENTITY": "clear"}, "RACE_WATCH_IDENTITY='clear' is not one of hash, plain"),
    "journal too small": ({"RACE_WATCH_JOURNAL_BYTES": "1"}, "is not between 65536 and 67108864; using 1048576"),
}


@pytest.mark.parametrize(("variables", "message"), PROBLEMS.values(), ids=PROBLEMS)
def test_bad_variable_is_one_line_and_the_worker_runs_on(place: Place, variables: dict[str, str], message: str) -> None:
    done = place.run("--quiet", script=LIVES_ON, **variables)
    assert (done.returncode, done.stdout) == (0, "worker ran\n")
    assert_one_line(done.stderr)
    assert message in done.stderr


def test_each_problem_has_its_line(place: Place) -> None:
    done = place.run("--quiet", script=LIVES_ON, RACE_WATCH_QUIET="2", RACE_WATCH_NOPE="1")
    assert done.stdout == "worker ran\n"
    assert len(done.stderr.splitlines()) == 2


def test_empty_variables_count_as_unset(place: Place) -> None:
    done = place.run("--quiet", script=LIVES_ON, RACE_WATCH_METRICS_PORT="", RACE_WATCH_RUN_DIR="", RACE_WATCH_INCIDENTS="")
    assert (done.stdout, done.stderr) == ("worker ran\n", "")


def test_taken_port_is_one_line_and_the_worker_runs_on_and_is_watched(place: Place) -> None:
    path = place.home / "incidents.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = place.run("--quiet", "--metrics-port", str(port), "--incidents", str(path), script=LOSES_A_TASK)
    assert done.stdout == "worker done\n"
    lines = [line for line in done.stderr.splitlines() if "race-watch" in line]
    assert len(lines) == 1
    assert f"no metrics: cannot listen on 127.0.0.1:{port}: Address already in use" in lines[0]
    assert len(incidents_in(path)) == 1


@pytest.mark.parametrize("where", ["/dev/null/below", "/proc/race-watch", "{home}/file", "{home}/link"])
def test_run_directory_that_cannot_be_used_is_one_line_and_another_is_made(place: Place, where: str) -> None:
    (place.home / "file").touch()
    (place.home / "elsewhere").mkdir()
    (place.home / "link").symlink_to(place.home / "elsewhere")
    path = where.format(home=place.home)
    done = place.run("--quiet", "--run-dir", path, script=LIVES_ON)
    assert (done.returncode, done.stdout) == (0, "worker ran\n")
    assert_one_line(done.stderr)
    assert f"cannot use run directory {path}: " in done.stderr
    assert left_behind(place) == []
    assert os.listdir(place.home / "elsewhere") == []


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_run_directory_without_permission_is_one_line(place: Place) -> None:
    (place.home / "locked").mkdir(mode=0o500)
    done = place.run("--quiet", "--run-dir", str(place.home / "locked" / "run"), script=LIVES_ON)
    assert done.stdout == "worker ran\n"
    assert_one_line(done.stderr)


def test_incident_file_that_cannot_be_made_is_one_line(place: Place) -> None:
    path = place.home / "nowhere" / "incidents.jsonl"
    done = place.run("--quiet", "--incidents", str(path), script=LIVES_ON)
    assert done.stdout == "worker ran\n"
    assert_one_line(done.stderr)
    assert f"no incident file: {path}: No such file or directory" in done.stderr


def test_incident_file_that_fills_up_is_one_line_and_incidents_are_still_printed(place: Place) -> None:
    done = place.run("--incidents", "/dev/full", script=LOSES_A_TASK)
    assert done.stdout == "worker done\n"
    assert done.stderr.count("incident file stopped: No space left on device") == 1
    assert done.stderr.count("race-watch: task_exception_lost") == 1
    assert "watcher failed" not in done.stderr


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        pytest.param("no-such-command", 127, "'no-such-command': command not found", id="unknown"),
        pytest.param("./absent", 127, "'./absent': no such file", id="no file"),
        pytest.param("./text", 126, "permission denied", id="not executable"),
        pytest.param("/", 126, "is a directory", id="directory"),
    ],
)
def test_command_that_cannot_run_is_one_line_and_leaves_nothing(place: Place, command: str, status: int, message: str) -> None:
    (place.home / "text").write_text("text")
    done = place.race_watch("run", "--metrics-port", "0", "--", command)
    assert (done.returncode, done.stdout) == (status, "")
    assert_one_line(done.stderr)
    assert message in done.stderr
    assert left_behind(place) == []


# Streams that are closed


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 2>&-", "0<&-"])
def test_closed_streams_stay_closed_and_nothing_of_ours_goes_elsewhere(place: Place, closed: str) -> None:
    script = (
        f"{RACE_WATCH[0]} -m race_watch run --metrics-port 0 --incidents found.jsonl -- {sys.executable} worker.py {closed}"
    )
    (place.home / "worker.py").write_text(LOSES_A_TASK)
    done = place.call("sh", "-c", script, RACE_WATCH_NO_SUCH_SETTING="1")
    assert (done.returncode, done.stdout) == (0, "worker done\n")
    assert len(incidents_in(place.home / "found.jsonl")) == 1
    assert left_behind(place) == []


def test_reader_of_stderr_that_has_gone_does_not_matter(place: Place) -> None:
    # The worker itself is silent; what breaks is our own line and summary.
    script = f"import logging\nlogging.disable()\ninput()\n{LOSES_A_TASK}"
    process = place.start(*RACE_WATCH, "run", "--metrics-port", "0", "--", sys.executable, "-c", script)
    assert process.stderr is not None
    process.stderr.readline()
    process.stderr.close()
    stdout, _ = process.communicate("go on\n", timeout=PATIENCE_S)
    assert (process.returncode, stdout) == (0, "worker done\n")
    assert left_behind(place) == []


# Off, nested


def test_switched_off_it_adds_nothing_to_the_environment(place: Place) -> None:
    script = (
        "import os, sys; print({k: v for k, v in os.environ.items() if k.startswith('RACE_WATCH')}, os.environ['PYTHONPATH'])"
    )
    for off in ("0", "false", "off"):
        done = place.run("--quiet", script=script, RACE_WATCH=off)
        assert done.stdout == f"{{'RACE_WATCH': '{off}'}} {ROOT}\n"
        assert (done.stderr, done.returncode) == ("", 0)
    assert left_behind(place) == []
    assert place.race_watch("run", "--", "no-such-command", RACE_WATCH="0").returncode == 127
    assert place.race_watch("run", "--", "sh", "-c", "kill -ABRT $$", RACE_WATCH="0").returncode == -signal.SIGABRT


def test_run_within_a_run_is_watched_once_by_the_outer_one(place: Place) -> None:
    inner = [*RACE_WATCH, "run", "--metrics-port", "1", "--incidents", "inner.jsonl", "--", sys.executable, "-c", LOSES_A_TASK]
    done = place.race_watch("run", "--metrics-port", "0", "--incidents", "outer.jsonl", "--", *inner)
    assert (done.returncode, done.stdout) == (0, "worker done\n")
    assert done.stderr.count("another one watches") == 1
    assert done.stderr.count("race-watch: task_exception_lost") == 1
    assert "1 process watched" in done.stderr
    assert len(incidents_in(place.home / "outer.jsonl")) == 1
    assert not (place.home / "inner.jsonl").exists()
    assert left_behind(place) == []


# Kept journals and reports


def test_kept_journals_are_reported_as_they_were_seen(place: Place) -> None:
    path = place.home / "incidents.jsonl"
    done = place.run("--keep", "--incidents", str(path), script=LOSES_A_TASK)
    kept = re.search(r"journals kept: race-watch report (\S+)", done.stderr)
    assert kept is not None
    before = {entry.name: entry.read_bytes() for entry in Path(kept[1]).iterdir()}
    as_json = place.race_watch("report", "--json", kept[1])
    assert (as_json.returncode, as_json.stderr) == (0, "")
    assert last_of_each(as_json.stdout.splitlines()) == incidents_in(path)
    shown = place.race_watch("report", kept[1])
    assert shown.stderr == ""
    line = next(line for line in done.stderr.splitlines() if "task_exception_lost" in line)
    assert line in shown.stdout.splitlines()
    assert "race-watch: summary" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert {entry.name: entry.read_bytes() for entry in Path(kept[1]).iterdir()} == before


def test_kept_journals_without_an_incident_are_reported_as_that(place: Place) -> None:
    run_dir = place.home / "run"
    place.run("--quiet", "--keep", "--run-dir", str(run_dir), script="import asyncio; asyncio.run(asyncio.sleep(0))")
    done = place.race_watch("report", str(run_dir))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "  no incidents")
    assert place.race_watch("report", "--json", str(run_dir)).stdout == ""


def test_report_skips_and_names_a_damaged_journal(place: Place) -> None:
    run_dir = place.home / "run"
    place.run("--quiet", "--keep", "--run-dir", str(run_dir), script=LOSES_A_TASK)
    (run_dir / "damaged.rwj").write_bytes(b"\0" * 10_000)
    done = place.race_watch("report", str(run_dir))
    assert done.returncode == 0
    assert "task_exception_lost" in done.stdout
    assert_one_line(done.stderr)
    assert "skipped a journal: " in done.stderr


def test_report_to_a_reader_that_has_gone_has_no_traceback(place: Place) -> None:
    run_dir = place.home / "run"
    place.run("--quiet", "--keep", "--run-dir", str(run_dir), script=LOSES_A_TASK)
    done = place.call("sh", "-c", f"{RACE_WATCH[0]} -m race_watch report {run_dir} | true")
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_report_can_be_read_in_any_encoding(place: Place, encoding: str) -> None:
    run_dir = place.home / "run"
    script = LOSES_A_TASK.replace("no profile", "kein Profil für 🎧")
    place.run("--quiet", "--keep", "--run-dir", str(run_dir), script=script.replace("look_up", "nachschlägé"))
    for arguments in (["report", str(run_dir)], ["report", "--json", str(run_dir)]):
        done = subprocess.run(
            [*RACE_WATCH, *arguments],
            capture_output=True,
            timeout=PATIENCE_S,
            env=place.env(PYTHONIOENCODING=encoding),
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        if "--json" in arguments:
            (incident,) = last_of_each(done.stdout.decode(encoding).splitlines())
            assert incident["exception"]["message"] == "kein Profil für 🎧"


# Killed

_WAITS = LOSES_A_TASK + "\nimport time\ninput()\nprint('worker lived on', flush=True)\n"


def running(place: Place, *options: str) -> subprocess.Popen[str]:
    """A supervised worker that has lost its task and waits for a line."""
    process = place.start(*RACE_WATCH, "run", "--quiet", "--metrics-port", "0", *options, "--", sys.executable, "-c", _WAITS)
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], PATIENCE_S)[0]
    assert process.stdout.readline() == "worker done\n"
    return process


def child_of(process: subprocess.Popen[str]) -> int:
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def test_killed_worker_leaves_its_incident_and_its_death_is_repeated(place: Place) -> None:
    path = place.home / "incidents.jsonl"
    process = running(place, "--incidents", str(path))
    os.kill(child_of(process), signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL
    assert [incident["category"] for incident in incidents_in(path)] == ["task_exception_lost"]
    assert left_behind(place) == []


def test_worker_outlives_a_killed_supervisor_and_its_journal_can_be_read(place: Place) -> None:
    run_dir = place.home / "run"
    process = running(place, "--run-dir", str(run_dir))
    worker = child_of(process)
    process.kill()
    process.wait(PATIENCE_S)
    os.kill(worker, 0)
    while_alive = place.race_watch("report", "--json", str(run_dir))
    assert [incident["category"] for incident in last_of_each(while_alive.stdout.splitlines())] == ["task_exception_lost"]
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go on\n")
    process.stdin.flush()
    assert process.stdout.readline() == "worker lived on\n"
    process.communicate(timeout=PATIENCE_S)
    after = place.race_watch("report", "--json", str(run_dir))
    assert last_of_each(after.stdout.splitlines()) == last_of_each(while_alive.stdout.splitlines())


# The other commands


@pytest.mark.parametrize("name", [None, *main.commands])
def test_help_tells_what_a_command_does(place: Place, name: str | None) -> None:
    arguments = [name, "--help"] if name else ["--help"]
    done = place.race_watch(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ")
    command = main.commands[name] if name else main
    assert command.help
    first = " ".join(command.help.split("\n\n")[0].split())
    assert first in " ".join(done.stdout.split())


def test_nothing_at_all_shows_the_help(place: Place) -> None:
    done = place.race_watch()
    assert "Usage: " in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_every_signature_is_listed_and_can_be_shown(place: Place) -> None:
    listed = place.race_watch("signatures").stdout.splitlines()
    assert [line.split()[0] for line in listed] == [signature.id for signature in SIGNATURES]
    shown = place.race_watch("signatures", "local-unpublish-keyerror").stdout
    assert "livekit <=1.1.10, fixed in 1.1.11" in shown
    assert "lost_event (benign): livekit >=1.1.11, no fix" in shown
    assert "upstream: livekit/python-sdks#681" in shown


def test_bootstrap_prints_the_directory_that_lets_a_python_be_watched(place: Place) -> None:
    done = place.race_watch("bootstrap")
    folder = Path(done.stdout.strip())
    assert done.stdout == f"{folder}\n"
    assert (folder / "sitecustomize.py").is_file()
    run_dir = place.home / "run"
    worker = place.call(
        sys.executable, "-c", LOSES_A_TASK, PYTHONPATH=str(folder), RACE_WATCH_RUN_DIR=str(run_dir), RACE_WATCH_WATCHER="none"
    )
    assert worker.stdout == "worker done\n"
    found = last_of_each(place.race_watch("report", "--json", str(run_dir)).stdout.splitlines())
    assert [incident["category"] for incident in found] == ["task_exception_lost"]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_watch_beside_a_worker_finds_its_incident_and_removes_its_journal(place: Place, end: signal.Signals) -> None:
    run_dir, path = place.home / "run", place.home / "incidents.jsonl"
    watcher = place.start(*RACE_WATCH, "watch", "--run-dir", str(run_dir), "--metrics-port", "0", "--incidents", str(path))
    try:
        assert watcher.stderr is not None
        assert "metrics at" in watcher.stderr.readline()
        folder = place.race_watch("bootstrap").stdout.strip()
        place.call(
            sys.executable, "-c", LOSES_A_TASK, PYTHONPATH=folder, RACE_WATCH_RUN_DIR=str(run_dir), RACE_WATCH_WATCHER="none"
        )
        deadline = time.monotonic() + PATIENCE_S
        # The watcher's own journal stays while it watches.
        while not incidents_in(path) or len(list(run_dir.glob("*.rwj"))) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        watcher.send_signal(end)
        _, stderr = watcher.communicate(timeout=PATIENCE_S)
    finally:
        watcher.kill()
    assert list(run_dir.glob("*.rwj")) == []
    assert watcher.returncode == 0
    assert f"stopped by {end.name}" in stderr
    assert "race-watch: task_exception_lost" in stderr
    assert [incident["category"] for incident in incidents_in(path)] == ["task_exception_lost"]


# Traces of the host


def test_incident_names_the_span_that_was_current(place: Place) -> None:
    path = place.home / "incidents.jsonl"
    script = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

trace.set_tracer_provider(TracerProvider())
with trace.get_tracer("app").start_as_current_span("answer the call") as span:
    exec(open("worker.py").read())
    ids = span.get_span_context()
    print(f"{ids.trace_id:032x} {ids.span_id:016x}")
"""
    (place.home / "worker.py").write_text(LOSES_A_TASK)
    done = place.run("--quiet", "--incidents", str(path), script=script)
    (incident,) = incidents_in(path)
    assert [incident["trace_id"], incident["span_id"]] == done.stdout.splitlines()[1].split()


def test_incident_of_a_host_without_spans_names_none(place: Place) -> None:
    path = place.home / "incidents.jsonl"
    place.run("--quiet", "--incidents", str(path), script=f"import opentelemetry.trace\n{LOSES_A_TASK}")
    (incident,) = incidents_in(path)
    assert (incident["trace_id"], incident["span_id"]) == (None, None)


def test_bad_setting_that_the_program_makes_itself_is_told_once(tmp_path: Path) -> None:
    source = (
        "import os; os.environ['RACE_WATCH_JOURNAL_BYTES'] = 'abc'\n"
        "import asyncio; asyncio.run(asyncio.sleep(0)); pid = os.fork()\n"
        "if pid: os.waitpid(pid, 0)\n"
    )
    command = [sys.executable, "-m", "race_watch", "run", "--quiet", "--metrics-port", "0", "--", sys.executable, "-c", source]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert ended.returncode == 0
    assert ended.stderr == "race-watch: RACE_WATCH_JOURNAL_BYTES='abc' is not a whole number; using 1048576\n"
