"""A livekit-agents worker with racing jobs on a real server: what it says bare, and what race_watch says of it."""

from __future__ import annotations

import json
import os
import re
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from processes import Record
from prometheus_client.parser import text_string_to_metric_families
from workers import AgentsWorker, Job

from race_watch.lab.server import HOW_TO_GET, LiveKitServer, find_server

if find_server() is None:
    # Here and not in a fixture: one line in the summary instead of one a test.
    pytest.skip(f"{HOW_TO_GET}; livekit-agents on a real server is untested", allow_module_level=True)

pytestmark = [pytest.mark.real, pytest.mark.one_python]

BEHAVIOURS = ("clean", "ghost_mute", "dead_track", "lost_task", "preconnect", "abort", "killed", "terminated", "hoard")
# behaviour: the one incident it must make, as (category, signature).
EXPECTED = {
    "ghost_mute": ("registry_race", "track-muted-untracked"),
    "dead_track": ("use_after_dispose", "stream-on-dead-track"),
    "lost_task": ("task_exception_lost", "unclassified"),
    "preconnect": ("use_before_connect", "roomio-preconnect-text-output"),
    "abort": ("native_abort", "unclassified"),
    "killed": ("process_killed", "unclassified"),
    "terminated": ("process_killed", "job-signals-lost-in-forkserver"),
    "hoard": ("process_killed", "unclassified"),
}
INCIDENTS_COUNTER = "race_watch_incidents"
COUNTED_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Life:
    """A worker from its start to its exit, one job for each behaviour and a clean one after they have all ended."""

    jobs: dict[str, Job]
    job_after: Job
    exit_code: int
    records: list[Record]
    stderr: str


def live(worker: AgentsWorker, jobs: dict[str, Job]) -> Life:
    job_after = worker.do("clean")["clean"]
    exit_code = worker.drain()
    return Life(jobs, job_after, exit_code, worker.process.records, "\n".join(worker.process.stderr_lines))


@pytest.fixture(scope="module")
def bare(bare_worker: AgentsWorker) -> Life:
    return live(bare_worker, bare_worker.do(*BEHAVIOURS))


# Bare: the input is real.


def test_bare_worker_runs_a_job_that_a_caller_hears(bare: Life) -> None:
    seen = {record["event"] for record in bare.jobs["clean"].seen_by_caller}
    assert {"participant_connected", "track_subscribed", "audio_heard", "participant_disconnected"} <= seen
    assert bare.jobs["clean"].complaints() == []


def test_each_bare_job_has_a_process_of_its_own(bare: Life) -> None:
    pids = [job.pid for job in (*bare.jobs.values(), bare.job_after)]
    assert len(set(pids)) == len(BEHAVIOURS) + 1


def test_bare_ghost_mute_is_a_root_error(bare: Life) -> None:
    (record,) = errors(bare.jobs["ghost_mute"], "root")
    assert record["message"].startswith("error running user callback for track_muted: ")
    assert record["exc_info"].endswith("KeyError: 'TR_ghost'")
    assert record["pid"] == bare.jobs["ghost_mute"].pid


def test_bare_dead_track_is_a_native_error_and_an_empty_assertion(bare: Life) -> None:
    native = [record["message"] for record in errors(bare.jobs["dead_track"], "livekit")]
    assert [m for m in native if "Some(NewAudioStream(" in m and 'InvalidRequest("handle not found")' in m]
    (record,) = errors(bare.jobs["dead_track"], "livekit.agents")
    assert record["message"].startswith("unhandled exception while running the job task")
    assert record["exc_info"].endswith("AssertionError")
    assert "_ffi_client.py" in record["exc_info"]


def test_bare_lost_task_is_reported_by_asyncio(bare: Life) -> None:
    (record,) = errors(bare.jobs["lost_task"], "asyncio")
    assert record["message"].startswith("Task exception was never retrieved\n")
    assert record["exc_info"].endswith("UnpublishTrackError: room failure: track not found")


def test_bare_preconnect_fails_before_any_caller_sees_the_agent(bare: Life) -> None:
    (record,) = errors(bare.jobs["preconnect"], "livekit.agents")
    assert record["exc_info"].endswith("Exception: cannot access local participant before connecting")
    assert "participant_connected" not in {record["event"] for record in bare.jobs["preconnect"].seen_by_caller}


def test_bare_abort_is_an_exit_code_in_the_parent(bare: Life) -> None:
    (record,) = errors(bare.jobs["abort"], "livekit.agents")
    assert record["message"] == "process exited with non-zero exit code -6"


def test_bare_worker_takes_jobs_after_the_abort_and_drains_on_sigterm(bare: Life) -> None:
    assert bare.job_after.complaints() == []
    assert [r["message"] for r in bare.records][-2:] == ["draining worker", "shutting down worker"]
    assert bare.exit_code == 0


def errors(job: Job, logger: str) -> list[Record]:
    return [record for record in job.records if record["level"] == "ERROR" and record["name"] == logger]


# Under race-watch.


@dataclass(frozen=True)
class Watched:
    life: Life
    parent_pids: set[int]
    counted: dict[str, float]
    incidents: list[dict[str, Any]]

    def of(self, job: Job) -> list[dict[str, Any]]:
        return [incident for incident in self.incidents if (incident["room"] or {}).get("name") == job.room]


@pytest.fixture(scope="module")
def watched(livekit_server: LiveKitServer, agents_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    file = tmp_path_factory.mktemp("watched") / "incidents.jsonl"
    prefix = (sys.executable, "-m", "race_watch", "run", "--incidents", str(file), "--metrics-port", "0", "--")
    with AgentsWorker(livekit_server, agents_python, prefix) as worker:
        url = worker.process.wait_for_stderr(metrics_url, "metrics URL", 10)
        jobs = worker.do(*BEHAVIOURS)
        counted = counted_by_category(url)
        life = live(worker, jobs)
    lines = map(json.loads, file.read_text().splitlines())
    # A line is repeated with its id when its count has settled: the last one stands.
    incidents = list({incident["id"]: incident for incident in lines}.values())
    parents = {record["pid"] for record in life.records if record["message"] == "registered worker"}
    return Watched(life, parents, counted, incidents)


@pytest.mark.parametrize("behaviour", EXPECTED)
def test_racing_job_makes_exactly_one_incident(watched: Watched, behaviour: str) -> None:
    job = watched.life.jobs[behaviour]
    (incident,) = watched.of(job)
    assert (incident["category"], incident["signature"]) == EXPECTED[behaviour]
    # Not the pid of the worker, which logs the job's record a second time.
    assert incident["process"]["pid"] == job.pid
    assert incident["count"] == 1


# behaviour: why its process ended, by which signal, in which phase, and the worker's own word on it.
ENDS = {
    "abort": ("native_abort", "SIGABRT", "idle", "process exited with non-zero exit code"),
    "killed": ("killed", "SIGKILL", "idle", "process exited with non-zero exit code"),
    "terminated": ("terminated", "SIGTERM", "idle", "process exited with non-zero exit code"),
    "hoard": ("supervisor_kill", None, "idle", "process exceeded memory limit"),
}


@pytest.mark.parametrize("behaviour", ENDS)
def test_job_that_was_ended_is_told_with_its_reason_room_and_caller(watched: Watched, behaviour: str) -> None:
    job = watched.life.jobs[behaviour]
    (incident,) = watched.of(job)
    reason, signal, phase, said = ENDS[behaviour]
    evidence = incident["evidence"]
    assert (evidence["reason"], evidence["phase"], evidence["supervisor_said"]) == (reason, phase, said)
    # livekit-agents begins a kill with SIGUSR1, which under the forkserver ends the job before the SIGKILL comes.
    assert evidence["signal"] in ((signal,) if signal else ("SIGUSR1", "SIGKILL"))
    assert incident["process"]["role"] == "job"
    assert incident["process"]["job_id"].startswith("AJ_")
    assert (evidence["rooms_live"], evidence["participants_live"], evidence["sessions_lost"]) == ("1", "1", "1")
    assert incident["participant"]["identity"].startswith("id:")


def test_panic_text_of_a_job_that_shares_the_workers_stderr_is_in_its_incident(watched: Watched) -> None:
    (incident,) = watched.of(watched.life.jobs["abort"])
    assert incident["evidence"]["panic"] == "attempt to divide by zero"
    assert incident["component"] == "livekit-ffi/src/server/requests.rs"
    assert incident["verdict"] == "native"


def test_clean_jobs_make_no_incident(watched: Watched) -> None:
    assert watched.of(watched.life.jobs["clean"]) == []
    assert watched.of(watched.life.job_after) == []


def test_no_incident_is_outside_the_jobs(watched: Watched) -> None:
    rooms = {job.room for job in watched.life.jobs.values()}
    assert [i for i in watched.incidents if (i["room"] or {}).get("name") not in rooms] == []
    assert watched.parent_pids.isdisjoint(i["process"]["pid"] for i in watched.incidents)


def test_counters_outlive_the_job_processes(watched: Watched) -> None:
    assert not any(os.path.exists(f"/proc/{job.pid}") for job in watched.life.jobs.values())
    assert {category: count for category, count in watched.counted.items() if count} == Counter(c for c, _ in EXPECTED.values())


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_watched_job_says_what_it_says_bare(bare: Life, watched: Watched, behaviour: str) -> None:
    assert watched.life.jobs[behaviour].complaints() == bare.jobs[behaviour].complaints()


def test_watched_worker_takes_jobs_after_the_abort_and_drains_as_bare(bare: Life, watched: Watched) -> None:
    assert watched.life.job_after.complaints() == []
    assert [r["message"] for r in watched.life.records if r.get("name") == "livekit.agents"][-2:] == [
        "draining worker",
        "shutting down worker",
    ]
    assert watched.life.exit_code == bare.exit_code


def metrics_url(line: str) -> str | None:
    found = re.search(r"http://\S+/metrics", line)
    return found and found[0]


def counted_by_category(url: str) -> dict[str, float]:
    """Incidents by category, read when there are as many as expected, or when time is up."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline_s = time.monotonic() + COUNTED_TIMEOUT_S
    while True:
        with direct.open(url, timeout=15) as answer:
            text = answer.read().decode()
        counted: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == f"{INCIDENTS_COUNTER}_total":
                    category = sample.labels["category"]
                    counted[category] = counted.get(category, 0.0) + sample.value
        if sum(counted.values()) >= len(EXPECTED) or time.monotonic() > deadline_s:
            return counted
        time.sleep(0.2)
