"""The import hook: callbacks come once, after the module, and imports work as without it."""

from __future__ import annotations

import importlib
import importlib.resources
import importlib.util
import pkgutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from interpreters import bare_environment, checked, fake_livekit, outcome, python, read_journals, run, watched_environment

from race_watch.post_import import MARK, PostImport, finder

Importable = Callable[..., None]


@pytest.fixture
def hook() -> Iterator[PostImport]:
    """A finder of the test's own."""
    made = PostImport()
    yield made
    made.stop()
    assert made not in sys.meta_path


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Importable]:
    """Writes modules of a test and forgets them after it: `importable(rw_alpha="VALUE = 1", part_in_rw_package="")`."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**sources: str) -> None:
        for name, source in sources.items():
            path = tmp_path.joinpath(*name.split("_in_")[::-1])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".py").write_text(source)
        importlib.invalidate_caches()

    yield write
    for name in [name for name in sys.modules if name.startswith("rw_")]:
        del sys.modules[name]


class Seen(list[Any]):
    def __call__(self, module: Any) -> None:
        self.append((module.__name__, getattr(module, "VALUE", None)))


def test_callback_gets_the_finished_module_once(hook: PostImport, importable: Importable) -> None:
    importable(rw_alpha="VALUE = 1")
    seen = Seen()
    hook.when_imported("rw_alpha", seen)
    assert seen == []
    importlib.import_module("rw_alpha")
    importlib.reload(sys.modules["rw_alpha"])
    assert seen == [("rw_alpha", 1)]
    assert hook not in sys.meta_path


def test_callback_for_a_module_that_is_there_comes_at_once(hook: PostImport, importable: Importable) -> None:
    importable(rw_alpha="VALUE = 1")
    importlib.import_module("rw_alpha")
    seen = Seen()
    hook.when_imported("rw_alpha", seen)
    assert seen == [("rw_alpha", 1)]
    assert hook not in sys.meta_path


def test_callback_that_registers_another_for_the_same_module_is_followed(hook: PostImport, importable: Importable) -> None:
    importable(rw_alpha="VALUE = 1")
    seen = Seen()
    hook.when_imported("rw_alpha", lambda module: hook.when_imported("rw_alpha", seen))
    importlib.import_module("rw_alpha")
    assert seen == [("rw_alpha", 1)]


def test_module_that_fails_is_called_back_when_it_has_worked(hook: PostImport, importable: Importable) -> None:
    importable(rw_alpha="import rw_beta")
    seen = Seen()
    hook.when_imported("rw_alpha", seen)
    with pytest.raises(ModuleNotFoundError, match="rw_beta"):
        importlib.import_module("rw_alpha")
    assert seen == []
    importable(rw_beta="")
    importlib.import_module("rw_alpha")
    assert seen == [("rw_alpha", None)]


@pytest.mark.parametrize("error", [ValueError, ImportError, RecursionError, MemoryError])
def test_callback_that_raises_does_not_reach_the_import(
    hook: PostImport, importable: Importable, error: type[Exception]
) -> None:
    importable(rw_alpha="VALUE = 1")

    def fail(module: Any) -> None:
        raise error("ours")

    seen = Seen()
    hook.when_imported("rw_alpha", fail)
    hook.when_imported("rw_alpha", seen)
    importlib.import_module("rw_alpha")
    assert seen == [("rw_alpha", 1)]
    assert hook.failure == f"{error.__name__}('ours')"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupt_during_a_callback_belongs_to_the_host(
    hook: PostImport, importable: Importable, error: type[BaseException]
) -> None:
    importable(rw_alpha="VALUE = 1")

    def interrupted(module: Any) -> None:
        raise error

    hook.when_imported("rw_alpha", interrupted)
    with pytest.raises(error):
        importlib.import_module("rw_alpha")


def test_asking_for_the_spec_is_not_importing(hook: PostImport, importable: Importable) -> None:
    importable(rw_alpha="VALUE = 1")
    seen = Seen()
    hook.when_imported("rw_alpha", seen)
    assert importlib.util.find_spec("rw_alpha") is not None
    assert seen == []
    importlib.import_module("rw_alpha")
    assert len(seen) == 1


def test_package_keeps_its_loader_resources_and_submodules(hook: PostImport, importable: Importable, tmp_path: Path) -> None:
    importable(__init___in_rw_package="VALUE = 1", part_in_rw_package="VALUE = 2")
    (tmp_path / "rw_package" / "data.txt").write_text("data")
    seen = Seen()
    hook.when_imported("rw_package", seen)
    package = importlib.import_module("rw_package")
    assert seen == [("rw_package", 1)]
    loader = package.__spec__.loader
    assert type(loader).__name__ == "SourceFileLoader"
    assert "exec_module" not in vars(loader)
    assert package.__loader__ is loader
    assert importlib.resources.files("rw_package").joinpath("data.txt").read_text() == "data"
    assert pkgutil.get_data("rw_package", "data.txt") == b"data"
    assert [module.name for module in pkgutil.iter_modules(package.__path__)] == ["part"]
    assert loader.get_source("rw_package") == "VALUE = 1"
    assert loader.is_package("rw_package")


def test_lazily_loaded_module_is_called_back_when_it_loads(hook: PostImport, importable: Importable) -> None:
    importable(rw_alpha="VALUE = 1")
    seen = Seen()
    hook.when_imported("rw_alpha", seen)
    spec = importlib.util.find_spec("rw_alpha")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules["rw_alpha"] = module
    spec.loader.exec_module(module)
    assert seen == []
    assert module.VALUE == 1
    assert seen == [("rw_alpha", 1)]


def test_zip_file_whose_modules_share_one_loader(
    hook: PostImport, importable: Importable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importable()
    archive = tmp_path / "modules.zip"
    with zipfile.ZipFile(archive, "w") as written:
        for name in ("rw_alpha", "rw_beta", "rw_gamma"):
            written.writestr(f"{name}.py", f"VALUE = {name!r}")
    monkeypatch.syspath_prepend(archive)
    seen = Seen()
    hook.when_imported("rw_beta", seen)
    hook.when_imported("rw_gamma", seen)
    for _ in range(3):
        importlib.util.find_spec("rw_beta")
    importlib.import_module("rw_alpha")
    assert seen == []
    importlib.import_module("rw_beta")
    importlib.import_module("rw_gamma")
    assert seen == [("rw_beta", "rw_beta"), ("rw_gamma", "rw_gamma")]


def test_module_whose_loader_is_a_class_is_left_alone(hook: PostImport, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.machinery import FrozenImporter

    before = dict(vars(FrozenImporter))
    seen = Seen()
    monkeypatch.delitem(sys.modules, "__hello__", raising=False)
    hook.when_imported("__hello__", seen)
    importlib.import_module("__hello__")
    assert dict(vars(FrozenImporter)) == before


class Walker:
    """Another agent's finder, which asks all the others, ours included."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._in = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if self._in:
            return None
        self.asked.append(name)
        self._in = True
        try:
            return importlib.util.find_spec(name)
        finally:
            self._in = False


@pytest.mark.parametrize("order", ["walker first", "ours first"])
def test_another_finder_that_walks_the_finders_does_not_recurse(
    hook: PostImport, importable: Importable, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    importable(rw_alpha="VALUE = 1")
    seen, walker = Seen(), Walker()
    hook.when_imported("rw_alpha", seen)
    at = 0 if order == "walker first" else sys.meta_path.index(hook) + 1
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path[:at], walker, *sys.meta_path[at:]])
    importlib.import_module("rw_alpha")
    assert seen == [("rw_alpha", 1)]
    assert walker.asked == ["rw_alpha"]
    hook.stop()


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        self.calls += 1


def test_lookups_do_not_multiply(hook: PostImport, importable: Importable, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"rw_many_{number}" for number in range(200)]
    importable(**dict.fromkeys(names, ""))
    counter = Counter()
    for name in names[::10]:
        hook.when_imported(name, Seen())
        hook.when_imported(name, Seen())
    monkeypatch.setattr(sys, "meta_path", [hook, counter, *(f for f in sys.meta_path if f is not hook)])
    for name in names:
        importlib.import_module(name)
    assert counter.calls == len(names)
    hook.stop()


def test_process_has_one_finder_however_many_copies_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, MARK, raising=False)
    assert finder() is finder()
    assert sys.modules[MARK] is finder()


# Imports that wait for each other's threads, in real processes: a deadlock is a timeout.

SHAPES = {
    "thread of the module imports and it joins": {
        "__init__": "import asyncio, threading\n"
        "def work():\n    import json.tool, wave\n    asyncio.new_event_loop().close()\n"
        "t = threading.Thread(target=work); t.start(); t.join()\n",
    },
    "loop made while it is imported": {"__init__": "import asyncio\nasyncio.new_event_loop().close()\n"},
    "first to import asyncio": {"__init__": "import threading\nt = threading.Thread(target=lambda: __import__('asyncio'))\n"
        "t.start(); t.join()\n"},
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_threads_that_import_inside_an_import_do_not_deadlock(tmp_path: Path, run_dir: Path, shape: str) -> None:
    fake = fake_livekit(tmp_path / "fake")
    init = fake / "livekit" / "rtc" / "__init__.py"
    init.write_text(SHAPES[shape]["__init__"] + init.read_text())
    host = "import livekit.rtc, asyncio; asyncio.new_event_loop().close(); print('imported')"
    assert checked(python(host, watched_environment(run_dir, after=[fake]))) == "imported\n"
    assert len(read_journals(run_dir)) == 1


_TWO_THREADS = """
import threading
barrier = threading.Barrier(4)
def work(name):
    barrier.wait()
    module = __import__(name, fromlist=["x"])
    if name == "asyncio":
        module.new_event_loop().close()
threads = [threading.Thread(target=work, args=(name,)) for name in ("livekit.rtc", "asyncio", "livekit.rtc", "asyncio")]
for thread in threads: thread.start()
for thread in threads: thread.join()
import livekit.rtc
print(hasattr(livekit.rtc.Room.connect, "__wrapped__"))
"""


def test_threads_that_import_and_loop_at_once_arm_once(tmp_path: Path, run_dir: Path) -> None:
    fake = fake_livekit(tmp_path / "fake")
    for _ in range(5):
        assert checked(python(_TWO_THREADS, watched_environment(run_dir, after=[fake]))) == "True\n"
    assert len(read_journals(run_dir)) == 5


def test_livekit_runs_as_a_module_and_from_a_zip_file(tmp_path: Path, run_dir: Path) -> None:
    fake = fake_livekit(tmp_path / "fake")
    rtc = fake / "livekit" / "rtc"
    (rtc / "__main__.py").write_text("import livekit.rtc\nprint(__name__, livekit.rtc.Room.connect.__qualname__)\n")
    archive = tmp_path / "livekit.zip"
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("livekit/", "")
        for path in rtc.glob("*.py"):
            written.write(path, f"livekit/rtc/{path.name}")
    for place in (fake, archive):
        command = [sys.executable, "-m", "livekit.rtc"]
        bare = run(command, bare_environment(PYTHONPATH=str(place)), cwd=tmp_path)
        assert outcome(run(command, watched_environment(run_dir, after=[place]), cwd=tmp_path)) == outcome(bare)
        assert bare.stdout == "__main__ Room.connect\n"
    assert [sum(1 for e in j.events if type(e).__name__ == "HookInstalled") >= 4 for j in read_journals(run_dir)] == [True] * 2


def test_names_taken_from_livekit_before_arming_are_the_watched_ones(tmp_path: Path, run_dir: Path) -> None:
    fake = fake_livekit(tmp_path / "fake")
    host = """
from livekit.rtc import Room
import race_watch
race_watch.install()
print(hasattr(Room.connect, "__wrapped__"))
"""
    environment = watched_environment(run_dir, PYTHONPATH=str(fake))
    assert checked(python(host, environment)) == "True\n"
