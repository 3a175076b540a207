"""Alertmanager's configuration: who gets which alert, and which alert keeps which other one quiet."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import promql
import pytest
import yaml
from prometheus_tools import PATIENCE_S, ROOT, free_port, needs, run, tool
from rule_files import GROUPS, rules

pytestmark = pytest.mark.one_python

CONFIG = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
FLEET = {"cluster": "eu", "namespace": "voice", "job": "agents"}
# Alert and severity -> receiver.
RECEIVERS = {
    ("RaceWatchSessionLossBudgetBurn", "critical"): "page",
    ("RaceWatchSessionLossBudgetBurn", "warning"): "tickets",
    ("RaceWatchNativeAbort", "warning"): "tickets",
    ("RaceWatchFfiPanic", "warning"): "tickets",
    ("RaceWatchProcessesKilled", "warning"): "tickets",
    ("RaceWatchUnclassifiedRace", "warning"): "tickets",
    ("RaceWatchKnownRaceRate", "warning"): "tickets",
    ("RaceWatchFixedRaceIsBack", "warning"): "tickets",
    ("RaceWatchKnownRaceInTheField", "info"): "digest",
    ("RaceWatchLeak", "warning"): "tickets",
    ("RaceWatchDescriptorsRunOut", "critical"): "page",
    ("RaceWatchDescriptorsRunOut", "warning"): "tickets",
    ("RaceWatchHang", "warning"): "tickets",
    ("RaceWatchAbsent", "critical"): "page",
    ("RaceWatchWorkersGone", "warning"): "race-watch-tickets",
    ("RaceWatchWatcherDown", "warning"): "race-watch-tickets",
    ("RaceWatchWatcherStuck", "warning"): "race-watch-tickets",
    ("RaceWatchWatcherBehind", "warning"): "race-watch-tickets",
    ("RaceWatchProcessesNotAttached", "warning"): "race-watch-tickets",
    ("RaceWatchHooksOff", "warning"): "race-watch-tickets",
    ("RaceWatchEventsLost", "warning"): "race-watch-tickets",
    ("RaceWatchExportFailing", "warning"): "race-watch-tickets",
    ("RaceWatchExportsLost", "warning"): "race-watch-tickets",
    ("RaceWatchOverBudget", "warning"): "race-watch-tickets",
}


def labels_of(name: str, severity: str, **more: str) -> dict[str, str]:
    rule = next(r for r in rules("alert") if (r["alert"], r["labels"]["severity"]) == (name, severity))
    return {"alertname": name, **rule["labels"], **FLEET, **more}


def routed(labels: dict[str, str], config: Path = CONFIG) -> str:
    told = run("amtool", "config", "routes", "test", f"--config.file={config}", *(f"{k}={v}" for k, v in labels.items()))
    assert told.returncode == 0, told.stderr
    return told.stdout.strip()


@needs("amtool")
def test_amtool_finds_nothing_wrong() -> None:
    checked = run("amtool", "check-config", CONFIG)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_has_a_receiver_here() -> None:
    assert set(RECEIVERS) == {(rule["alert"], rule["labels"]["severity"]) for rule in rules("alert")}


@needs("amtool")
@pytest.mark.parametrize(("name", "severity"), RECEIVERS)
def test_alert_gets_to_its_receiver(name: str, severity: str) -> None:
    assert routed(labels_of(name, severity)) == RECEIVERS[name, severity]


@needs("amtool")
def test_alerts_of_others_go_elsewhere() -> None:
    assert routed({"alertname": "KubePodCrashLooping", "severity": "critical"}) == "elsewhere"


@needs("amtool")
@pytest.mark.parametrize(
    ("labels", "grouped_by"),
    [
        (labels_of("RaceWatchLeak", "warning", signature="stream-on-dead-track"), ["cluster", "signature"]),
        (labels_of("RaceWatchUnclassifiedRace", "warning", signature="unclassified"), None),
        (labels_of("RaceWatchSessionLossBudgetBurn", "critical"), ["cluster", "namespace", "job"]),
    ],
    ids=["a known race in all fleets is one ticket", "an unknown one is one in each", "a page is of a fleet"],
)
def test_alerts_are_grouped_by_what_is_one_piece_of_work(
    labels: dict[str, str], grouped_by: list[str] | None, tmp_path: Path
) -> None:
    """Each of our routes under a receiver of its own, so that amtool says which one takes the alert."""
    config = yaml.safe_load(CONFIG.read_text())
    routes = config["route"]["routes"][0]["routes"]
    for place, route in enumerate(routes):
        route["receiver"] = f"route-{place}"
    config["receivers"] += [{"name": f"route-{place}"} for place in range(len(routes))]
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(config))
    taken = routes[int(routed(labels, tmp_path / "alertmanager.yml").removeprefix("route-"))]
    assert taken.get("group_by") == grouped_by


# (what fires, what is quiet because of it)
INHIBITED = (
    (("RaceWatchSessionLossBudgetBurn", "critical", {}), ("RaceWatchSessionLossBudgetBurn", "warning", {})),
    (
        ("RaceWatchDescriptorsRunOut", "critical", {"instance": "a"}),
        ("RaceWatchDescriptorsRunOut", "warning", {"instance": "a"}),
    ),
    (("RaceWatchNativeAbort", "warning", {}), ("RaceWatchUnclassifiedRace", "warning", {"category": "native_abort"})),
    (("RaceWatchFfiPanic", "warning", {}), ("RaceWatchUnclassifiedRace", "warning", {"category": "native_abort"})),
    (("RaceWatchFixedRaceIsBack", "warning", {"signature": "x"}), ("RaceWatchKnownRaceRate", "warning", {"signature": "x"})),
    (("RaceWatchWorkersGone", "warning", {}), ("RaceWatchWatcherDown", "warning", {})),
    (("RaceWatchWatcherStuck", "warning", {}), ("RaceWatchWatcherBehind", "warning", {})),
    (("RaceWatchWatcherStuck", "warning", {}), ("RaceWatchEventsLost", "warning", {})),
    (("RaceWatchExportFailing", "warning", {}), ("RaceWatchExportsLost", "warning", {})),
)
NOT_INHIBITED = (
    (("RaceWatchSessionLossBudgetBurn", "critical", {}), ("RaceWatchNativeAbort", "warning", {})),
    (("RaceWatchSessionLossBudgetBurn", "critical", {"job": "others"}), ("RaceWatchSessionLossBudgetBurn", "warning", {})),
    (
        ("RaceWatchDescriptorsRunOut", "critical", {"instance": "a"}),
        ("RaceWatchDescriptorsRunOut", "warning", {"instance": "b"}),
    ),
    (("RaceWatchNativeAbort", "warning", {}), ("RaceWatchUnclassifiedRace", "warning", {"category": "registry_race"})),
    (("RaceWatchFixedRaceIsBack", "warning", {"signature": "x"}), ("RaceWatchKnownRaceRate", "warning", {"signature": "y"})),
    (("RaceWatchWorkersGone", "warning", {}), ("RaceWatchSessionLossBudgetBurn", "critical", {})),
)


@contextmanager
def alertmanager(home: Path) -> Iterator[str]:
    """A real Alertmanager with the repository's configuration; gives its address."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        str(tool("prometheus-alertmanager")),
        f"--config.file={CONFIG}",
        f"--storage.path={home}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
    ]
    # Where `make amtool` has put its templates.
    with (home / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT / ".cache") as process:
        try:
            deadline_s = time.monotonic() + PATIENCE_S
            while not _is_up(url):
                assert process.poll() is None, (home / "log").read_text()
                assert time.monotonic() < deadline_s, (home / "log").read_text()
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()


def _is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def send(url: str, alerts: list[dict[str, str]]) -> None:
    body = json.dumps([{"labels": labels} for labels in alerts]).encode()
    request = urllib.request.Request(f"{url}/api/v2/alerts", data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S):
        pass


def quiet(url: str) -> tuple[int, set[tuple[str, str]]]:
    """How many alerts it has, and (name, case) of those that are inhibited."""
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=PATIENCE_S) as reply:
        known = json.load(reply)
    inhibited = {(a["labels"]["alertname"], a["labels"]["namespace"]) for a in known if a["status"]["inhibitedBy"]}
    return len(known), inhibited


@needs("prometheus-alertmanager")
def test_alerts_keep_quiet_what_they_already_say_and_nothing_else(tmp_path: Path) -> None:
    """All cases at once, each in a namespace of its own."""
    fires, expected = [], set()
    for place, (source, target) in enumerate((*INHIBITED, *NOT_INHIBITED)):
        own = {"namespace": f"case-{place}"}
        fires += [labels_of(name, severity, **{**own, **more}) for name, severity, more in (source, target)]
        if place < len(INHIBITED):
            expected.add((target[0], own["namespace"]))
    with alertmanager(tmp_path) as url:
        send(url, fires)
        deadline_s = time.monotonic() + PATIENCE_S / 4
        # It takes in alerts and what they inhibit one after the other.
        while (found := quiet(url)) != (len(fires), expected) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        assert found == (len(fires), expected)


def test_every_inhibition_has_a_case() -> None:
    inhibitions = yaml.safe_load(CONFIG.read_text())["inhibit_rules"]
    for inhibition in inhibitions:
        sources = [source for (source, *_), _ in INHIBITED if source in str(inhibition["source_matchers"])]
        assert sources, inhibition


def test_what_keeps_an_alert_quiet_that_does_not_wait_is_recorded_before_it() -> None:
    """In one group: two are evaluated up to a minute apart, and Alertmanager waits half of one."""
    places = {
        rule["record"]: (group["name"], at) for group in GROUPS for at, rule in enumerate(group["rules"]) if "record" in rule
    }
    at_once = {rule["alert"]: rule["expr"] for rule in rules("alert") if "for" not in rule}
    pairs = [(source, target) for (source, *_), (target, *_) in INHIBITED if {source, target} <= at_once.keys()]
    assert pairs
    for pair in pairs:
        (group, first), (other, then) = (
            max(places[selector.name] for selector in promql.selectors(at_once[name])) for name in pair
        )
        assert (group, first < then) == (other, True), pair
