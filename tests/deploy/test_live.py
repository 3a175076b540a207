"""Every query that we hand to an operator, asked of a real Prometheus that scrapes a real run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boards import BOARDS, Asked, asked, filled
from books import PAGES, queries
from live import CRASHES, RACES, Prometheus, prometheus, workers
from tools import free_port, needs

pytestmark = [pytest.mark.one_python, pytest.mark.wheels, pytest.mark.timeout(600)]

# Where nothing to show is what one hopes for, and a run as this one has nothing to show.
EMPTY_IS_HEALTHY = {
    # No race that is fixed happens: the run has versions that do have them.
    "race: Incidents in versions that have it fixed",
    # Nothing is unseen.
    "race_watch: Workers with something unseen",
    # Nothing grows within seconds.
    "fleet: To the limit",
    "fleet: Left behind by each participant who is gone",
    "fleet: Left behind by each room that is over",
    "fleet: Workers in which something grows",
    "fleet: Workers nearest to their limit of descriptors",
    "worker: To the limit",
}
# The same of the runbooks: queries that ask for what is wrong now.
HEALTHY_PAGES = {
    "RaceWatchAbsent": 1,
    "RaceWatchDescriptorsRunOut": 2,
    "RaceWatchEventsLost": 1,
}


def of_boards() -> Iterator[Asked]:
    for name in BOARDS:
        yield from asked(name)


def evaluated(server: Prometheus, query: Asked) -> Any:
    expr = filled(query.expr, __rate_interval="10s", __range="10m", __interval="1s", signature="local-unpublish-keyerror")
    return server.instant(expr) if query.instant else server.over_the_run(expr)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    home, port = tmp_path_factory.mktemp("live"), free_port()
    # An endpoint that nobody listens on: incidents get traces of their own, and exports that fail are to be seen.
    with prometheus(home, port) as server, workers(home, port, RACE_WATCH_OTLP_ENDPOINT="http://127.0.0.1:9"):
        server.until('sum(race_watch_process_ended_total{reason="native_abort"}) > 0')
        server.until("sum(race_watch_incidents_total) >= 6")
        server.until("count_over_time(job_signature:race_watch_incidents:ratio1h[1m]) > 3")
        server.until("count_over_time(job_signature:race_watch_affected_workers:count[1m]) > 3")
        yield server


@needs("prometheus")
def test_every_query_of_every_board_and_runbook_has_an_answer(server: Prometheus) -> None:
    problems, empty = [], set()
    for query in of_boards():
        answer = evaluated(server, query)
        if answer.status != "success" or answer.complaints:
            problems.append((query.where, answer))
        elif not answer.result:
            empty.add(query.where)
    assert problems == []
    print(empty ^ EMPTY_IS_HEALTHY)
    for name, page in PAGES.items():
        for query in queries(page):
            answer = server.instant(query)
            if answer.status != "success" or answer.complaints: print("PROBLEM", name, query, answer)
            if not answer.result: print("EMPTY", name, query)
    assert 0
