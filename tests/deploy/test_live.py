"""Every query that we hand to an operator, asked of a real Prometheus that scrapes a real run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boards import BOARDS, Asked, asked, filled
from books import ALERTS, RACES, queries
from faults import SERIES, samples
from live import Answer, Prometheus, backfilled, prometheus, workers
from names import unknown_in
from prometheus_tools import free_port, needs

pytestmark = [pytest.mark.one_python, pytest.mark.wheels, pytest.mark.timeout(600), needs("prometheus", "promtool")]

RACE = "local-unpublish-keyerror"
# Where nothing to show is what one hopes for. Each must have something to show in a fleet in which everything is wrong.
EMPTY_IS_HEALTHY = {
    "race: Incidents in versions that have it fixed",
    "race_watch: Workers with something unseen",
    "fleet: To the limit",
    "fleet: Left behind by each participant who is gone",
    "fleet: Left behind by each room that is over",
    "fleet: Workers in which something grows",
    "fleet: Workers nearest to their limit of descriptors",
    "worker: To the limit",
}
# The same of the runbooks: page -> which of its queries, in order.
EMPTY_IN_PAGES = {
    "RaceWatchAbsent": {2},
    "RaceWatchDescriptorsRunOut": {1, 4},
    "RaceWatchEventsLost": {1},
    "RaceWatchFfiPanic": {1},
    "RaceWatchFixedRaceIsBack": {1},
    "RaceWatchHang": {1},
    "RaceWatchHooksOff": {1},
    "RaceWatchLeak": {2, 3},
    "RaceWatchProcessesKilled": {1, 3},
    "RaceWatchProcessesNotAttached": {1},
    "RaceWatchUnclassifiedRace": {1, 3},
    "RaceWatchWatcherDown": {1},
    "RaceWatchWorkersGone": {1},
}
# What happens in the run, and so has something to show on its page.
HAPPENS = {"races/local-unpublish-keyerror", "races/audiostream-task-before-handle", "races/disconnect-stale-handle-panic"}


class Run:
    """A run, and where its files are."""

    def __init__(self, server: Prometheus, home: Path) -> None:
        self.server = server
        self.home = home

    def of_panel(self, where: str) -> list[dict[str, Any]]:
        name, _, _ = where.partition(":")
        query = next(query for query in asked(name) if query.where == where)
        return evaluated(self.server, query).result


def evaluated(server: Prometheus, query: Asked) -> Answer:
    expr = filled(query.expr, __rate_interval="10s", __range="10m", __interval="1s", signature=RACE)
    return server.instant(expr) if query.instant else server.since_start(expr)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    home, port = tmp_path_factory.mktemp("live"), free_port()
    # An endpoint that nobody listens on: incidents get traces of their own, and exports that fail are to be seen.
    with prometheus(home, port) as server, workers(home, port, RACE_WATCH_OTLP_ENDPOINT="http://127.0.0.1:9"):
        server.until('sum(race_watch_process_ended_total{reason="native_abort"}) > 0')
        # What happens last, as it is recorded.
        server.until('sum_over_time(job_signature:race_watch_incidents:rate5m{category="callback_error"}[1m]) > 0')
        for last in ("job_signature:race_watch_incidents:ratio1h", "job_signature:race_watch_affected_workers:count"):
            server.until(f"count_over_time({last}[1m]) > 3")
        yield Run(server, home)


def test_every_query_of_the_boards_has_an_answer(run: Run) -> None:
    answers = {query: evaluated(run.server, query) for name in BOARDS for query in asked(name)}
    assert {query: a for query, a in answers.items() if a.status != "success" or a.complaints} == {}
    assert {query.where for query, answer in answers.items() if not answer.result} == EMPTY_IS_HEALTHY


def test_every_query_of_the_runbooks_has_an_answer(run: Run) -> None:
    empty: dict[str, set[int]] = {}
    for name, page in (ALERTS | RACES).items():
        for place, query in enumerate(queries(page), 1):
            answer = run.server.instant(query)
            assert (answer.status, answer.complaints) == ("success", ()), (name, query)
            if not answer.result:
                empty.setdefault(name, set()).add(place)
    assert {name: places for name, places in empty.items() if name in ALERTS} == EMPTY_IN_PAGES
    # Its last query asks whether the race has come back, which none has.
    assert {name: empty[name] for name in HAPPENS} == {name: {5} for name in HAPPENS}


def test_rules_are_in_good_health_and_alerts_for_what_happened_fire(run: Run) -> None:
    groups = run.server.ask("rules")["data"]["groups"]
    ill = [rule for group in groups for rule in group["rules"] if rule["health"] != "ok"]
    assert ill == []
    firing = {alert["labels"]["alertname"] for alert in run.server.ask("alerts")["data"]["alerts"]}
    assert {"RaceWatchNativeAbort", "RaceWatchLeak", "RaceWatchKnownRaceInTheField"} <= firing
    assert "RaceWatchAbsent" not in firing


def test_boards_show_what_happened(run: Run) -> None:
    happened = run.of_panel("fleet: Races of this time range")
    known = {(row["metric"]["signature"], row["metric"]["category"]): row["metric"] for row in happened}
    assert set(known) >= {(RACE, "registry_race"), ("disconnect-stale-handle-panic", "native_abort")}
    assert known[RACE, "registry_race"]["fixed_in"] == "1.1.11"
    assert known[RACE, "registry_race"]["upstream_url"] == "https://github.com/livekit/python-sdks/issues/681"
    assert known["unclassified", "callback_error"]["title"] == "no known race explains it"
    affected = {
        (row["metric"]["sdk_version"], row["metric"]["signature"])
        for row in run.of_panel("fleet: Known races that these versions have")
    }
    assert ("1.1.8", RACE) in affected
    assert ("1.1.8", "connect-cancel-ghost-room") in affected
    by_version = run.of_panel("race: Incidents per hour, by version of livekit")
    assert "1.1.8" in {series["metric"].get("livekit") for series in by_version}
    (workers_with_most,) = run.of_panel("fleet: Workers with the most incidents")
    assert workers_with_most["metric"]["pod"] == "worker-0"


def test_exemplar_of_a_race_leads_to_the_trace_that_its_incident_names(run: Run) -> None:
    expr = filled(next(q.expr for q in asked("race") if q.exemplars), __rate_interval="10s", signature=RACE)
    shown = {exemplar["labels"]["trace_id"] for series in run.server.exemplars(expr) for exemplar in series["exemplars"]}
    told = [json.loads(line) for line in (run.home / "incidents.jsonl").read_text().splitlines()]
    assert shown == {incident["trace_id"] for incident in told if incident["signature"] == RACE}
    assert len(shown) == 1


def test_what_is_empty_in_health_is_not_when_everything_is_wrong(tmp_path: Path) -> None:
    assert [name for series in SERIES for name in unknown_in(series)] == []
    now_s = time.time() - 60
    with backfilled(tmp_path, samples(now_s)) as server:
        asked_for = {query.where: filled(query.expr, signature=RACE) for name in BOARDS for query in asked(name)}
        wanted = {where: asked_for[where] for where in EMPTY_IS_HEALTHY}
        wanted |= {
            f"{name}, query {place}": queries(ALERTS[name])[place - 1]
            for name, places in EMPTY_IN_PAGES.items()
            for place in places
        }
        wanted["the last query of a race"] = queries(RACES[f"races/{RACE}"])[-1]
        assert [where for where, expr in wanted.items() if not server.instant(expr, now_s).result] == []
