"""`race-watch run` with OTLP, as a user configures it: where it goes, what goes, and what never does."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from otlp_receiver import http_receiver, plain, refusing_address, silent_server
from servers import OPENMETRICS, get, until
from watched_worker import LOSES_A_TASK, RACE_WATCH, ROOT, environment, live, run

from race_watch.lab.background import background_sfu
from race_watch.lab.wheels import environment as lab_environment

APPLICATION = Path(__file__).with_name("personal_application.py")
OLDEST, NEWEST = "opentelemetry-proto==1.39.1", "opentelemetry-proto==1.45.2"
PLANTED = ("hunter2", "eyJhbGci", "15550142368", "555 014 2368", "mary.major", "PLANTED")


def otlp_lines(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("race-watch:") and "OTLP" in line]


def test_applications_endpoint_gets_incidents_with_the_applications_headers_and_names(tmp_path: Path) -> None:
    with http_receiver() as (url, inbox):
        done = run(
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=url,
            OTEL_EXPORTER_OTLP_HEADERS="api-key=for-this-one",
            OTEL_SERVICE_NAME="sales-agent",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
        )
    assert otlp_lines(done.stderr) == [f"race-watch: OTLP export to {url} (http/protobuf)"]
    assert [one.name for one in inbox.spans()] == ["incident task_exception_lost"]
    assert len(inbox.logs()) == 1
    labels = (("category", "task_exception_lost"), ("signature", "unclassified"), ("verdict", "app"))
    assert inbox.points()["race_watch.incidents"][labels] == 1.0
    assert {received.headers["api-key"] for received in inbox.requests} == {"for-this-one"}
    resource = inbox.resource()
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("sales-agent", "test")


def test_applications_headers_do_not_reach_another_endpoint(tmp_path: Path) -> None:
    with http_receiver() as (their_url, theirs), http_receiver() as (our_url, ours):
        run(
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=their_url,
            OTEL_EXPORTER_OTLP_HEADERS="api-key=PLANTED",
            OTEL_EXPORTER_OTLP_TRACES_HEADERS="x-traces=PLANTED",
            RACE_WATCH_OTLP_ENDPOINT=our_url,
            RACE_WATCH_OTLP_HEADERS="x-own=1",
        )
    assert theirs.requests == []
    assert {received.signal for received in ours.requests} == {"traces", "metrics", "logs"}
    assert {received.headers["x-own"] for received in ours.requests} == {"1"}
    assert b"PLANTED" not in ours.everything()


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        pytest.param((), {"OTEL_SDK_DISABLED": "true"}, id="SDK disabled"),
        pytest.param(("--no-otlp",), {}, id="--no-otlp"),
        pytest.param((), {"RACE_WATCH_OTLP": "off"}, id="off"),
    ],
)
def test_export_can_be_switched_off(tmp_path: Path, options: tuple[str, ...], variables: dict[str, str]) -> None:
    with http_receiver() as (url, inbox):
        done = run(tmp_path, *options, OTEL_EXPORTER_OTLP_ENDPOINT=url, **variables)
    assert (inbox.requests, otlp_lines(done.stderr)) == ([], [])


def test_option_beats_a_disabled_sdk(tmp_path: Path) -> None:
    with http_receiver() as (url, inbox):
        run(tmp_path, "--otlp", OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_SDK_DISABLED="true")
    assert {received.signal for received in inbox.requests} == {"traces", "metrics", "logs"}


def test_instance_is_one_for_a_run_directory_and_another_for_another(tmp_path: Path) -> None:
    with http_receiver() as (url, inbox):

        def instance(*options: str) -> str:
            inbox.requests.clear()
            run(tmp_path, *options, "--otlp-endpoint", url, "--quiet")
            return str(inbox.resource()["service.instance.id"])

        named = "--run-dir", str(tmp_path / "kept")
        first, again, other = instance(*named), instance(*named), instance()
    assert first == again
    assert first != other


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("away", [silent_server, refusing_address], ids=["silent", "refusing"])
def test_endpoint_that_is_away_changes_nothing_but_a_line_or_two(tmp_path: Path, away: object, protocol: str) -> None:
    variables = {"OTEL_EXPORTER_OTLP_TIMEOUT": "600000", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    with away() as url:  # type: ignore[operator]
        done = run(tmp_path, "--otlp-endpoint", url, **variables)
    # Whole, although the endpoint would have been waited for until the test's own patience ends.
    assert done.returncode == 0
    assert "task_exception_lost | the application's fault" in done.stderr
    lines = otlp_lines(done.stderr)
    assert lines[-1].startswith("race-watch: OTLP: 2 spans and log records were not delivered")
    assert len(lines) <= 3


def test_bad_settings_are_a_line_each_and_the_worker_runs(tmp_path: Path) -> None:
    done = run(tmp_path, "--otlp-endpoint", "collector:4318", OTEL_EXPORTER_OTLP_TIMEOUT="soon")
    assert done.returncode == 0
    assert len(otlp_lines(done.stderr)) == 3
    assert "collector" not in done.stderr


@pytest.mark.wheels
@pytest.mark.one_python
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("requirement", "variables", "missing", "extra"),
    [
        pytest.param([], {}, "opentelemetry-proto", "otlp", id="nothing"),
        pytest.param([OLDEST], {"RACE_WATCH_OTLP_PROTOCOL": "grpc"}, "grpcio", "otlp-grpc", id="grpc alone"),
    ],
)
def test_extra_that_is_not_installed_is_one_line(
    tmp_path: Path, requirement: list[str], variables: dict[str, str], missing: str, extra: str
) -> None:
    python = str(lab_environment(["click", "packaging", "prometheus-client", *requirement]))
    done = subprocess.run(
        [python, "-m", "race_watch", "run", "--metrics-port", "0", "--otlp", "--", python, "-c", "print('on')"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(tmp_path, **variables),
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "on\n")
    (line,) = otlp_lines(done.stderr)
    assert line == f"race-watch: no OTLP export: {missing} is not installed here; pip install 'race-watch[{extra}]'"


@pytest.mark.wheels
@pytest.mark.one_python
@pytest.mark.timeout(600)
@pytest.mark.parametrize("proto", [OLDEST, NEWEST])
def test_oldest_and_newest_messages_carry_the_same(tmp_path: Path, proto: str) -> None:
    python = str(lab_environment(["click", "packaging", "prometheus-client", proto]))
    with http_receiver() as (url, inbox):
        done = subprocess.run(
            [
                python,
                "-m",
                "race_watch",
                "run",
                "--metrics-port",
                "0",
                "--otlp-endpoint",
                url,
                "--",
                python,
                "-c",
                LOSES_A_TASK,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(tmp_path),
            check=False,
        )
    assert done.returncode == 0, done.stderr
    (span,), (log,) = inbox.spans(), inbox.logs()
    assert (span.name, log.event_name) == ("incident task_exception_lost", "race_watch.incident")
    assert span.trace_id == log.trace_id
    assert inbox.points()["race_watch.processes_attached"] == {(): 1.0}


@pytest.mark.wheels
@pytest.mark.one_python
@pytest.mark.timeout(600)
def test_what_is_personal_or_secret_appears_nowhere(tmp_path: Path) -> None:
    python = str(lab_environment(["livekit==1.1.21"]))
    incidents = tmp_path / "incidents.jsonl"
    with background_sfu() as sfu, http_receiver() as (their_url, theirs), http_receiver() as (url, inbox):
        done = run(
            tmp_path,
            "--incidents",
            str(incidents),
            "--run-dir",
            str(tmp_path / "journals"),
            "--keep",
            command=[python, str(APPLICATION), "--url", sfu],
            OTEL_EXPORTER_OTLP_ENDPOINT=their_url,
            OTEL_EXPORTER_OTLP_HEADERS="api-key=PLANTED",
            RACE_WATCH_OTLP_ENDPOINT=url.replace("//", "//user:PLANTED@"),
            RACE_WATCH_OTLP_HEADERS="x-own=1",
        )
    assert done.returncode == 0, done.stderr
    assert "15550142368" in done.stderr, "the application's own log has it"
    assert {one.name for one in inbox.spans()} == {
        "room session",
        "connect",
        "publish_track",
        "participant",
        "unpublish_track",
        "disconnect",
        "incident callback_error",
    }
    (incident,) = [one for one in inbox.spans() if one.name.startswith("incident")]
    assert "<number>" in str(plain(incident.attributes)["exception.message"])
    (recorded,) = {one["id"]: one for one in map(json.loads, incidents.read_text().splitlines())}.values()
    assert recorded["trace_id"] == incident.trace_id.hex()
    (session,) = [one for one in inbox.spans() if one.name == "room session"]
    assert recorded["links"]["room_session"] == {"trace_id": session.trace_id.hex(), "span_id": session.span_id.hex()}
    assert theirs.requests == []
    log, _, summary = done.stderr.partition("race-watch: summary")
    ours = "\n".join([*(line for line in log.splitlines() if line.startswith("race-watch:")), summary])
    sent = inbox.everything().decode("latin-1").replace(inbox.requests[0].headers["authorization"], "")
    journals = [path.read_bytes().decode("latin-1") for path in (tmp_path / "journals").iterdir()]
    assert any("participant_connected" in journal for journal in journals)
    for planted in PLANTED:
        for where in (ours, incidents.read_text(), sent, *journals):
            assert planted not in where


def test_metrics_page_and_otlp_have_one_trace_for_an_incident(tmp_path: Path) -> None:
    with http_receiver() as (url, inbox), live(tmp_path, "--otlp-endpoint", url) as worker:
        page = f"http://{worker.metrics}/metrics"
        shown = until(lambda: re.search(r'trace_id="(\w+)"', get(page, OPENMETRICS)), "an exemplar")
        worker.end()
    assert {one.trace_id.hex() for one in inbox.spans()} == {shown.group(1)}


def test_options_are_in_the_help() -> None:
    command = [*RACE_WATCH, "watch", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
    assert "--otlp / --no-otlp" in done.stdout
    assert "--otlp-endpoint URL" in done.stdout
