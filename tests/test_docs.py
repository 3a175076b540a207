"""Pages that are generated say what they are generated from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from race_watch import metrics
from race_watch.exporters import exchange, http, recent, server, worker_metrics
from race_watch.hooks import default_registry
from race_watch.journal.layout import METRICS_FILE

pytestmark = pytest.mark.one_python

DOCS = Path(__file__).parents[1] / "docs"


def test_metric_reference_is_what_the_catalogue_says() -> None:
    checked = subprocess.run(
        [sys.executable, str(DOCS / "generate.py"), "--check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_metric_reference_has_every_metric_label_and_value() -> None:
    page = (DOCS / "metrics.md").read_text()
    for metric in metrics.CATALOGUE:
        assert f"`{metric.name}{'_total' if metric.kind == 'counter' else ''}`" in page
        words = {*metric.labels, *(value for labels in metric.sets for value in labels)}
        assert [word for word in words if f"`{word}`" not in page and f"| {word} |" not in page] == []


def test_page_that_differs_is_told(tmp_path: Path) -> None:
    (tmp_path / "generate.py").write_text((DOCS / "generate.py").read_text())
    (tmp_path / "metrics.md").write_text("# Metrics\n")
    command = [sys.executable, str(tmp_path / "generate.py")]
    checked = subprocess.run([*command, "--check"], capture_output=True, text=True, timeout=60, check=False)
    assert (checked.returncode, "make docs" in checked.stderr) == (1, True)
    subprocess.run(command, timeout=60, check=True)
    assert (tmp_path / "metrics.md").read_text() == (DOCS / "metrics.md").read_text()


def test_page_on_http_has_the_bounds_that_are_in_force() -> None:
    page = (DOCS / "http.md").read_text()
    for fact in (
        f"{server.CONNECTIONS} connections at a time",
        f"not whole in {server.REQUEST_S:.0f} s",
        f"answer in {exchange.ANSWER_S:.0f} s",
        f"Requests over {exchange.HEAD_BYTES // 1024} KiB",
        f"every {http.RETRY_S:.0f} s",
        f"the last {recent.KEPT} incidents",
        f"1 to {recent.KEPT}; {recent.LIMIT} without",
        f"(`{METRICS_FILE}`) every {worker_metrics.EVERY_S:.0f} s",
        f"are shown for {default_registry.STALE_S:.0f} s",
    ):
        assert fact in " ".join(page.split()), fact
