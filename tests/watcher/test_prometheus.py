"""/metrics as a scraper sees it: over HTTP, in both formats."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from serving import Reply, Serving, incident, read_to_end, serving

from race_watch import metrics
from race_watch.exporters.exposition import Exposition
from race_watch.exporters.prometheus import SnapshotCollector
from race_watch.totals import Totals

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
LABELS = {"category": "registry_race", "verdict": "sdk", "signature": "local-unpublish-keyerror"}
TRACE = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}
LATER_TRACE = {"trace_id": "1" * 32, "span_id": "2" * 16}
PROCESS = {
    "process_cpu_seconds",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
}
CACHED = Path(__file__).parents[2] / ".cache" / "bin" / "promtool"
PROMTOOL = shutil.which("promtool") or (str(CACHED) if CACHED.exists() else None)
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool here: `make promtool` gets it")


@pytest.fixture
def served() -> Iterator[Serving]:
    with serving() as made:
        yield made
    assert made.status.failures == ()


def scrape(served: Serving, accept: str = "text/plain", query: str = "", **headers: str) -> Reply:
    return served.ask(f"/metrics{query}", headers={"Accept": accept, **headers})


def parsed(body: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(body)}


def traced(served: Serving) -> None:
    """An incident with a span, counted."""
    served.totals.trace(incident(**TRACE))
    changed = {name: dict(values) for name, values in served.totals.snapshot.items()}
    changed["race_watch_incidents"][tuple(LABELS.values())] = 3.0
    served.totals.snapshot = changed


def test_text_is_served_to_whoever_asks_for_nothing_special(served: Serving) -> None:
    reply = scrape(served)
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/plain; version=")
    families = parsed(reply.text)
    assert set(families) == {metric.name for metric in metrics.CATALOGUE} | PROCESS
    for metric in metrics.CATALOGUE:
        assert families[metric.name].type == metric.kind
        assert families[metric.name].documentation == metric.help
        assert len(families[metric.name].samples) == len(metric.sets) or metric.others


def test_openmetrics_is_served_to_whoever_asks_for_it(served: Serving) -> None:
    reply = scrape(served, "application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith(OPENMETRICS)
    assert reply.text.endswith("# EOF\n")
    families = {family.name: family for family in openmetrics_parser.text_string_to_metric_families(reply.text)}
    assert set(families) == {metric.name for metric in metrics.CATALOGUE} | PROCESS


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_nothing_but_the_catalogue_and_the_process_is_served(served: Serving, accept: str) -> None:
    body = scrape(served, accept).text
    names = {line.split("{")[0].split(" ")[0] for line in body.splitlines() if line and not line.startswith("#")}
    expected = {metric.name + ("_total" if metric.kind == "counter" else "") for metric in metrics.CATALOGUE}
    assert names == expected | PROCESS - {"process_cpu_seconds"} | {"process_cpu_seconds_total"}
    assert "_created" not in body
    samples = [line for line in body.splitlines() if line and not line.startswith("#")]
    assert len(samples) <= 200


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_answer_is_compressed_for_whoever_can_read_that(served: Serving, accept: str) -> None:
    reply = scrape(served, accept, **{"Accept-Encoding": "gzip"})
    assert reply.headers["Content-Encoding"] == "gzip"
    assert "race_watch_incidents_total" in gzip.decompress(reply.body).decode()
    assert len(reply.body) * 3 < len(scrape(served, accept).body)


def test_single_metrics_can_be_asked_for(served: Serving) -> None:
    body = scrape(served, query="?name[]=race_watch_rooms&name[]=race_watch_exports_total").text
    assert set(parsed(body)) == {"race_watch_rooms", "race_watch_exports"}


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=abc",
        "application/openmetrics-text;version=",
        "text/plain; version=1.x",
        "*/*",
        ",,;;=",
        "x" * 8000,
    ],
)
def test_strange_accept_header_gets_metrics_all_the_same(served: Serving, accept: str) -> None:
    reply = scrape(served, accept)
    assert (reply.status, "race_watch_rooms" in reply.text) == (200, True)


def test_accept_header_of_several_lines_makes_none_in_the_answer(served: Serving) -> None:
    with served.connect() as client:
        client.sendall(
            b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text; version=1.0.0\r\n ; Set-Cookie: a=b\r\n\r\n"
        )
        head = read_to_end(client).partition(b"\r\n\r\n")[0].decode()
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert all(re.match(r"[A-Za-z-]+: ", line) for line in head.splitlines()[1:])


def test_scrape_sees_the_snapshot_of_the_moment(served: Serving) -> None:
    def shown() -> float:
        samples = parsed(scrape(served).text)["race_watch_incidents"].samples
        return next(sample.value for sample in samples if sample.labels == LABELS)

    assert shown() == 0
    traced(served)
    assert shown() == 3


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_scrape_is_what_the_client_library_makes_of_the_numbers_of_the_moment(served: Serving, accept: str) -> None:
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(served.totals))
    encoder, _ = choose_encoder(accept)
    for change in (lambda: None, lambda: traced(served), lambda: served.totals.trace(incident("later", **LATER_TRACE))):
        change()
        whole = encoder(registry).decode().removesuffix("# EOF\n")
        assert whole
        assert scrape(served, accept).text.startswith(whole)


def test_formats_whose_texts_are_kept_are_bounded_however_many_are_asked_for() -> None:
    exposition = Exposition(Totals())
    for number in range(20):
        exposition.text(generate_latest, f"text/plain; version=1.0.{number}")
    assert len(exposition._formats) <= 4


def test_incident_counters_carry_the_latest_trace_in_openmetrics(served: Serving) -> None:
    traced(served)
    served.totals.trace(incident("later", time_unix_ns=2_000_500_000_000, **LATER_TRACE))
    served.totals.trace(incident("untraced", time_unix_ns=3_000_000_000_000))
    body = scrape(served, OPENMETRICS).text
    families = {family.name: family for family in openmetrics_parser.text_string_to_metric_families(body)}
    with_exemplar = [sample for sample in families["race_watch_incidents"].samples if sample.exemplar is not None]
    (sample,) = with_exemplar
    assert sample.labels == LABELS
    assert sample.exemplar is not None
    assert (sample.exemplar.labels, sample.exemplar.value) == (LATER_TRACE, 1)
    assert float(str(sample.exemplar.timestamp)) == 2000.5


def test_text_has_no_exemplars(served: Serving) -> None:
    traced(served)
    assert TRACE["trace_id"] not in scrape(served).text


@pytest.mark.parametrize(
    "ids",
    [
        {"trace_id": 'x"} 1\nforged 7', "span_id": TRACE["span_id"]},
        {"trace_id": TRACE["trace_id"], "span_id": ""},
        {"trace_id": TRACE["trace_id"] * 9, "span_id": TRACE["span_id"]},
        {"trace_id": None, "span_id": None},
    ],
    ids=["forged", "half", "too long for an exemplar", "none"],
)
def test_ids_that_are_none_make_no_exemplar(served: Serving, ids: dict[str, str | None]) -> None:
    served.totals.trace(incident(**ids))
    assert served.totals.traces == {}
    assert "forged" not in scrape(served, OPENMETRICS).text


def test_registry_of_the_host_is_left_alone(served: Serving) -> None:
    scrape(served)
    assert b"race_watch_" not in generate_latest()


# promtool


def lint(body: str) -> tuple[int, str]:
    assert PROMTOOL
    checked = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=body, capture_output=True, text=True, timeout=60, check=False
    )
    return checked.returncode, checked.stderr


def as_text_format(openmetrics: str) -> str:
    """What promtool lints is the text format: there a counter's family has the name of its samples, and exemplars are none."""
    counters = re.findall(r"^# TYPE (\S+) counter$", openmetrics, re.MULTILINE)
    for name in counters:
        openmetrics = re.sub(rf"^# (HELP|TYPE) {name} ", rf"# \1 {name}_total ", openmetrics, flags=re.MULTILINE)
    return re.sub(r" # \{.*$", "", openmetrics, flags=re.MULTILINE)


@pytest.mark.one_python
@needs_promtool
@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_promtool_has_nothing_to_say(served: Serving, accept: str) -> None:
    traced(served)
    body = scrape(served, accept).text
    assert lint(as_text_format(body) if accept == OPENMETRICS else body) == (0, "")
    assert lint(body.replace("# HELP race_watch_rooms ", "# HELP race_watch_other "))[0] != 0, "it lints"


@pytest.mark.one_python
@needs_promtool
def test_prometheus_reads_openmetrics_with_its_exemplars(served: Serving, tmp_path: Path) -> None:
    traced(served)
    body = scrape(served, OPENMETRICS).text
    # What is imported needs times; an exemplar comes after them.
    dated = re.sub(r"^([a-z][^#\n]*?)( # .*)?$", r"\1 1000\2", body, flags=re.MULTILINE)
    (tmp_path / "metrics.txt").write_text(dated)
    assert PROMTOOL
    read = subprocess.run(
        [PROMTOOL, "tsdb", "create-blocks-from", "openmetrics", str(tmp_path / "metrics.txt"), str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert read.returncode == 0, read.stderr
    listed = subprocess.run(
        [PROMTOOL, "tsdb", "list", str(tmp_path / "data")], capture_output=True, text=True, timeout=60, check=False
    )
    series = [line for line in body.splitlines() if line and not line.startswith("#")]
    assert str(len(series)) in listed.stdout.split(), listed.stdout


def test_failure_of_ours_costs_our_families_and_not_the_scrape() -> None:
    totals = Totals()
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(totals))
    totals.snapshot = {}
    assert generate_latest(registry) == b""
    assert Exposition(totals).text(generate_latest, "text/plain") == b""


def test_scraping_imports_no_tracing_library_and_sets_no_variable() -> None:
    source = (
        "import os, sys; before = dict(os.environ); from race_watch.exporters import http, prometheus; "
        "print([m for m in sys.modules if m.startswith(('opentelemetry', 'livekit', 'psutil'))], dict(os.environ) == before)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[] True\n"
