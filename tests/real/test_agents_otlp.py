"""Jobs of a livekit-agents worker on a real server, as traces: how each room session and each job ended."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from workers import AgentsWorker, Job

from race_watch.lab.server import HOW_TO_GET, LiveKitServer, find_server

sys.path.insert(0, str(Path(__file__).parents[1] / "otlp"))

from otlp_receiver import Inbox, http_receiver, plain

if find_server() is None:
    pytest.skip(f"{HOW_TO_GET}; OTLP of livekit-agents jobs is untested", allow_module_level=True)

pytestmark = [pytest.mark.real, pytest.mark.one_python]

BEHAVIOURS = ("clean", "abort", "ghost_mute")
OUTCOME = "race_watch.outcome"


@pytest.fixture(scope="module")
def traced(livekit_server: LiveKitServer, agents_python: Path) -> Iterator[tuple[dict[str, Job], Inbox]]:
    with http_receiver() as (url, inbox):
        command = [sys.executable, "-m", "race_watch", "run", "--metrics-port", "0", "--otlp-endpoint", url, "--"]
        with AgentsWorker(livekit_server, agents_python, command) as worker:
            jobs = worker.do(*BEHAVIOURS)
            worker.drain()
        yield jobs, inbox


def spans_of(inbox: Inbox, job: Job) -> dict[str, Any]:
    """The spans of a job's trace, by name."""
    (session,) = [s for s in inbox.spans() if s.name == "room session" and plain(s.attributes)["lk.pii.room_name"] == job.room]
    return {span.name: span for span in inbox.spans() if span.trace_id == session.trace_id}


def test_job_that_ended_well_is_a_session_with_its_calls_and_the_job(traced: tuple[dict[str, Job], Inbox]) -> None:
    jobs, inbox = traced
    found = spans_of(inbox, jobs["clean"])
    assert {"connect", "participant", "disconnect", "room session", "job"} <= found.keys()
    session, job = found["room session"], found["job"]
    assert plain(session.attributes)[OUTCOME] == "disconnected"
    assert plain(job.attributes)["process.pid"] == jobs["clean"].pid
    assert job.parent_span_id == session.span_id
    assert job.start_time_unix_nano <= session.end_time_unix_nano <= job.end_time_unix_nano
    assert not session.HasField("status")


def test_job_that_aborted_failed_and_so_did_its_session(traced: tuple[dict[str, Job], Inbox]) -> None:
    jobs, inbox = traced
    found = spans_of(inbox, jobs["abort"])
    assert [found[name].status.code for name in ("room session", "job")] == [2, 2]
    assert plain(found["room session"].attributes)[OUTCOME] == "process died"
    (incident,) = [s for s in inbox.spans() if s.name == "incident native_abort"]
    assert [link.trace_id for link in incident.links] == [found["room session"].trace_id]


def test_incident_is_linked_to_the_session_it_happened_in(traced: tuple[dict[str, Job], Inbox]) -> None:
    jobs, inbox = traced
    found = spans_of(inbox, jobs["ghost_mute"])
    (incident,) = [s for s in inbox.spans() if s.name == "incident registry_race"]
    links = {plain(link.attributes)["race_watch.link"]: link for link in incident.links}
    assert links["room_session"].span_id == found["room session"].span_id
    assert plain(incident.attributes)["lk.pii.room_name"] == jobs["ghost_mute"].room
