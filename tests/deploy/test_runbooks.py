"""The runbooks: one for each alert and each known race, in the same four sections, with queries that name what exists."""

from __future__ import annotations

import re

import pytest
from books import ALERTS, PAGES, RACES, queries, sections
from names import unknown_in
from prometheus_tools import RUNBOOKS
from rule_files import rules

from race_watch.findings import CATEGORIES
from race_watch.settings import PREFIX, Settings
from race_watch.signatures import SIGNATURES
from race_watch.signatures.record import Signature

pytestmark = pytest.mark.one_python

every_page = pytest.mark.parametrize("name", [*ALERTS, *RACES])


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert set(ALERTS) == {rule["alert"] for rule in rules("alert")}


def test_every_known_race_has_a_page_and_every_page_a_race() -> None:
    assert set(RACES) == {f"races/{signature.id}" for signature in SIGNATURES}


@every_page
def test_page_says_what_it_means_costs_and_takes(name: str) -> None:
    page = PAGES[name]
    assert page.startswith(f"# {name.removeprefix('races/')}\n")
    found = sections(page)
    assert list(found) == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
    assert all(found.values())
    assert queries(found["Diagnosis"])
    assert queries(page) == queries(found["Diagnosis"])


@every_page
def test_queries_of_the_page_name_what_exists(name: str) -> None:
    for query in queries(PAGES[name]):
        assert unknown_in(query) == [], query


@pytest.mark.parametrize("name", PAGES)
def test_links_of_the_page_lead_somewhere(name: str) -> None:
    home = (RUNBOOKS / f"{name}.md").parent
    found = re.findall(r"\]\(([^)]+)\)", PAGES[name])
    missing = [link for link in found if not link.startswith("https://") and not (home / link).exists()]
    assert missing == []


def test_list_of_pages_has_them_all() -> None:
    listed = set(re.findall(r"\]\(([\w/-]+)\.md\)", PAGES["README"]))
    assert listed == set(ALERTS) | set(RACES)


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda signature: signature.id)
def test_page_of_a_race_has_what_the_catalogue_knows(signature: Signature) -> None:
    page = PAGES[f"races/{signature.id}"]
    assert signature.title in page
    assert f"[{signature.upstream}](https://github.com/" in page or not signature.upstream
    for form in signature.forms:
        for text in (form.category, form.affected, form.fixed_in, form.advice or signature.advice):
            assert not text or text in page


@pytest.mark.parametrize("name", ALERTS)
def test_settings_that_a_page_names_exist(name: str) -> None:
    known = {PREFIX + field.upper() for field in Settings.__dataclass_fields__} | {"RACE_WATCH"}
    named = set(re.findall(r"\bRACE_WATCH(?:_[A-Z]+)*\b", PAGES[name]))
    assert named <= known


def test_every_category_has_its_price_told() -> None:
    from deploy.generate.runbooks import IMPACT

    assert tuple(IMPACT) == tuple(sorted(IMPACT, key=CATEGORIES.index))
    assert set(IMPACT) == set(CATEGORIES)
