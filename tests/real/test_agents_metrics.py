"""A livekit-agents worker's own /metrics with the watcher's numbers among its own, which come from a job on a real server."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from workers import AgentsWorker

from race_watch import metrics
from race_watch.lab.server import HOW_TO_GET, LiveKitServer, find_server

if find_server() is None:
    pytest.skip(f"{HOW_TO_GET}; the worker's own /metrics on a real server is untested", allow_module_level=True)

pytestmark = [pytest.mark.real, pytest.mark.one_python]

WORKER = Path(__file__).with_name("metrics_worker.py")
RUN = (sys.executable, "-m", "race_watch", "run", "--metrics-port", "0")
OURS = {metric.name for metric in metrics.CATALOGUE}
SHOWN_S = 60.0
CACHED = Path(__file__).parents[2] / ".cache" / "bin" / "promtool"
PROMTOOL = shutil.which("promtool") or (str(CACHED) if CACHED.exists() else None)


class Served:
    """What a worker serves when its one job has ended."""

    def __init__(self, server: LiveKitServer, python: Path, prefix: Sequence[str], until: str) -> None:
        with AgentsWorker(server, python, prefix, WORKER) as worker:
            told = worker.process.wait_for(lambda record: "metrics exposed" in record["message"], "address", SHOWN_S)
            self.url = re.findall(r"http://\S+", told["message"])[0]
            worker.do("told")
            self.of_job = worker.process.wait_for(lambda record: record["message"] == "registry of the job", "job", SHOWN_S)
            deadline_s = time.monotonic() + SHOWN_S
            while until not in (body := self._get()):
                assert time.monotonic() < deadline_s, f"no {until} in\n{body}"
                time.sleep(0.2)
            self.text = body
            self.exit_code = worker.drain()

    def _get(self) -> str:
        with urllib.request.urlopen(self.url, timeout=SHOWN_S) as answer:
            return str(answer.read().decode())

    def families(self) -> dict[str, Metric]:
        """By name; each is there once."""
        found = list(text_string_to_metric_families(self.text))
        assert len({family.name for family in found}) == len(found)
        return {family.name: family for family in found}

    def complaints(self) -> list[str]:
        """What promtool says of our families; livekit-agents' are its own affair."""
        assert PROMTOOL
        checked = subprocess.run(
            [PROMTOOL, "check", "metrics"], input=self.text, capture_output=True, text=True, timeout=60, check=False
        )
        assert "error while linting" not in checked.stderr
        return [line for line in checked.stderr.splitlines() if not re.match("lk_agents_|python_|process_", line)]


SESSION = "race_watch_sessions_total 1.0\n"


@pytest.fixture(scope="module")
def served(livekit_server: LiveKitServer, agents_python: Path) -> Served:
    return Served(livekit_server, agents_python, (*RUN, "--also-default-registry", "--"), SESSION)


def test_worker_serves_its_own_families_and_ours_once_each(served: Served) -> None:
    families = served.families()
    assert set(families) >= OURS
    assert {"lk_agents_active_job_count", "lk_agents_worker_load", "process_cpu_seconds", "python_info"} <= set(families)
    assert {name for name in families if name.startswith("race_watch_")} == OURS
    for metric in metrics.CATALOGUE:
        assert {sample.name for sample in families[metric.name].samples} <= {
            metric.name + ("_total" if metric.kind == "counter" else "")
        }
    series = [(sample.name, *sorted(sample.labels.items())) for family in families.values() for sample in family.samples]
    assert len(series) == len(set(series))


def test_numbers_are_those_of_the_watcher_which_has_seen_the_job(served: Served) -> None:
    families = served.families()
    (attached,) = families["race_watch_processes_attached"].samples
    (build,) = [sample for sample in families["race_watch_build_info"].samples if sample.labels["livekit_agents"]]
    assert attached.value >= 2
    assert build.labels["livekit_agents"] == "1.8.9"
    assert served.exit_code == 0


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool here: `make promtool` gets it")
def test_promtool_finds_nothing_in_ours(served: Served) -> None:
    assert served.complaints() == []


def test_job_has_nothing_of_ours_in_its_registry(served: Served) -> None:
    assert served.of_job["ours"] == []


def test_worker_that_was_not_asked_serves_its_own_alone(livekit_server: LiveKitServer, agents_python: Path) -> None:
    bare = Served(livekit_server, agents_python, (*RUN, "--"), "lk_agents_active_job_count")
    assert "race_watch_" not in bare.text
    assert bare.of_job["ours"] == []


def test_worker_in_multiprocess_mode_serves_ours_beside_those_of_its_processes(
    livekit_server: LiveKitServer, agents_python: Path, tmp_path: Path
) -> None:
    prefix = (*RUN, "--also-default-registry", "--", "env", f"SAMPLES={tmp_path / 'samples'}")
    many = Served(livekit_server, agents_python, prefix, SESSION)
    families = many.families()
    assert set(families) >= OURS
    assert [sample.value for sample in families["worker_calls"].samples] == [1.0], "from the file of the job's process"
    assert "python_info" not in families, "it is not the default registry that is served"
    assert many.of_job["ours"] == []
    if PROMTOOL:
        assert many.complaints() == []
