"""The page in a real browser: Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from facts import process, record
from serving import Serving, incident, serving

from race_watch import events
from race_watch.exporters import status as status_module
from race_watch.fleet import Fleet

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REFRESH_MS = 5000
HOSTILE = "<img src=x onerror=document.title='hacked'><script>document.title='hacked'</script>&amp;"

pytestmark = [
    pytest.mark.one_python,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    # The browser's first start on a busy machine.
    pytest.mark.timeout(300),
]


@dataclass
class Opened:
    """A page and what the browser made of it."""

    page: Page
    served: Serving
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def later(self) -> None:
        """Lets the page's clock go on to its next refresh, and waits for the answers."""
        with self.page.expect_response("**/state"):
            self.page.clock.run_for(REFRESH_MS + 10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install 'race-watch[browser]'")
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu"])
        yield made
        made.close()


@pytest.fixture
def served() -> Iterator[Serving]:
    with serving() as made:
        yield made


def looked(served: Serving, fleet: Fleet) -> None:
    """As the watcher's thread does after a poll."""
    served.status._view = status_module.View()
    served.status.look(fleet, served.totals)


def at_work() -> Fleet:
    """A worker in a room, one of whose hooks is off."""
    fleet = Fleet()
    for event in (
        events.HookInstalled("room_calls"),
        events.HookStruck("room_events", "AttributeError", 1),
        events.RoomConnected(1, "lobby", "RM_1", "id:me", 3, ()),
    ):
        fleet.observe(record(event))
    return fleet


@pytest.fixture
def opened(browser: Browser, served: Serving) -> Iterator[Opened]:
    """The page of a watcher that has seen nothing yet, on a clock that stands."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, locale="en-GB", timezone_id="UTC")
    page = context.new_page()
    made = Opened(page, served)
    page.on("console", lambda message: made.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: made.complaints.append(str(error)))
    page.on("dialog", lambda dialog: made.complaints.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: made.asked.append(request.url))
    page.clock.install()
    yield made
    context.close()


def show(opened: Opened) -> Page:
    host, port = opened.served.address
    with opened.page.expect_response("**/state"):
        opened.page.goto(f"http://{host}:{port}/")
    opened.page.wait_for_function("document.getElementById('status').textContent !== 'loading'")
    return opened.page


def test_without_incidents_it_says_so_and_how_many_processes_are_watched(opened: Opened) -> None:
    opened.served.totals.attached = 3
    looked(opened.served, Fleet())
    page = show(opened)
    assert page.inner_text("#incidents") == "no incidents so far; 3 processes watched"
    assert (page.inner_text("#status"), page.inner_text("#rooms")) == ("ok", "none is connected")
    assert opened.complaints == []


def test_before_the_watcher_has_looked_it_is_empty_and_whole(opened: Opened) -> None:
    page = show(opened)
    assert "0 processes watched" in page.inner_text("#incidents")
    assert "race-watch doctor" in page.inner_text("#incidents")
    assert page.inner_text("#processes") == "none is running"
    assert opened.complaints == []


def test_incident_shows_fault_place_advice_and_a_link_upstream(opened: Opened) -> None:
    opened.served.recent.add(incident("old", title="an older one", time_unix_ns=1_000_000_000))
    opened.served.recent.add(incident("new", count=4))
    page = show(opened)
    articles = page.locator("article")
    assert articles.count() == 2
    text = articles.nth(0).inner_text()
    for part in (
        "LiveKit's fault",
        "registry_race",
        "4 times",
        "local-unpublish-keyerror: KeyError on local_track_unpublished",
        "room lobby",
        "participant id:0a1b2c",
        "track TR_1",
        "livekit 1.1.8 (fixed in 1.1.11)",
        "Upgrade livekit to 1.1.11 or newer.",
    ):
        assert part in text
    assert "an older one" in articles.nth(1).inner_text()
    link = articles.nth(0).locator("a")
    assert (link.inner_text(), link.get_attribute("href")) == (
        "livekit/python-sdks#681",
        "https://github.com/livekit/python-sdks/issues/681",
    )
    assert link.get_attribute("rel") == "noopener noreferrer"
    articles.nth(0).locator("summary").click()
    assert "KeyError: TR_1" in articles.nth(0).locator("pre").inner_text()
    assert page.inner_text("#incidents-title") == "Incidents (2)"
    assert opened.complaints == []


def test_rooms_processes_hooks_and_growth_are_shown(opened: Opened) -> None:
    fleet = at_work()
    for descriptors in (10.0, 30.0, 20.0):
        snapshot = {**opened.served.totals.snapshot, "race_watch_open_fds": {(): descriptors}}
        opened.served.totals.snapshot = snapshot
        opened.served.status._growth._next_s = 0
        looked(opened.served, fleet)
    page = show(opened)
    assert page.inner_text("#rooms").split() == ["room", "remote", "participants", "pid", "lobby", "3", "100"]
    processes = page.inner_text("#processes")
    for part in ("Python 3.11.7", "livekit 1.1.8", "1 in", "room_events (AttributeError)", "log_records"):
        assert part in processes
    assert page.inner_text("#status") == "degraded"
    assert page.inner_text("#trouble") == "hook room_events is off (AttributeError) in 1 process"
    tile = page.locator("#growth .card", has_text="open descriptors")
    assert "20" in tile.locator(".number").inner_text()
    assert "10 to 30" in tile.inner_text()
    points = [point.split(",") for point in (tile.locator("polyline").get_attribute("points") or "").split()]
    assert [y for _, y in points] == ["28.00", "2.00", "15.00"]
    assert opened.complaints == []


def test_words_of_others_are_text_and_no_markup(opened: Opened) -> None:
    opened.served.recent.add(
        incident(
            title=HOSTILE,
            signature=HOSTILE,
            category=HOSTILE,
            verdict=HOSTILE,
            advice=HOSTILE,
            upstream="javascript:alert(1)",
            room={"name": HOSTILE, "sid": None},
            participant={"identity": HOSTILE, "sid": None},
            task={"name": HOSTILE, "coro": None, "created_at": None},
            exception={"type": HOSTILE, "message": HOSTILE, "frames": [HOSTILE]},
            sdk={HOSTILE: HOSTILE},
            fixed_in=HOSTILE,
            evidence={HOSTILE: HOSTILE},
        )
    )
    fleet = Fleet()
    fleet.observe(record(events.RoomConnected(1, HOSTILE, "", "id:me", 0, ()), of=process(role=HOSTILE)))
    fleet.observe(record(events.HookStruck(HOSTILE, HOSTILE, 1), of=process(role=HOSTILE)))
    looked(opened.served, fleet)
    page = show(opened)
    for place in ("#incidents", "#rooms", "#processes", "#trouble"):
        assert HOSTILE in page.inner_text(place)
        assert page.locator(f"{place} img, {place} script").count() == 0
    assert page.locator("#incidents a").count() == 0, "no link that is not to an issue"
    assert page.title() == "race_watch"
    assert opened.complaints == []


def test_browser_runs_nothing_that_the_page_did_not_come_with(opened: Opened) -> None:
    page = show(opened)
    page.evaluate("const made = document.createElement('script'); made.text = 'document.title = 1'; document.body.append(made)")
    assert page.title() == "race_watch"
    assert any("Content Security Policy" in complaint for complaint in opened.complaints)


def test_nobody_else_is_asked_for_anything(opened: Opened) -> None:
    opened.served.recent.add(incident())
    show(opened)
    opened.later()
    _, port = opened.served.address
    assert {urlsplit(url).netloc for url in opened.asked if not url.startswith("data:")} == {f"127.0.0.1:{port}"}


def test_new_incident_appears_by_itself_and_what_is_open_stays_open(opened: Opened) -> None:
    opened.served.recent.add(incident("first"))
    page = show(opened)
    page.locator("summary").click()
    opened.served.recent.add(incident("second", time_unix_ns=2_000_000_000_000))
    opened.later()
    page.wait_for_function("document.querySelectorAll('article').length === 2")
    assert [page.locator("details").nth(index).get_attribute("open") for index in (0, 1)] == [None, ""]


def test_watcher_that_has_gone_is_told_and_what_it_said_stays(opened: Opened) -> None:
    opened.served.recent.add(incident())
    page = show(opened)
    opened.served.endpoint.stop()
    page.clock.run_for(REFRESH_MS + 10)
    page.wait_for_function("document.getElementById('status').textContent === 'unreachable'")
    assert "no answer" in page.inner_text("#trouble")
    assert page.locator("article").count() == 1


def test_watcher_that_gave_up_is_told(opened: Opened) -> None:
    opened.served.status.gave_up = True
    page = show(opened)
    assert page.inner_text("#status") == "failed"
    assert "gave up" in page.inner_text("#trouble")


# WCAG's contrast of every text with what it stands on; 4.5 is its line for small text.
_CONTRASTS = """() => {
  const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = (rgb) => 0.2126 * channel(rgb[0]) + 0.7152 * channel(rgb[1]) + 0.0722 * channel(rgb[2]);
  const numbers = (text) => text.match(/[0-9.]+/g).map(Number);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const rgb = numbers(getComputedStyle(node).backgroundColor);
      if (rgb.length === 3) return rgb;
    }
    return [255, 255, 255];
  };
  const has_text = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  return [...document.querySelectorAll("main *")].filter(has_text).map((node) => {
    const both = [luminance(numbers(getComputedStyle(node).color)), luminance(ground(node))];
    const [low, high] = both.sort((a, b) => a - b);
    return [node.outerHTML.slice(0, 80), (high + 0.05) / (low + 0.05)];
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read_in_light_and_in_dark(opened: Opened, scheme: str) -> None:
    for verdict in ("sdk", "app", "native", "benign", "unknown"):
        opened.served.recent.add(incident(verdict, verdict=verdict, count=2))
    looked(opened.served, at_work())
    opened.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page = show(opened)
    bright = page.evaluate("getComputedStyle(document.body).backgroundColor").split("(")[1].split(",")[0]
    assert (int(bright) > 128) == (scheme == "light")
    contrasts = page.evaluate(_CONTRASTS)
    assert len(contrasts) > 50
    assert [found for found in contrasts if found[1] < 4.5] == []


def test_page_fits_a_phone(opened: Opened) -> None:
    opened.served.recent.add(incident(title="x" * 300, room={"name": "y" * 200, "sid": None}, advice="z" * 400))
    looked(opened.served, at_work())
    opened.page.set_viewport_size({"width": 360, "height": 740})
    page = show(opened)
    page.locator("summary").click()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 360
