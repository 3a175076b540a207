"""/metrics as a scraper sees it: over HTTP, in both formats."""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import REGISTRY, Collector
from prometheus_client.samples import Exemplar

from race_watch import metrics
from race_watch.exporters import prometheus
from race_watch.exporters.prometheus import Endpoint, SnapshotCollector, serve
from race_watch.settings import SettingsError
from race_watch.totals import Totals

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
LABELS = {"category": "registry_race", "verdict": "sdk", "signature": "local-unpublish-keyerror"}


@pytest.fixture
def totals() -> Totals:
    return Totals()


@pytest.fixture
def endpoint(totals: Totals) -> Iterator[Endpoint]:
    running = serve("127.0.0.1", 0, lambda: totals.snapshot)
    yield running
    running.stop()


def scrape(endpoint: Endpoint, accept: str = "text/plain", method: str = "GET") -> tuple[int, str, str]:
    """Status, content type and body."""
    url = urlsplit(endpoint.url)
    connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=10)
    try:
        connection.request(method, url.path, headers={"Accept": accept})
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read().decode()
    finally:
        connection.close()


def parsed(body: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(body)}


def test_text_is_served_to_whoever_asks_for_nothing_special(endpoint: Endpoint) -> None:
    status, kind, body = scrape(endpoint)
    assert status == 200
    assert kind.startswith("text/plain; version=")
    families = parsed(body)
    assert set(families) == {metric.name for metric in metrics.CATALOGUE}
    for metric in metrics.CATALOGUE:
        assert families[metric.name].type == metric.kind
        assert families[metric.name].documentation == metric.help
        assert len(families[metric.name].samples) == len(metric.sets)


def test_openmetrics_is_served_to_whoever_asks_for_it(endpoint: Endpoint) -> None:
    status, kind, body = scrape(endpoint, "application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert status == 200
    assert kind.startswith(OPENMETRICS)
    assert body.endswith("# EOF\n")
    families = {family.name: family for family in openmetrics_parser.text_string_to_metric_families(body)}
    assert set(families) == {metric.name for metric in metrics.CATALOGUE}


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_nothing_but_the_catalogue_is_served(endpoint: Endpoint, accept: str) -> None:
    _, _, body = scrape(endpoint, accept)
    names = {line.split("{")[0].split(" ")[0] for line in body.splitlines() if line and not line.startswith("#")}
    expected = {metric.name + ("_total" if metric.kind == "counter" else "") for metric in metrics.CATALOGUE}
    assert names == expected
    assert "_created" not in body
    samples = [line for line in body.splitlines() if line and not line.startswith("#")]
    assert len(samples) <= 200


def test_scrape_sees_the_snapshot_of_the_moment(endpoint: Endpoint, totals: Totals) -> None:
    def shown() -> float:
        samples = parsed(scrape(endpoint)[2])["race_watch_incidents"].samples
        return next(sample.value for sample in samples if sample.labels == LABELS)

    assert shown() == 0
    changed = {name: dict(values) for name, values in totals.snapshot.items()}
    changed["race_watch_incidents"][tuple(LABELS.values())] = 3.0
    totals.snapshot = changed
    assert shown() == 3


def test_collector_can_carry_exemplars_with_trace_ids(totals: Totals) -> None:
    trace = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}

    class WithExemplar(Collector):
        def collect(self) -> Iterator[Metric]:
            for family in SnapshotCollector(lambda: totals.snapshot).collect():
                family.samples = [
                    sample._replace(exemplar=Exemplar(trace, 1.0)) if sample.labels == LABELS else sample
                    for sample in family.samples
                ]
                yield family

    registry = CollectorRegistry(auto_describe=False)
    registry.register(WithExemplar())
    body = openmetrics.generate_latest(registry).decode()
    families = {family.name: family for family in openmetrics_parser.text_string_to_metric_families(body)}
    sample = next(s for s in families["race_watch_incidents"].samples if s.labels == LABELS)
    assert sample.exemplar is not None
    assert sample.exemplar.labels == trace


def test_client_that_says_nothing_holds_up_nobody_and_is_no_news(
    endpoint: Endpoint, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus._Handler, "timeout", 0.2)
    address = "127.0.0.1", urlsplit(endpoint.url).port
    with socket.create_connection(address, timeout=10) as silent, socket.create_connection(address, timeout=10) as rude:
        rude.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert scrape(endpoint)[0] == 200
        for client in (silent, rude):
            assert client.recv(100) == b"", "the server has not hung up"
    assert capfd.readouterr().err == ""


def test_registry_of_the_host_is_left_alone(endpoint: Endpoint) -> None:
    scrape(endpoint)
    assert not [family.name for family in REGISTRY.collect() if "race_watch" in family.name]


def test_two_endpoints_of_one_process_do_not_meet(endpoint: Endpoint, totals: Totals) -> None:
    second = serve("127.0.0.1", 0, lambda: totals.snapshot)
    try:
        assert second.url != endpoint.url
        assert scrape(second)[0] == scrape(endpoint)[0] == 200
    finally:
        second.stop()


def test_stop_frees_the_port(totals: Totals) -> None:
    first = serve("127.0.0.1", 0, lambda: totals.snapshot)
    port = urlsplit(first.url).port
    assert port
    first.stop()
    again = serve("127.0.0.1", port, lambda: totals.snapshot)
    assert again.url == first.url
    again.stop()


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        pytest.param("127.0.0.1", None, "Address already in use", id="taken"),
        pytest.param("127.0.0.1", 70_000, "port must be 0-65535", id="no port"),
        pytest.param("::ffff", 0, "", id="no address"),
        pytest.param("..", 0, "", id="no name"),
        pytest.param("192.0.2.1", 0, "Cannot assign requested address", id="not ours"),
    ],
)
def test_address_that_cannot_be_had_is_one_line(totals: Totals, host: str, port: int | None, message: str) -> None:
    threads = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = taken.getsockname()[1] if port is None else port
        with pytest.raises(SettingsError) as raised:
            serve(host, wanted, lambda: totals.snapshot)
    said = str(raised.value)
    assert said.startswith(f"no metrics: cannot listen on {host}:{wanted}: ")
    assert message in said
    assert ("--metrics-port 0" if port is None else "--metrics-host") in said
    assert "\n" not in said
    assert threading.active_count() == threads


def test_ipv6_address_is_shown_as_a_url(totals: Totals) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("no IPv6 loopback here")
    running = serve("::1", 0, lambda: totals.snapshot)
    try:
        assert running.url.startswith("http://[::1]:")
        assert scrape(running)[0] == 200
    finally:
        running.stop()


@pytest.mark.one_python
@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on PATH: `promtool check metrics` was not run")
def test_promtool_has_nothing_to_say(endpoint: Endpoint) -> None:
    body = scrape(endpoint)[2]
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=body, capture_output=True, text=True, timeout=30, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
