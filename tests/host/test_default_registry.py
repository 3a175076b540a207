"""The watcher's numbers in the worker's own registry: in its main process alone, where asked for, and never at its expense."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import prometheus_client
import pytest
from arming import Armed, arming
from interpreters import LOOP, checked, read_journals, run, watched_environment
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest, multiprocess

from race_watch import agent, metrics
from race_watch.clock import monotonic_s
from race_watch.events import HookInstalled, HookStruck
from race_watch.exporters.prometheus import SnapshotCollector
from race_watch.exporters.worker_metrics import WorkerMetrics
from race_watch.hooks import default_registry
from race_watch.journal.layout import METRICS_FILE
from race_watch.totals import Totals

METHODS = ("fork", "spawn", "forkserver")
VARIABLE = "RACE_WATCH_ALSO_DEFAULT_REGISTRY"


@pytest.fixture
def asked(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Armed]:
    """race_watch in this process, asked to show the watcher's numbers in its registry."""
    monkeypatch.setenv(VARIABLE, "1")
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    before = collectors()
    with arming(run_dir, monkeypatch.setenv) as armed:
        yield armed
    assert collectors() == before


def collectors() -> list[object]:
    return list(REGISTRY._collector_to_names)


def leave(run_dir: Path, ago_s: float = 0.0) -> None:
    """The file as a watcher leaves it."""
    WorkerMetrics(str(run_dir), Totals(), lambda line: pytest.fail(line))._store(monotonic_s() - ago_s)


def shown(registry: CollectorRegistry = REGISTRY) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if "race_watch_" in line]


def test_registry_shows_what_the_watchers_own_port_does_and_each_once(asked: Armed, run_dir: Path) -> None:
    own = CollectorRegistry()
    own.register(SnapshotCollector(Totals()))
    leave(run_dir)
    assert shown() == generate_latest(own).decode().splitlines()
    everything = generate_latest(REGISTRY).decode().splitlines()
    series = [line.rpartition(" ")[0] for line in everything if not line.startswith("# HELP")]
    assert len(series) == len(set(series)), "the host's own families are there once too"
    assert not [line for line in shown() if "_created" in line]
    assert {line.split()[2].removesuffix("_total") for line in shown() if line.startswith("# TYPE")} == {
        metric.name for metric in metrics.CATALOGUE
    }


def test_what_the_watcher_leaves_next_is_shown_next(asked: Armed, run_dir: Path) -> None:
    assert shown() == [], "no watcher yet"
    leave(run_dir)
    assert shown()
    os.unlink(run_dir / METRICS_FILE)
    assert shown() == []
    leave(run_dir)
    assert shown()


@pytest.mark.parametrize(("ago_s", "there"), [(55.0, True), (61.0, False), (1e6, False)])
def test_numbers_of_a_watcher_that_is_gone_do_not_stay(asked: Armed, run_dir: Path, ago_s: float, there: bool) -> None:
    leave(run_dir, ago_s)
    assert bool(shown()) is there


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"[]", id="another shape"),
        pytest.param(b'{"made_s": "now", "families": []}', id="no time"),
        pytest.param(b'{"made_s": 1e300, "families": [["race_watch_x", "help", "nothing known", []]]}', id="unknown kind"),
        pytest.param(b'{"made_s": 1e300, "families": [["race_watch_x", "help", "gauge", []], ["y"]]}', id="half"),
    ],
)
def test_file_of_another_kind_costs_our_families_and_not_the_scrape(asked: Armed, run_dir: Path, content: bytes) -> None:
    (run_dir / METRICS_FILE).write_bytes(content)
    asked.strikes = 3
    for _ in range(5):
        assert "python_info" in generate_latest(REGISTRY).decode()
        assert shown() == []
    assert [(event.hook, event.off) for event in asked.seen(HookStruck)] == [(default_registry.NAME, off) for off in (0, 0, 1)]
    leave(run_dir)
    assert shown() == [], "switched off"


def test_file_that_cannot_be_read_is_no_failure(asked: Armed, run_dir: Path) -> None:
    (run_dir / METRICS_FILE).mkdir()
    for _ in range(5):
        assert shown() == []


def test_nothing_is_registered_where_nobody_asked(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(run_dir)
    before, make = collectors(), multiprocess.MultiProcessCollector.__init__
    with arming(run_dir, monkeypatch.setenv) as armed:
        assert collectors() == before
        assert multiprocess.MultiProcessCollector.__init__ is make
        assert default_registry.NAME not in {event.hook for event in armed.seen(HookInstalled)}
        assert shown() == []
    assert "shows_metrics" not in read_journals(run_dir)[0].process.identity


def test_watcher_is_told_by_the_process_itself(asked: Armed, run_dir: Path) -> None:
    (journal,) = read_journals(run_dir)
    assert journal.process.identity["shows_metrics"] is True
    assert default_registry.NAME in {event.hook for event in asked.seen(HookInstalled)}


def test_registry_that_the_host_has_emptied_is_no_obstacle_to_the_undo(asked: Armed) -> None:
    (ours,) = [collector for collector in collectors() if isinstance(collector, default_registry.WatcherMetrics)]
    REGISTRY.unregister(ours)
    agent.disarm()


# Multiprocess mode


@pytest.fixture
def samples(tmp_path: Path) -> str:
    """A directory of multiprocess mode."""
    path = tmp_path / "samples"
    path.mkdir()
    return str(path)


def test_registry_of_multiprocess_mode_has_them_too(asked: Armed, run_dir: Path, samples: str) -> None:
    leave(run_dir)
    for auto_describe in (True, False):
        registry = CollectorRegistry(auto_describe=auto_describe)
        multiprocess.MultiProcessCollector(registry, samples)
        assert shown(registry) == shown()
    multiprocess.MultiProcessCollector(None, path=samples)
    with pytest.raises(ValueError, match="not a directory"):
        multiprocess.MultiProcessCollector(CollectorRegistry(), samples + "/nowhere")


def test_default_registry_as_that_of_multiprocess_mode_has_them_once(asked: Armed, run_dir: Path, samples: str) -> None:
    leave(run_dir)
    before = shown()
    theirs = multiprocess.MultiProcessCollector(REGISTRY, samples)
    assert shown() == before
    REGISTRY.unregister(theirs)


def test_registry_that_outlives_the_undo_shows_none(run_dir: Path, monkeypatch: pytest.MonkeyPatch, samples: str) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    make = multiprocess.MultiProcessCollector.__init__
    registry = CollectorRegistry()
    with arming(run_dir, monkeypatch.setenv):
        leave(run_dir)
        multiprocess.MultiProcessCollector(registry, samples)
        assert shown(registry)
    assert shown(registry) == []
    assert multiprocess.MultiProcessCollector.__init__ is make
    multiprocess.MultiProcessCollector(registry, samples)
    assert shown(registry) == []


# Processes

_PROCESSES = """
import asyncio, json, multiprocessing, os, subprocess, sys

def count(where):
    asyncio.new_event_loop().close()
    import prometheus_client
    from prometheus_client import multiprocess
    counted = []
    joined = prometheus_client.CollectorRegistry()
    multiprocess.MultiProcessCollector(joined, sys.argv[1])
    for registry in (prometheus_client.REGISTRY, joined):
        counted.append(prometheus_client.generate_latest(registry).decode().count("# TYPE race_watch_"))
    with open(os.path.join(sys.argv[1], where), "w") as file:
        json.dump(counted, file)

if __name__ == "__main__":
    count("before")
    # As livekit-agents does: what a job imports is in the server already.
    multiprocessing.get_context("forkserver").set_forkserver_preload(["preloaded"])
    for method in ("fork", "spawn", "forkserver"):
        child = multiprocessing.get_context(method).Process(target=count, args=(method,))
        child.start()
        child.join()
    count("main")
"""


def test_fork_that_is_the_first_to_import_the_client_shows_none(run_dir: Path) -> None:
    source = f"""{LOOP}
import os
pid = os.fork()
from prometheus_client import REGISTRY
print(sum("race_watch" in type(c).__module__ for c in list(REGISTRY._collector_to_names)), flush=True)
if pid:
    os.waitpid(pid, 0)
else:
    os._exit(0)
"""
    environment = watched_environment(run_dir, after=[Path(prometheus_client.__file__).parents[1]], **{VARIABLE: "1"})
    said = checked(run([sys.executable, "-c", source], environment))
    assert sorted(said.split()) == ["0", "1"]


def test_only_the_main_process_shows_them(run_dir: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(_PROCESSES)
    (tmp_path / "preloaded.py").write_text(f"{LOOP}import prometheus_client.multiprocess")
    answers = tmp_path / "answers"
    answers.mkdir()
    leave(run_dir)
    environment = watched_environment(run_dir, after=[tmp_path], **{VARIABLE: "1"})
    checked(run([sys.executable, str(program), str(answers)], environment))
    counted = {path.name: json.loads(path.read_text()) for path in answers.iterdir() if not path.suffix}
    every = [len(metrics.CATALOGUE)] * 2
    assert counted == {"before": every, "main": every, **{method: [0, 0] for method in METHODS}}
    asked = [(journal.role, journal.process.identity.get("shows_metrics")) for journal in read_journals(run_dir)]
    assert sorted(asked, key=str) == [("fork", None), ("fork", None), ("forkserver", None), ("main", True), ("spawn", None)]
