"""What is generated is what is checked in, and an operator's own links and thresholds get into it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from prometheus_tools import ROOT

from deploy.generate.options import Options

pytestmark = pytest.mark.one_python


def generate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.generate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)


def test_what_is_checked_in_is_what_is_generated() -> None:
    checked = generate("--check")
    assert (checked.returncode, checked.stderr) == (0, "")


def test_every_file_that_differs_is_told(tmp_path: Path) -> None:
    assert generate("--out", tmp_path).returncode == 0
    (tmp_path / "dashboards" / "fleet.json").write_text("{}\n")
    (tmp_path / "deploy" / "prometheus" / "rules.yml").unlink()
    checked = generate("--out", tmp_path, "--check")
    assert checked.returncode == 1
    assert [line.split()[0] for line in checked.stderr.splitlines()] == [
        "dashboards/fleet.json",
        "deploy/prometheus/rules.yml",
    ]


def test_page_of_a_race_that_is_known_no_more_is_told_and_goes(tmp_path: Path) -> None:
    assert generate("--out", tmp_path).returncode == 0
    left = tmp_path / "docs" / "runbooks" / "races" / "known-no-more.md"
    left.write_text("# known-no-more\n")
    checked = generate("--out", tmp_path, "--check")
    assert (checked.returncode, checked.stderr.split()[0]) == (1, "docs/runbooks/races/known-no-more.md")
    assert generate("--out", tmp_path).returncode == 0
    assert not left.exists()
    assert generate("--out", tmp_path, "--check").returncode == 0


def test_links_labels_and_thresholds_are_the_operators(tmp_path: Path) -> None:
    own = {
        "--runbooks": "https://wiki/rw",
        "--grafana": "https://graphs",
        "--cluster": "region",
        "--objective": "0.99",
        "--races-per-session": "0.5",
        "--fd-hours-page": "2",
        "--fd-hours-ticket": "24",
        "--watcher-cores": "0.2",
    }
    made = generate("--out", tmp_path, *(part for option in own.items() for part in option))
    assert (made.returncode, made.stderr) == (0, "")
    rules = (tmp_path / "deploy" / "prometheus" / "rules.yml").read_text()
    board = json.loads((tmp_path / "dashboards" / "fleet.json").read_text())
    assert "example.com" not in rules + json.dumps(board)
    assert "https://wiki/rw/RaceWatchHang.md" in rules
    assert "https://graphs/d/race-watch-race?var-cluster={{ $labels.region | urlquery }}" in rules
    expressions = [rule["expr"] for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]]
    assert not any("cluster" in expr for expr in expressions)
    for part in ("> 14.4 * 0.01", "> 0.5", "< 7200", "< 86400", "> 0.2"):
        assert any(part in expr for expr in expressions), part
    assert 'region=~"$cluster"' in json.dumps(board).replace('\\"', '"')


def test_page_on_monitoring_has_every_option_with_its_default() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    rows = {row[0]: row[1] for row in re.findall(r"^\| `--([\w-]+)` \| `([^`]+)` \|", page, re.MULTILINE)}
    assert rows == {option.name.replace("_", "-"): str(option.default) for option in fields(Options)}


def test_page_on_monitoring_links_to_files_that_exist() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    found = re.findall(r"\]\(([^)]+)\)", page)
    assert found
    assert [link for link in found if not (ROOT / "docs" / link).exists()] == []


def test_defaults_are_placeholders_that_nobody_owns() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "rules.yml").read_text()
    assert "runbook_url: https://example.com/" in rules
    assert "dashboard_url: https://grafana.example.com/" in rules
