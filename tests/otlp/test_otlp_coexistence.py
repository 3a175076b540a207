"""An application's own instrumentation with race_watch in its process: it sees what it saw without, and nothing of ours."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from otlp_receiver import Inbox, http_receiver, plain

from race_watch.lab.background import background_sfu
from race_watch.lab.wheels import environment

pytestmark = [pytest.mark.wheels, pytest.mark.one_python, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
APPLICATION = Path(__file__).with_name("coexisting_application.py")
PATIENCE_S = 60.0
NEEDS = [
    "livekit==1.1.21",
    "click",
    "packaging",
    "prometheus-client",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-distro==0.66b1",
    "opentelemetry-instrumentation-urllib==0.66b1",
    "opentelemetry-instrumentation-threading==0.66b1",
    "sentry-sdk==2.75.0",
    "ddtrace==4.16.0",
]


@pytest.fixture(scope="session")
def python() -> Path:
    return environment(NEEDS)


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    with background_sfu() as running:
        yield running


@dataclass(frozen=True)
class Said:
    """What the application printed, and what its collector and ours got."""

    seen: Any
    failed_under: list[list[str]]
    warnings: list[str]
    stderr: str
    theirs: Inbox
    ours: Inbox


def installed(home: Path) -> Path:
    """A directory for PYTHONPATH that has race_watch as an installation has it, its entry points with it."""
    site = home / "site"
    metadata = site / "race_watch-0.dist-info"
    metadata.mkdir(parents=True)
    (site / "race_watch").symlink_to(ROOT / "race_watch")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: race-watch\nVersion: 0\n")
    points = [f"[{point.group}]\n{point.name} = {point.value}\n" for point in distribution("race-watch").entry_points]
    (metadata / "entry_points.txt").write_text("\n".join(points))
    return site


def run(python: Path, url: str, home: Path, kind: str, order: str = "before", *, watched: bool) -> Said:
    """`order` is that of race_watch and the other one; `below`: everything is below `race-watch run`."""
    exporting = home / "exporting"
    exporting.unlink(missing_ok=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RACE_WATCH", "PYTHON", "OTEL_", "DD_", "SENTRY"))}
    with http_receiver() as (their_url, theirs), http_receiver() as (our_url, ours):
        env = {
            **clean,
            "PYTHONPATH": str(ROOT),
            "XDG_RUNTIME_DIR": str(home),
            "DD_TRACE_STARTUP_LOGS": "false",
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            "DD_REMOTE_CONFIGURATION_ENABLED": "false",
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=PLANTED-HEADER",
            "RACE_WATCH_OTLP_ENDPOINT": our_url,
            "RACE_WATCH_OTLP_INTERVAL_S": "1",
            "RACE_WATCH_METRICS_PORT": "0",
        }
        command: list[str] = [str(python), str(APPLICATION)]
        if kind == "instrument":
            env.update({"OTEL_EXPORTER_OTLP_ENDPOINT": their_url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"})
            env.update({"OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_LOGS_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"})
            env["RACE_WATCH_OTLP_SIGNALS"] = "traces,metrics,logs"
            command = [str(python.with_name("opentelemetry-instrument")), *command]
        ours.reply = _touch(exporting, ours.reply)
        options = ["--url", url, "--kind", kind, "--order", order, "--exporting", str(exporting)]
        if watched and order == "below":
            env["PYTHONPATH"] = str(installed(home))
            command = [str(python), "-m", "race_watch", "run", "--", *command]
        elif watched:
            options.append("--watched")
        done = subprocess.run(
            [*command, *options],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=env,
            cwd=home,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return Said(**json.loads(done.stdout.splitlines()[-1]), stderr=done.stderr, theirs=theirs, ours=ours)


def _touch(path: Path, reply: Any) -> Any:
    def touched(received: Any) -> Any:
        path.touch()
        return reply(received)

    return touched


def names(spans: Sequence[Any]) -> list[str]:
    return sorted(span.name for span in spans)


@pytest.mark.parametrize(
    ("kind", "order"),
    # `opentelemetry-instrument` is there before the first line of anybody's: race_watch comes after it, or has started it.
    [*product(("sdk", "sentry", "ddtrace"), ("before", "after")), ("instrument", "after"), ("instrument", "below")],
)
def test_instrumentation_is_as_it_was_and_sees_nothing_of_the_export(
    python: Path, url: str, tmp_path: Path, kind: str, order: str
) -> None:
    bare = run(python, url, tmp_path, kind, watched=False)
    watched = run(python, url, tmp_path, kind, order, watched=True)
    assert bare.ours.requests == []
    assert watched.seen == bare.seen
    assert watched.warnings == bare.warnings
    assert names(watched.theirs.spans()) == names(bare.theirs.spans())
    (span,) = [one for one in watched.ours.spans() if one.name.startswith("incident ")]
    (log,) = watched.ours.logs()
    assert plain(span.attributes)["exception.type"] == "LookupError"
    assert span.trace_id == log.trace_id
    assert b"PLANTED" not in watched.ours.everything()
    assert not {"sentry-trace", "baggage", "traceparent", "x-datadog-trace-id"} & {
        h for r in watched.ours.requests for h in r.headers
    }
    links = {plain(link.attributes)["race_watch.link"]: (link.trace_id.hex(), link.span_id.hex()) for link in span.links}
    (session,) = [one for one in watched.ours.spans() if one.name == "room session"]
    assert links["room_session"] == (session.trace_id.hex(), session.span_id.hex())
    if kind in ("sdk", "instrument"):
        # The application's span, as the application's own callback saw it.
        assert links["application"] == tuple(watched.failed_under[0])
        assert set(watched.failed_under[0][0]) != {"0"}
    elif kind == "sentry":
        assert "application" not in links
