"""The whole chain once: jobs that race, Prometheus, its rules, Alertmanager, a webhook; and a collector beside them.

A livekit-agents worker of a version with known races serves callers on a real livekit-server. No rule is changed, so what is
told here must need no `for`: `RaceWatchNativeAbort`, and of those with a signature `RaceWatchLeak`, as this version has a known
race that leaks. What they read is recorded each minute, which is what this test waits for.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from chain import Prometheus, Told, alertmanager, collector, get, prometheus, until, webhook
from prometheus_client.parser import text_string_to_metric_families
from workers import AgentsWorker

from race_watch.lab.server import HOW_TO_GET, LiveKitServer, find_server
from race_watch.lab.wheels import environment

sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))
sys.path.insert(0, str(Path(__file__).parents[1] / "otlp"))

from boards import BOARDS
from books import PAGES, queries, sections
from live import TARGET
from otlp_receiver import Inbox, http_receiver, plain
from prometheus_tools import free_port, needs

if find_server() is None:
    pytest.skip(f"{HOW_TO_GET}; the whole chain is untested", allow_module_level=True)

pytestmark = [
    pytest.mark.real,
    pytest.mark.one_python,
    pytest.mark.timeout(600),
    needs("prometheus", "prometheus-alertmanager", "otelcol"),
]

# livekit 1.1.12 comes with it; an openai that brings httpx, which it imports, no longer does.
AGENTS = ("livekit-agents==1.6.4", "openai==2.54.0")
JOBS = (("clean", "ghost_mute", "preconnect", "abort", "dead_track"), ("dead_track",))
LEAK, ABORT = ("orphan_task", "audiostream-task-before-handle"), ("native_abort", "unclassified")
HAPPENED = Counter(
    {
        ("registry_race", "track-muted-untracked"): 1,
        ("use_before_connect", "roomio-preconnect-text-output"): 1,
        ABORT: 1,
        LEAK: 2,
    }
)
# (alert, its signature) -> the incidents that it tells of, and what it says of them.
TOLD = {
    ("RaceWatchNativeAbort", ""): (ABORT, "processes of race-watch in voice were ended by a native abort"),
    ("RaceWatchLeak", LEAK[1]): (LEAK, f"incidents of race-watch in voice in the last 5 minutes: {', '.join(LEAK)}."),
}
# A notice of its own, were it not for the one of the abort.
KEPT_QUIET = ("RaceWatchUnclassifiedRace", "unclassified")
PERSONAL = {"lk.pii.room_name", "lk.pii.participant_identity"}
# As the chart sets it.
RESOURCE = "k8s.cluster.name={cluster},k8s.namespace.name={namespace},k8s.pod.name={pod}".format(**TARGET)
VARIABLES = (f"OTEL_RESOURCE_ATTRIBUTES={RESOURCE}", "RACE_WATCH_OTLP_INTERVAL_S=1")
every_alert = pytest.mark.parametrize("alert", TOLD, ids=lambda alert: alert[0])


@dataclass(frozen=True)
class Shown:
    """Our metrics on a page: names, incidents by category and signature where there are any, and the labels of targets."""

    names: set[str]
    incidents: dict[tuple[str, str], float]
    targets: set[tuple[str, ...]]


@dataclass(frozen=True)
class Run:
    """What every end of the chain had when the worker was told to end, and the incidents of the worker's own file.

    Attributes:
        answered: Alert -> whether the first query of its page has an answer.
        came, left: What the collector was sent, metrics left out, and what it has handed on.
    """

    written: list[dict[str, Any]]
    told: list[Told]
    quiet: set[tuple[str, str]]
    pending: set[tuple[str, str]]
    rules: list[dict[str, Any]]
    answered: dict[str, bool]
    own: Shown
    scraped: dict[tuple[str, str], float]
    collected: Shown
    came: Inbox
    left: Inbox


def shown(url: str) -> Shown:
    samples = [sample for family in text_string_to_metric_families(get(url)) for sample in family.samples]
    ours = [sample for sample in samples if sample.name.startswith("race_watch_")]
    incidents = [sample for sample in ours if sample.name == "race_watch_incidents_total" and sample.value]
    return Shown(
        {sample.name for sample in ours},
        {(sample.labels["category"], sample.labels["signature"]): sample.value for sample in incidents},
        {tuple(sample.labels.get(label, "") for label in TARGET) for sample in ours},
    )


def named(alert: dict[str, Any]) -> tuple[str, str]:
    return alert["labels"]["alertname"], alert["labels"].get("signature", "")


def counts(told: list[Told]) -> dict[tuple[str, str], str]:
    """(alert, signature) -> the number that its text begins with, as it was told last."""
    return {named(one.alert): one.alert["annotations"]["description"].partition(" ")[0] for one in told}


@pytest.fixture(scope="module")
def ran(livekit_server: LiveKitServer, tmp_path_factory: pytest.TempPathFactory) -> Run:
    home, port = tmp_path_factory.mktemp("chain"), free_port()
    incidents, own_url = home / "incidents.jsonl", f"http://127.0.0.1:{port}/metrics"
    with ExitStack() as stack:
        (came_url, came), (left_url, left) = (stack.enter_context(http_receiver()) for _ in range(2))
        hook = stack.enter_context(webhook())
        alerts = stack.enter_context(alertmanager(home, hook.url))
        server = stack.enter_context(prometheus(home, port, alerts))
        gateway = stack.enter_context(collector(home, came_url, left_url))
        outputs = ("--metrics-port", str(port), "--otlp-endpoint", gateway.url, "--incidents", str(incidents))
        watch = ("env", *VARIABLES, sys.executable, "-m", "race_watch", "run", *outputs, "--")
        with AgentsWorker(livekit_server, environment(AGENTS), watch) as worker:
            # What has not been seen at zero has no rate.
            server.until("race_watch_incidents_total")
            # At once, as a minute that ends amid them is followed by another.
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda behaviours: worker.do(*behaviours), JOBS))
            wanted = {alert: str(HAPPENED[what]) for alert, (what, _) in TOLD.items()}
            until(lambda: wanted.items() <= counts(hook.told).items(), lambda: (wanted, counts(hook.told)))

            def everywhere() -> list[dict[tuple[str, str], float]]:
                return [shown(own_url).incidents, scraped(server), shown(gateway.metrics_url).incidents]

            until(lambda: all(sum(found.values()) >= HAPPENED.total() for found in everywhere()), everywhere)
            rules = until(lambda: evaluated(server), lambda: "not all rules are evaluated")
            answered = {alert: bool(server.instant(queries(PAGES[alert])[0]).result) for alert, _ in TOLD}
            pending = {named(alert) for alert in server.ask("alerts")["data"]["alerts"] if alert["state"] == "pending"}
            quiet = {named(alert) for alert in json.loads(get(f"{alerts}/api/v2/alerts")) if alert["status"]["inhibitedBy"]}
            own, collected, counted = shown(own_url), shown(gateway.metrics_url), scraped(server)
            assert worker.drain() == 0
    written = list({one["id"]: one for one in map(json.loads, incidents.read_text().splitlines())}.values())
    return Run(written, hook.told, quiet, pending, rules, answered, own, counted, collected, came, left)


def scraped(server: Prometheus) -> dict[tuple[str, str], float]:
    found = server.instant("sum by (category, signature) (race_watch_incidents_total) > 0").result
    return {(one["metric"]["category"], one["metric"]["signature"]): float(one["value"][1]) for one in found}


def evaluated(server: Prometheus) -> list[dict[str, Any]]:
    """All rules, or none until each has been evaluated."""
    rules = [rule for group in server.ask("rules")["data"]["groups"] for rule in group["rules"]]
    return [] if any(rule["health"] == "unknown" for rule in rules) else rules


def test_worker_writes_down_the_races_of_its_jobs(ran: Run) -> None:
    assert Counter((one["category"], one["signature"]) for one in ran.written) == HAPPENED


def test_watcher_prometheus_and_collector_count_what_the_worker_wrote_down(ran: Run) -> None:
    assert ran.own.incidents == ran.scraped == ran.collected.incidents == HAPPENED


def test_webhook_is_told_of_the_leak_and_of_the_abort_and_of_each_once_only(ran: Run) -> None:
    assert {named(one.alert) for one in ran.told} == TOLD.keys()
    assert ran.quiet == {KEPT_QUIET}


@every_alert
def test_alert_comes_with_its_labels_in_its_group(ran: Run, alert: tuple[str, str]) -> None:
    name, signature = alert
    (category, _), _ = TOLD[alert]
    place = {label: TARGET[label] for label in ("cluster", "namespace")} | {"job": "race-watch"}
    race = {"category": category, "verdict": "sdk", "signature": signature} if signature else {"reason": category}
    by = {"cluster": TARGET["cluster"], "signature": signature} if signature else {"alertname": name, **place}
    for one in ran.told:
        if named(one.alert) == alert:
            assert one.alert["labels"] == {"alertname": name, "severity": "warning", "about": "workers", **place, **race}
            assert (one.alert["status"], one.receiver, one.group) == ("firing", "tickets", by)


@every_alert
def test_alert_says_how_often_and_leads_to_a_page_with_answers_and_to_a_board(ran: Run, alert: tuple[str, str]) -> None:
    what, text = TOLD[alert]
    told = [one.alert for one in ran.told if named(one.alert) == alert][-1]
    said = told["annotations"]
    assert set(said) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert said["description"].startswith(f"{sum(what == (one['category'], one['signature']) for one in ran.written)} {text}")
    page = urlsplit(said["runbook_url"])
    assert page.path.endswith(f"/docs/runbooks/{alert[0]}.md")
    assert sections(PAGES[alert[0]])["Mitigation"]
    assert ran.answered[alert[0]]
    board = urlsplit(said["dashboard_url"])
    (variables,) = [one["templating"]["list"] for one in BOARDS.values() if board.path == f"/d/{one['uid']}"]
    filled = {name.removeprefix("var-"): value for name, value in parse_qsl(board.query)}
    assert filled.keys() <= {variable["name"] for variable in variables}
    assert filled.items() <= told["labels"].items()


def test_version_with_the_race_is_noticed_and_no_rule_is_in_bad_health(ran: Run) -> None:
    assert ("RaceWatchKnownRaceInTheField", LEAK[1]) in ran.pending
    assert [rule for rule in ran.rules if rule["health"] != "ok"] == []


def test_collector_shows_every_metric_by_its_name_with_the_labels_of_a_target(ran: Run) -> None:
    assert ran.collected.names == ran.own.names
    assert ran.collected.targets == {tuple(TARGET.values())}


def test_collector_hands_on_each_incident_as_span_and_log_record(ran: Run) -> None:
    written = {(one["trace_id"], one["span_id"], one["category"], one["signature"]) for one in ran.written}

    def arrived(items: list[Any]) -> list[tuple[str, ...]]:
        found = [(one, plain(one.attributes)) for one in items]
        return [
            (one.trace_id.hex(), one.span_id.hex(), said["race_watch.category"], said["race_watch.signature"])
            for one, said in found
            if "race_watch.category" in said
        ]

    for items in (arrived(ran.left.spans()), arrived(ran.left.logs())):
        assert len(items) == len(written)
        assert set(items) == written


def test_whatever_tells_people_apart_ends_at_the_collector_and_nothing_else_does(ran: Run) -> None:
    came = {one.span_id: plain(one.attributes) for one in ran.came.spans()}
    left = {one.span_id: plain(one.attributes) for one in ran.left.spans()}
    assert left == {key: {name: value for name, value in said.items() if name not in PERSONAL} for key, said in came.items()}
    personal = {(name, said[name]) for said in came.values() for name in PERSONAL & said.keys()}
    assert {name for name, _ in personal} == PERSONAL
    assert {one["room"]["name"] for one in ran.written} <= {value for _, value in personal}
    everything = ran.left.everything()
    assert [value for _, value in personal if value.encode() in everything] == []
    assert {received.signal for received in ran.left.requests} == {"traces", "metrics", "logs"}
