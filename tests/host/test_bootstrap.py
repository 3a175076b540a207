"""The way in: it gives way to every other `sitecustomize`, and whatever goes wrong in it the host does not notice."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from interpreters import (
    BOOTSTRAP,
    LOOP,
    PACKAGE,
    bare_environment,
    checked,
    outcome,
    python,
    read_journals,
    run,
    watched_environment,
)

# What a program can see of the sitecustomize that ran.
SHOW = """
import builtins, sys
print(getattr(builtins, "trail", []))
module = sys.modules.get("sitecustomize")
print(getattr(module, "FLAG", None), getattr(module, "FILE", None), getattr(module, "SAME", None))
print([path for path in sys.path if path])
import sitecustomize
print(sitecustomize is module, sitecustomize.__file__)
"""
TRAIL = "import builtins\nbuiltins.trail = [*getattr(builtins, 'trail', []), {name!r}]\n"

USER_FILES = {
    "flag and sibling": TRAIL.format(name="user")
    + "import sibling, sys\nFLAG, FILE, SAME = sibling.VALUE, __file__, sys.modules['sitecustomize'].__dict__ is globals()\n",
    "raises Exception": TRAIL.format(name="user") + "raise ValueError('of the user')\n",
    "misses a module": "import no_such_module\n",
    "misses a module named alike": "import sitecustomize_of_the_site\n",
}

# Each remembers that it ran, then does with the next file what the agent of that name does.
_CHAINS_AND_RESTORES_THE_PATH = """
import os, sys
here, before = os.path.dirname(os.path.abspath(__file__)), list(sys.path)
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
own = sys.modules.pop("sitecustomize", None)
try:
    import sitecustomize
except ImportError:
    sys.modules["sitecustomize"] = own
finally:
    sys.path[:] = before
"""
_CHAINS_BY_A_SEARCH_WITHOUT_ITSELF = """
import os, sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
here = os.path.dirname(os.path.abspath(__file__))
spec = PathFinder.find_spec("sitecustomize", [path for path in sys.path if os.path.abspath(path) != here])
if spec is not None:
    spec.loader.exec_module(module_from_spec(spec))
"""
AGENTS = {
    "ddtrace style": TRAIL.format(name="agent") + _CHAINS_AND_RESTORES_THE_PATH,
    "newrelic style": TRAIL.format(name="agent") + _CHAINS_BY_A_SEARCH_WITHOUT_ITSELF,
    "otel style": TRAIL.format(name="agent"),
}


def directory(path: Path, sitecustomize: str) -> Path:
    path.mkdir()
    (path / "sitecustomize.py").write_text(sitecustomize)
    (path / "sibling.py").write_text("VALUE = 42\n")
    return path


def copy_of_race_watch(parent: Path) -> Path:
    """A second installation; returns its package directory."""
    ignored = shutil.ignore_patterns("__pycache__", "lab", "cli", "exporters", "signatures", "detectors")
    return Path(shutil.copytree(PACKAGE, parent / "race_watch", ignore=ignored))


@pytest.mark.parametrize("source", [pytest.param(source, id=name) for name, source in USER_FILES.items()])
def test_sitecustomize_of_the_host_runs_as_if_we_were_not_there(tmp_path: Path, run_dir: Path, source: str) -> None:
    user = directory(tmp_path / "user", source)
    bare = python(SHOW, bare_environment(PYTHONPATH=str(user)))
    watched = python(SHOW, watched_environment(run_dir, after=[user]))
    assert outcome(watched) == outcome(bare)


def test_sitecustomize_that_ends_the_interpreter_does_so(tmp_path: Path, run_dir: Path) -> None:
    user = directory(tmp_path / "user", "print('leaving')\nraise SystemExit(3)\n")
    bare = python(SHOW, bare_environment(PYTHONPATH=str(user)))
    watched = python(SHOW, watched_environment(run_dir, after=[user]))
    assert (watched.returncode, watched.stdout) == (bare.returncode, bare.stdout)
    assert watched.stderr.splitlines()[-1] == bare.stderr.splitlines()[-1]


def test_host_without_a_sitecustomize_of_its_own_sees_the_same_path(run_dir: Path) -> None:
    show = "import sys; print(sys.path, [type(f) for f in sys.meta_path if 'race_watch' not in type(f).__module__])"
    assert checked(python(show, watched_environment(run_dir))) == checked(python(show, bare_environment()))


def test_a_working_directory_that_is_gone_does_no_harm(tmp_path: Path, run_dir: Path) -> None:
    user, gone = directory(tmp_path / "user", USER_FILES["flag and sibling"]), tmp_path / "gone"
    # From 3.11 on Python itself does not start with a relative entry and no directory.
    path = ["relative", user] if sys.version_info < (3, 11) else [user]
    gone.mkdir()
    source = "import builtins; print(builtins.trail)"
    command = ["sh", "-c", f'cd {gone} && rmdir {gone} && exec "$@"', "sh", sys.executable, "-c", source]
    assert checked(run(command, watched_environment(run_dir, after=path))) == "['user']\n"


@pytest.mark.parametrize("order", ["ours, copy, user", "copy, ours, user", "ours, user, copy", "ours, ours, user"])
def test_two_installations_and_the_file_of_the_host_run_once_each(tmp_path: Path, run_dir: Path, order: str) -> None:
    named = {
        "ours": BOOTSTRAP,
        "copy": copy_of_race_watch(tmp_path) / "bootstrap",
        "user": directory(tmp_path / "user", USER_FILES["flag and sibling"]),
    }
    path = ":".join(str(named[name]) for name in order.split(", "))
    shown = checked(python(LOOP + SHOW, watched_environment(run_dir, PYTHONPATH=path)))
    assert shown.splitlines()[0] == "['user']"
    [journal] = read_journals(run_dir)
    assert journal.role == "main"


@pytest.mark.parametrize("first", ["us", "them"])
@pytest.mark.parametrize("style", ["ddtrace style", "newrelic style"])
def test_another_agent_that_chains_runs_beside_us(tmp_path: Path, run_dir: Path, style: str, first: str) -> None:
    agent = directory(tmp_path / "agent", AGENTS[style])
    user = directory(tmp_path / "user", TRAIL.format(name="user"))
    around = {"before": [agent], "after": [user]} if first == "them" else {"after": [agent, user]}
    trail = checked(python(LOOP + "import builtins; print(builtins.trail)", watched_environment(run_dir, **around)))
    assert trail.count("user") == 1
    assert 1 <= trail.count("agent") <= 2
    assert len(read_journals(run_dir)) == 1


@pytest.mark.parametrize(("first", "attached"), [("us", 1), ("them", 0)])
def test_an_agent_that_does_not_chain_keeps_out_only_what_comes_after_it(
    tmp_path: Path, run_dir: Path, first: str, attached: int
) -> None:
    agent = directory(tmp_path / "agent", AGENTS["otel style"])
    around = {"before": [agent]} if first == "them" else {"after": [agent]}
    trail = checked(python(LOOP + "import builtins; print(builtins.trail)", watched_environment(run_dir, **around)))
    assert trail == "['agent']\n"
    assert len(read_journals(run_dir)) == attached


ERRORS = ("Exception", "ImportError", "SystemExit", "KeyboardInterrupt", "RecursionError", "MemoryError")
# Step -> (file, line that is put at its end); `{error}` is raised there.
STEPS = {
    "import of race_watch": ("__init__.py", "raise {error}('injected')"),
    "import of the finder": ("post_import.py", "raise {error}('injected')"),
    "start of the finder": ("post_import.py", "def watch(): raise {error}('injected')"),
}
ARMING_STEPS = {
    "import of the agent": ("auto.py", "raise {error}('injected')"),
    "arming": ("auto.py", "def arm(): raise {error}('injected')"),
    "settings": ("settings.py", "def from_env(*a): raise {error}('injected')"),
    "run directory": ("journal/directory.py", "def use(path): raise {error}('injected')"),
    "journal": ("journal/writer.py", "class Journal:\n    def __init__(self, *a): raise {error}('injected')"),
    "every hook": ("hooks/patching.py", "class Patches:\n    def __init__(self): raise {error}('injected')"),
}
HOST = """
import asyncio, sys
async def main():
    await asyncio.sleep(0)
    print("ran", [path for path in sys.path if "race_watch" in path])
asyncio.run(main())
sys.exit(7)
"""


def sabotaged(tmp_path: Path, file: str, line: str) -> Path:
    """The bootstrap of a copy in which one step fails."""
    package = copy_of_race_watch(tmp_path)
    with open(package / file, "a") as source:
        source.write(f"\n{line}\n")
    return package / "bootstrap"


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("step", STEPS)
def test_a_start_that_fails_leaves_the_host_as_it_is(tmp_path: Path, run_dir: Path, step: str, error: str) -> None:
    file, line = STEPS[step]
    bootstrap = sabotaged(tmp_path, file, line.format(error=error))
    user = directory(tmp_path / "user", "print('user')")
    environment = watched_environment(run_dir, PYTHONPATH=f"{bootstrap}:{user}")
    assert outcome(python(HOST, environment)) == (7, "user\nran []\n", "")
    told = python(HOST, {**environment, "RACE_WATCH_DEBUG": "1"})
    assert (told.returncode, told.stdout) == (7, "user\nran []\n")
    assert f"{error}: injected" in told.stderr


@pytest.mark.parametrize("error", ["ValueError", "ImportError", "RecursionError", "MemoryError"])
@pytest.mark.parametrize("step", ARMING_STEPS)
def test_arming_that_fails_leaves_the_host_as_it_is(tmp_path: Path, run_dir: Path, step: str, error: str) -> None:
    file, line = ARMING_STEPS[step]
    bootstrap = sabotaged(tmp_path, file, line.format(error=error))
    environment = watched_environment(run_dir, PYTHONPATH=str(bootstrap))
    assert outcome(python(HOST, environment)) == (7, "ran []\n", "")
    failure = "import sys\nprint(sys.modules['_race_watch_post_import'].failure)"
    told = checked(python(LOOP + failure, environment))
    assert step == "every hook" or f"{error}('injected'" in told


def test_bootstrap_directory_holds_the_bootstrap_alone() -> None:
    assert {entry.name for entry in BOOTSTRAP.iterdir()} - {"__pycache__"} == {"sitecustomize.py"}


@pytest.fixture(scope="module")
def empty_venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which nothing is installed."""
    path = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(path)], check=True, timeout=60)
    return path / "bin" / "python"


def test_nothing_of_our_environment_becomes_importable_in_another(empty_venv: Path, run_dir: Path) -> None:
    show = (
        LOOP
        + """
import pkgutil, sys, sysconfig
print(sorted(module.name for module in pkgutil.iter_modules()))
for name in ("click", "prometheus_client", "packaging", "hypothesis"):
    try:
        __import__(name)
    except ImportError as error:
        print(error)
print(sys.path)
"""
    )
    bare = checked(python(show, bare_environment(), executable=empty_venv))
    assert "No module named 'click'" in bare
    assert checked(python(show, watched_environment(run_dir), executable=empty_venv)) == bare
    assert len(read_journals(run_dir)) == 1


def test_an_armed_process_has_loaded_nothing_but_race_watch_and_the_standard_library(run_dir: Path) -> None:
    foreign = (
        LOOP
        + """
import sys, sysconfig
stdlib = sysconfig.get_path("stdlib")
for name, module in sorted(sys.modules.items()):
    file = getattr(module, "__file__", None) or stdlib
    if name.partition(".")[0] not in ("race_watch", "sitecustomize") and ("site-packages" in file or stdlib not in file):
        print(name)
"""
    )
    bare = checked(python(foreign, bare_environment()))
    assert checked(python(foreign, watched_environment(run_dir))) == bare
