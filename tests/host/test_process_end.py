"""How a process says that it ends: in order, by which exception, or not at all; and a host that ends as it would without us."""

from __future__ import annotations

import inspect
import re
import signal
import subprocess
import sys
import traceback
from multiprocessing import util
from pathlib import Path

import pytest
from arming import arming
from interpreters import LOOP, Journal, bare_environment, checked, outcome, python, read_journals, run, watched_environment

from race_watch.events import ChildEnded, ProcessExiting

NO_CORE = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"

# How a process may end -> its exit status and what it says before, if it can.
ENDS: dict[str, tuple[str, int, list[str]]] = {
    "clean": ("pass", 0, [""]),
    "exception": ("raise ValueError('x')", 1, ["ValueError"]),
    "of a class of its own": ("raise type('Mine\\n', (Exception,), {})()", 1, ["Mine "]),
    "exit status": ("sys.exit(3)", 3, [""]),
    "exit with a text": ("sys.exit('no')", 1, [""]),
    "exit of a subclass": ("raise type('Done', (SystemExit,), {})(4)", 4, [""]),
    "_exit": ("os._exit(3)", 3, []),
    "abort": ("os.abort()", -signal.SIGABRT, []),
    "segfault": ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV, []),
    "killed": ("os.kill(os.getpid(), 9)", -signal.SIGKILL, []),
    "terminated": ("os.kill(os.getpid(), 15)", -signal.SIGTERM, []),
}


def seen(ended: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    """What the host's caller sees, but for the addresses of objects."""
    status, stdout, stderr = outcome(ended)
    return status, stdout, re.sub("0x[0-9a-f]+", "0x", stderr)


def said(journal: Journal) -> list[str]:
    return [event.error for event in journal.events if isinstance(event, ProcessExiting)]


# The main process

MAIN_ENDS = {
    **ENDS,
    "interrupted": ("os.kill(os.getpid(), 2); time.sleep(10)", -signal.SIGINT, ["KeyboardInterrupt"]),
    "exception in a loop": (
        "import asyncio\nasync def main(): raise LookupError\nasyncio.run(main())",
        1,
        ["LookupError"],
    ),
    "exception with a hook": ("sys.excepthook = lambda *_: print('mine')\nraise ValueError", 1, ["ValueError"]),
    "exception with a hook that fails": ("sys.excepthook = lambda *_: 1 / 0\nraise ValueError", 1, ["ValueError"]),
    "exception that was handled": ("try:\n    raise ValueError\nexcept ValueError:\n    pass", 0, [""]),
    "exception of a thread": ("t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()", 0, [""]),
    "exception that nobody can take": ("type('X', (), {'__del__': lambda self: 1 / 0})()", 0, [""]),
    "thread that is waited for": ("threading.Thread(target=time.sleep, args=(0.2,)).start()", 0, [""]),
    "atexit that fails": ("atexit.register(lambda: 1 / 0)", 0, [""]),
    "atexit that ends it": ("atexit.register(os._exit, 5)", 5, []),
    "exit from a thread": ("threading.Thread(target=os._exit, args=(6,)).start(); time.sleep(10)", 6, []),
}


@pytest.mark.parametrize("how", MAIN_ENDS)
def test_main_process_says_once_how_it_ends_and_ends_so(tmp_path: Path, run_dir: Path, how: str) -> None:
    source, status, expected = MAIN_ENDS[how]
    script = tmp_path / "host.py"
    script.write_text(f"import atexit, os, sys, threading, time\n{NO_CORE}{LOOP}{source}\n")
    bare = run([sys.executable, str(script)], bare_environment())
    watched = run([sys.executable, str(script)], watched_environment(run_dir))
    assert bare.returncode == status
    assert seen(watched) == seen(bare)
    (journal,) = read_journals(run_dir)
    assert said(journal) == expected


def test_fork_says_its_own_end_and_its_parent_says_its_own(run_dir: Path) -> None:
    host = LOOP + "import os, sys\npid = os.fork()\nif not pid: sys.exit(2)\nraise OSError(os.waitpid(pid, 0))"
    ended = python(host, watched_environment(run_dir))
    assert ended.returncode == 1
    parent, child = read_journals(run_dir)
    assert (said(parent), said(child)) == (["OSError"], [""])


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from 3.12 on a process that is ending cannot fork")
def test_process_that_forks_while_it_ends_has_said_so_before(run_dir: Path) -> None:
    # Registered before ours, so it runs after it.
    host = "import atexit, os\ndef late():\n    pid = os.fork()\n    pid and os.waitpid(pid, 0)\natexit.register(late)\n" + LOOP
    assert checked(python(host, watched_environment(run_dir))) == ""
    parent, child = read_journals(run_dir)
    assert (said(parent), said(child)) == ([""], [])


# Children of multiprocessing

_HOST = """
import multiprocessing, os, resource, sys, time
def work(end):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import asyncio
    asyncio.new_event_loop().close()
    exec(compile(end, "end.py", "exec"))  # from 3.13 on a traceback shows the command line as the text of `<string>`
if __name__ == "__main__":
    {before}
    child = multiprocessing.get_context(sys.argv[1]).Process(target=work, args=(sys.argv[2],))
    child.start()
    child.join(60)
    print(child.exitcode)
"""
METHODS = ("fork", "spawn", "forkserver")
CHILD_ENDS = {
    **{how: ENDS[how] for how in ("clean", "exception", "exit status", "exit with a text", "_exit", "abort", "killed")},
    "interrupted": ("os.kill(os.getpid(), 2); time.sleep(10)", 1, ["KeyboardInterrupt"]),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", CHILD_ENDS)
def test_child_says_once_how_it_ends_and_its_parent_says_what_it_learns(
    tmp_path: Path, run_dir: Path, method: str, how: str
) -> None:
    source, status, expected = CHILD_ENDS[how]
    script = tmp_path / "host.py"
    script.write_text(_HOST.replace("{before}", LOOP.replace("\n", "")))
    command = [sys.executable, str(script), method, source]
    bare = run(command, bare_environment())
    watched = run(command, watched_environment(run_dir))
    assert (bare.returncode, bare.stdout) == (0, f"{status}\n")
    assert outcome(watched) == outcome(bare)
    journals = read_journals(run_dir)
    assert [journal.role for journal in journals] == ["main", "spawn" if method == "spawn" else "fork"]
    parent, child = journals
    assert said(child) == expected
    assert said(parent) == [""]
    assert [e for e in parent.events if isinstance(e, ChildEnded)] == [ChildEnded(child.process.pid, status, 0)]


@pytest.mark.parametrize("method", METHODS)
def test_child_of_a_parent_without_race_watch_says_how_it_ends(tmp_path: Path, run_dir: Path, method: str) -> None:
    script = tmp_path / "host.py"
    script.write_text(_HOST.replace("{before}", "pass"))
    ended = run([sys.executable, str(script), method, "raise ValueError"], watched_environment(run_dir))
    assert ended.stdout == "1\n"
    (child,) = read_journals(run_dir)
    assert said(child) == ["ValueError"]


def test_exception_that_a_child_has_printed_and_handled_is_not_its_end(tmp_path: Path, run_dir: Path) -> None:
    script = tmp_path / "host.py"
    script.write_text(_HOST.replace("{before}", "pass"))
    source = "import traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    traceback.print_exc(file=sys.stdout)"
    bare = run([sys.executable, str(script), "fork", source], bare_environment())
    watched = run([sys.executable, str(script), "fork", source], watched_environment(run_dir))
    assert outcome(watched) == outcome(bare)
    assert watched.stdout.endswith("ZeroDivisionError: division by zero\n0\n")
    (child,) = read_journals(run_dir)
    assert said(child) == [""]


_POOLS = """
import asyncio, concurrent.futures, multiprocessing, os, sys, time, warnings
def square(x):
    asyncio.new_event_loop().close()
    if x == 3:
        raise ValueError(x)
    return x * x
def sleeps():
    asyncio.new_event_loop().close()
    time.sleep(60)
def nested(method):
    child = multiprocessing.get_context(method).Process(target=square, args=(2,))
    child.start(); child.join()
    sys.exit(child.exitcode + 7)
if __name__ == "__main__":
    asyncio.new_event_loop().close()
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(2) as pool:
        print(pool.map(square, [1, 2]))
        try:
            pool.map(square, [3])
        except ValueError as error:
            print("raised", error)
    with context.Manager() as manager:
        print(list(manager.list([1, 2])))
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        print(executor.submit(square, 5).result())
    for end in ("terminate", "kill"):
        child = context.Process(target=sleeps)
        child.start()
        getattr(child, end)()
        child.join()
        print(end, child.exitcode, child.is_alive())
        child.close()
    child = context.Process(target=nested, args=(sys.argv[1],))
    child.start(); child.join(0.001); child.join()
    print("nested", child.exitcode, child.is_alive())
"""


@pytest.mark.parametrize("method", METHODS)
def test_host_with_pools_managers_and_kills_sees_the_same(tmp_path: Path, run_dir: Path, method: str) -> None:
    script = tmp_path / "host.py"
    script.write_text(_POOLS)
    command = [sys.executable, "-W", "error", str(script), method]
    bare = run(command, bare_environment())
    watched = run(command, watched_environment(run_dir))
    assert outcome(bare) == (0, "[1, 4]\nraised 3\n[1, 2]\n25\nterminate -15 False\nkill -9 False\nnested 7 False\n", "")
    assert outcome(watched) == outcome(bare)


# Undone

_REGISTRIES = (util._finalizer_registry, util._afterfork_registry)  # type: ignore[attr-defined]


def test_undo_leaves_nothing_in_multiprocessing(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, print_exc = [dict(registry) for registry in _REGISTRIES], traceback.print_exc
    with arming(run_dir, monkeypatch.setenv):
        assert [dict(registry) for registry in _REGISTRIES] != before
        assert traceback.print_exc is not print_exc
        assert inspect.signature(traceback.print_exc) == inspect.signature(print_exc)
    assert [dict(registry) for registry in _REGISTRIES] == before
    assert traceback.print_exc is print_exc


def test_undo_leaves_nothing_with_atexit(run_dir: Path) -> None:
    """Whose callbacks cannot be listed: nothing may refer to the hooks any more."""
    host = """
import asyncio, gc, weakref
asyncio.new_event_loop().close()
from race_watch import agent
context = weakref.ref(agent.current().context)
assert context() is not None
agent.disarm()
gc.collect()
print(context())
"""
    assert checked(python(host, watched_environment(run_dir))) == "None\n"


def test_undo_in_a_child_of_multiprocessing_leaves_no_finalizer(tmp_path: Path, run_dir: Path) -> None:
    script = tmp_path / "host.py"
    script.write_text("""
import asyncio, multiprocessing
from multiprocessing import util
def work():
    from race_watch import agent
    with_ours = len(util._finalizer_registry), len(util._afterfork_registry)
    agent.disarm()
    print(*with_ours, len(util._finalizer_registry), len(util._afterfork_registry), flush=True)
if __name__ == "__main__":
    bare = len(util._finalizer_registry), len(util._afterfork_registry)
    print(*bare, flush=True)
    asyncio.new_event_loop().close()
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start(); child.join()
    assert child.exitcode == 0
""")
    bare, child = checked(run([sys.executable, str(script)], watched_environment(run_dir))).splitlines()
    finalizers, hooks, finalizers_left, hooks_left = map(int, child.split())
    assert (finalizers - finalizers_left, hooks - hooks_left) == (1, 1)
    assert [finalizers_left, hooks_left] == [int(word) for word in bare.split()]
    _, told = read_journals(run_dir)
    assert said(told) == []


def test_process_in_which_it_was_undone_ends_without_a_word(run_dir: Path) -> None:
    host = LOOP + "from race_watch import agent\nagent.disarm()"
    assert checked(python(host, watched_environment(run_dir))) == ""
    (journal,) = read_journals(run_dir)
    assert said(journal) == []
