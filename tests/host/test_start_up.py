"""Start-up of every Python below the bootstrap: silent, small, alone, and only where it is wanted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipapp
from collections.abc import Sequence
from pathlib import Path

import pytest
from interpreters import (
    LOOP,
    bare_environment,
    checked,
    fake_livekit,
    other_python,
    outcome,
    python,
    read_journals,
    run,
    watched_environment,
)

from race_watch.events import LoopBorn

NEW_MODULES = {"__future__", "_race_watch_post_import", "race_watch", "race_watch.post_import", "sitecustomize"}
ATTACHED = "import sys; print(getattr(sys.modules.get('_race_watch_post_import'), 'watching', False))"


def test_python_that_imports_nothing_gets_five_modules_more(run_dir: Path) -> None:
    show = "import sys; print(*sys.modules)"
    bare = set(checked(python(show, bare_environment())).split())
    watched = set(checked(python(show, watched_environment(run_dir))).split())
    assert watched - bare == NEW_MODULES
    assert bare <= watched


@pytest.mark.parametrize("value", ["0", "false", "no", "off", " OFF "])
def test_switched_off_means_that_no_module_of_ours_is_loaded(run_dir: Path, value: str) -> None:
    show = LOOP + "import sys; print([name for name in sys.modules if 'race_watch' in name])"
    assert checked(python(show, watched_environment(run_dir, RACE_WATCH=value))) == "[]\n"
    assert read_journals(run_dir) == []


# An agent before us on the path that counts what happens from its own start to the end of ours, and chains.
_AUDITOR = """
import os, sys
events, on = [], True
def hook(event, arguments):
    if on and event in ("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.system", "subprocess.Popen",
                        "_thread.start_new_thread", "socket.connect", "socket.bind"):
        events.append(event)
sys.addaudithook(hook)
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(os.path.abspath(__file__))]
own = sys.modules.pop("sitecustomize")
import sitecustomize
sys.audited = events
"""


def test_start_runs_no_process_thread_or_connection(tmp_path: Path, run_dir: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(_AUDITOR)
    environment = watched_environment(run_dir, before=[tmp_path])
    armed = LOOP + "import sys, threading; print(sys.audited, threading.active_count())"
    assert checked(python(f"{ATTACHED}; print(sys.audited)", environment)) == "True\n[]\n"
    assert checked(python(armed, environment)) == "[] 1\n"
    assert len(read_journals(run_dir)) == 1


ONE_LINERS = {
    "nothing": "pass",
    "path": "import sys; print(sys.path, sys.argv, sys.flags)",
    "exit status": "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)",
    "exit message": "raise SystemExit('goodbye')",
    "traceback": "def f(): return 1 / 0\nf()",
    "unraisable": "class C:\n    def __del__(self): raise ValueError('in del')\nC()",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "exit at once": "import os; print('x', flush=True); os._exit(4)",
    "logging": "import logging; logging.warning('one'); logging.basicConfig(); logging.error('two %s', 3)",
    "logging tree": "import logging, asyncio; asyncio.run(asyncio.sleep(0)); print(logging.root.handlers, logging.root.level)",
    "asyncio": "import asyncio; print(asyncio.run(asyncio.sleep(0, 'slept')))",
    "task names": "import asyncio as a\nasync def f(): return a.create_task(a.sleep(0)).get_name()\nprint(a.run(f()))",
    "asyncio debug": "import asyncio; asyncio.run(asyncio.sleep(0), debug=True)",
    "signals": "import signal, asyncio; asyncio.run(asyncio.sleep(0)); print([signal.getsignal(s) for s in (2, 15, 10)])",
    "thread error": "import threading; t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()",
    "streams closed": "import sys; sys.stdout.close(); sys.stderr.close()",
    "warnings": "import warnings; warnings.warn('careful')",
    "pickle": "import pickle, asyncio; print(pickle.dumps(asyncio.BaseEventLoop.create_task))",
    "no stderr": "import sys, asyncio; sys.stderr = None; asyncio.run(asyncio.sleep(0)); print('fine')",
}


@pytest.mark.parametrize("name", ONE_LINERS)
def test_output_is_the_same_to_the_byte(run_dir: Path, name: str) -> None:
    bare = python(ONE_LINERS[name], bare_environment())
    watched = python(ONE_LINERS[name], watched_environment(run_dir))
    assert _without_addresses(outcome(watched)) == _without_addresses(outcome(bare))


def _without_addresses(told: tuple[int, str, str]) -> tuple[object, ...]:
    return tuple(re.sub(r"0x[0-9a-f]+|Thread-\d+|\b\d{6,}\b", "0x", str(part)) for part in told)


COMMANDS = {
    "version": ["-V"],
    "pip": ["-m", "pip", "--version"],
    "json.tool": ["-m", "json.tool"],
    "py_compile": ["-m", "py_compile", "-"],
    "zipfile help": ["-m", "zipfile", "-h"],
    "script from stdin": ["-"],
    "calendar": ["-m", "calendar", "2026"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_tools_written_in_python_print_what_they_always_do(run_dir: Path, name: str, tmp_path: Path) -> None:
    command = [sys.executable, *COMMANDS[name]]
    stdin = "{}" if name == "json.tool" else "print(1)" if name == "script from stdin" else ""
    bare = run(command, bare_environment(), stdin=stdin, cwd=tmp_path)
    assert outcome(run(command, watched_environment(run_dir), stdin=stdin, cwd=tmp_path)) == outcome(bare)
    assert read_journals(run_dir) == []


@pytest.mark.parametrize(
    ("flags", "attached"),
    [
        pytest.param([], True, id="none"),
        pytest.param(["-s"], True, id="-s"),
        pytest.param(["-B", "-O", "-u"], True, id="-B -O -u"),
        pytest.param(["-W", "error"], True, id="-W error"),
        pytest.param(["-X", "dev"], True, id="-X dev"),
        pytest.param(["-P"], True, id="-P", marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="-P is new in 3.11")),
        pytest.param(["-E"], False, id="-E"),
        pytest.param(["-I"], False, id="-I"),
        pytest.param(["-S"], False, id="-S"),
    ],
)
def test_flags_decide_whether_we_are_in(run_dir: Path, flags: Sequence[str], attached: bool) -> None:
    assert checked(python(LOOP + ATTACHED, watched_environment(run_dir), flags=flags)) == f"{attached}\n"
    assert len(read_journals(run_dir)) == int(attached)


@pytest.mark.parametrize("launcher", ["module", "package", "zipapp", "script", "venv"])
def test_programs_are_watched_however_they_are_started(tmp_path: Path, run_dir: Path, launcher: str) -> None:
    app, executable = tmp_path / "app", sys.executable
    app.mkdir()
    (app / "__main__.py").write_text(LOOP + "print(__name__, __package__)\n")
    if launcher == "zipapp":
        zipapp.create_archive(app, tmp_path / "app.pyz")
    if launcher == "venv":
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=60)
        executable = str(tmp_path / "venv" / "bin" / "python")
    arguments = {
        "module": ["-m", "app.__main__"],
        "package": ["-m", "app"],
        "zipapp": ["app.pyz"],
        "script": ["app/__main__.py"],
        "venv": ["-m", "app"],
    }[launcher]
    bare = run([executable, *arguments], bare_environment(), cwd=tmp_path)
    assert outcome(run([executable, *arguments], watched_environment(run_dir), cwd=tmp_path)) == outcome(bare)
    assert bare.returncode == 0
    assert len(read_journals(run_dir)) == 1


# Valid in every Python that ever was; the sort makes dictionaries comparable.
_OLD_HOST = """
import sys, os
sys.stdout.write("%s %s\\n" % (sys.version_info[:2], [p for p in sys.path if "race_watch" in p]))
sys.stdout.write("%s\\n" % sorted(name for name in sys.modules if "race_watch" in name))
sys.stdout.write("%s\\n" % getattr(sys.modules.get("sitecustomize"), "FLAG", None))
sys.exit(5)
"""


@pytest.mark.one_python
@pytest.mark.parametrize("user", ["with a sitecustomize", "without one"])
@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7", "3.8", "3.9"])
def test_older_pythons_do_not_notice(tmp_path: Path, run_dir: Path, version: str, user: str) -> None:
    executable = other_python(version)
    if executable is None:
        pytest.skip(f"no Python {version} here")
    if user == "with a sitecustomize":
        (tmp_path / "sitecustomize.py").write_text("FLAG = 42\n")
    bare = python(_OLD_HOST, bare_environment(PYTHONPATH=str(tmp_path)), executable=executable)
    watched = python(_OLD_HOST, watched_environment(run_dir, after=[tmp_path]), executable=executable)
    assert outcome(watched) == outcome(bare)
    assert (bare.returncode, bare.stderr) == (5, "")
    assert bare.stdout.splitlines()[1] == "[]"


_SUBINTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
inner = interpreters.create()
failure = interpreters.run_string(inner, '''
import sys, threading
try:
    import asyncio
    asyncio.new_event_loop().close()
    import livekit.rtc
    result = "looped"
except Exception as error:
    result = type(error).__name__
print("inside", result, threading.active_count(), flush=True)
''')
interpreters.destroy(inner)
print("outside", failure)
"""


def test_subinterpreters_run_their_code(tmp_path: Path, run_dir: Path) -> None:
    path = str(fake_livekit(tmp_path / "fake"))
    bare = python(_SUBINTERPRETER, bare_environment(PYTHONPATH=path))
    assert bare.stdout.startswith("inside looped 1\n")
    for watcher in ("none", "auto"):
        environment = watched_environment(run_dir, after=[path], RACE_WATCH_WATCHER=watcher, RACE_WATCH_METRICS_PORT="0")
        assert outcome(python(_SUBINTERPRETER, environment)) == outcome(bare)


def test_environment_set_by_the_first_line_of_the_program_is_in_force(tmp_path: Path, run_dir: Path) -> None:
    environment = watched_environment(tmp_path / "not this one")
    load_dotenv = f"import os; os.environ.update(RACE_WATCH_RUN_DIR={str(run_dir)!r}, RACE_WATCH_JOURNAL_BYTES='65536')\n"
    checked(python(load_dotenv + LOOP, environment))
    assert len(read_journals(run_dir)) == 1
    assert [os.stat(path).st_size for path in run_dir.glob("*.rwj")] == [65536]
    assert not (tmp_path / "not this one").exists()


def test_python_without_a_home_or_a_path_is_watched(run_dir: Path) -> None:
    environment = watched_environment(run_dir)
    few = {name: environment[name] for name in ("PYTHONPATH", "RACE_WATCH_RUN_DIR", "RACE_WATCH_WATCHER")}
    checked(python(LOOP, few))
    assert len(read_journals(run_dir)) == 1


@pytest.mark.parametrize("first", ["asyncio.new_event_loop()", "uvloop.new_event_loop()"])
def test_first_loop_of_either_kind_arms_and_both_classes_are_then_as_they_will_stay(run_dir: Path, first: str) -> None:
    source = f"""
import asyncio, sys, uvloop
assert not any(name.startswith("race_watch.hooks") for name in sys.modules)
{first}.close()
init = uvloop.Loop.__init__, asyncio.base_events.BaseEventLoop.__init__
uvloop.new_event_loop().close()
asyncio.new_event_loop().close()
assert init == (uvloop.Loop.__init__, asyncio.base_events.BaseEventLoop.__init__)
"""
    checked(python(source, watched_environment(run_dir)))
    (journal,) = read_journals(run_dir)
    kinds = [event.kind for event in journal.events if isinstance(event, LoopBorn)]
    assert sorted(set(kinds)) == ["asyncio.unix_events._UnixSelectorEventLoop", "uvloop.Loop"]
    assert len(kinds) == 3


def test_loop_class_imported_after_arming_gets_no_trap(run_dir: Path) -> None:
    source = "import asyncio; asyncio.new_event_loop().close(); import uvloop; print(uvloop.Loop.__init__.__code__.co_filename)"
    told = checked(python(source, watched_environment(run_dir)))
    assert told.strip().endswith("asyncio_loops.py")
