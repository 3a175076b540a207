"""The runbook pages and the queries in them."""

from __future__ import annotations

import re

from prometheus_tools import RUNBOOKS

PAGES = {str(path.relative_to(RUNBOOKS).with_suffix("")): path.read_text() for path in sorted(RUNBOOKS.rglob("*.md"))}
ALERTS = {name: page for name, page in PAGES.items() if name.startswith("RaceWatch")}
RACES = {name: page for name, page in PAGES.items() if name.startswith("races/")}


def queries(page: str) -> list[str]:
    """What stands in blocks of PromQL."""
    return [found.strip() for found in re.findall(r"^```promql\n(.*?)^```", page, re.DOTALL | re.MULTILINE)]


def sections(page: str) -> dict[str, str]:
    """Heading -> text below it."""
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    return {heading: text.strip() for heading, text in zip(parts[1::2], parts[2::2], strict=True)}
