"""What the pages about deployment say, held against what they speak of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from deploy_tools import DEPLOY, ROOT

pytestmark = pytest.mark.one_python

DOCS = ROOT / "docs"
PAGES = ["install", "security", "scaling", "troubleshooting"]
SAID = [
    "not attached: ",
    "RACE_WATCH is off in this environment",
    "makes Python ignore PYTHONPATH or sitecustomize",
    "shadowed by ",
    "is older than 3.10",
    "the bootstrap did not run; ",
    "belongs to user ",
    "is open to others; name a directory inside it, ",
    "is watched by another race-watch",
    "was removed by its watcher",
    "is not a setting of race_watch",
    "no journal in ",
    "the oldest journals of ended processes were removed to make room ",
    "is not installed here; ",
    "cannot be left in its run directory: ",
    "panic texts were not looked for: stderr was ",
    "stderr, as it is here: ",
]
PROCESS_SERIES = 6  # `process_*` of the process that serves
LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def text(page: str) -> str:
    return (DOCS / f"{page}.md").read_text()


def anchors(file: Path) -> set[str]:
    return {"#" + re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(file.read_text())}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    links = LINK.findall(text(page))
    assert links
    for path, anchor in links:
        if "://" in path:
            continue
        target = DOCS / path if path else DOCS / f"{page}.md"
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}{anchor}"


def test_what_is_sent_on_is_what_the_rules_record_of_fleets() -> None:
    (pattern,) = re.findall(r'regex: "(.*)"', text("scaling"))
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}
    of_workers = {name for name in recorded if name.startswith("instance:")}
    assert {name for name in recorded if re.fullmatch(pattern, name)} == recorded - of_workers
    assert not re.fullmatch(pattern, "race_watch_incidents_total")


def test_the_arithmetic_starts_from_the_bound_that_the_metrics_page_states() -> None:
    (ours,) = re.findall(r"at most (\d+) series", (DOCS / "metrics.md").read_text())
    bound = int(ours) + PROCESS_SERIES
    assert f"at most {bound} series" in text("scaling")
    assert f"at most {bound} series" in text("install")
    assert f"10,000 x {bound} = {10_000 * bound / 1e6} million" in text("scaling")
    values = yaml.safe_load((DEPLOY / "helm" / "race-watch" / "values.yaml").read_text())
    assert values["podMonitor"]["sampleLimit"] > 10 * bound


def test_every_message_that_troubleshooting_explains_is_one_of_race_watch() -> None:
    source = "".join(path.read_text() for path in (ROOT / "race_watch").rglob("*.py"))
    for said in SAID:
        assert said in source, said
        assert said.strip(" :;,") in text("troubleshooting"), said
