"""A real Prometheus that scrapes the worker, and is asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import yaml

# Modules of the tests of deploy/, which find each other by their bare names.
sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))

from live import Prometheus
from prometheus_tools import free_port, tool

SCRAPE_INTERVAL_S = 1
JOB = "race-watch"
# Prometheus itself, for comparison: what else the machine does, it does to both.
CONTROL = "prometheus"
_TARGET = f'{{job="{JOB}"}}'
_RANGE = "1d"


class Scraped:
    """What Prometheus has of the worker. Its history is all that it has, and so that of one run."""

    def __init__(self, server: Prometheus) -> None:
        self._server = server

    def latest(self, metric: str, labels: Sequence[str] = ()) -> dict[tuple[str, ...], float]:
        """Label values -> the last value, where that is not 0; other labels are summed over."""
        found = self._server.instant(f"sum by ({', '.join(labels)}) ({metric}{_TARGET}) != 0").result
        return {tuple(row["metric"][label] for label in labels): float(row["value"][1]) for row in found}

    def samples(self, metric: str, job: str = JOB) -> list[float]:
        """All that it has of a metric with one series, the oldest first."""
        (series,) = self._server.instant(f'{metric}{{job="{job}"}}[{_RANGE}]').result
        return [float(value) for _, value in series["values"]]

    def falls(self) -> int:
        """How often a counter of race_watch's has fallen."""
        counters = self._server.instant(f'{{__name__=~"race_watch_.+_total",job="{JOB}"}}[{_RANGE}]').result
        values = ([float(value) for _, value in series["values"]] for series in counters)
        return sum(later < earlier for one in values for earlier, later in pairwise(one))


@contextmanager
def scraping(home: Path, target: int) -> Iterator[Scraped]:
    """Prometheus that scrapes a port of this host, and has done so."""
    port, interval = free_port(), f"{SCRAPE_INTERVAL_S}s"
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{scraped}"]}]}
            for job, scraped in ((JOB, target), (CONTROL, port))
        ],
    }
    (home / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        str(tool("prometheus")),
        f"--config.file={home}/prometheus.yml",
        f"--storage.tsdb.path={home}/prometheus",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (home / "prometheus.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            server = Prometheus(f"http://127.0.0.1:{port}")
            server.ready()
            server.until(f"race_watch_processes{_TARGET}")
            yield Scraped(server)
        finally:
            process.terminate()
