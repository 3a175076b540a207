"""A hundred participants come to a room on a real livekit-server, publish and leave: what an agent in it keeps of them."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from processes import LineProcess
from workers import FOREIGN_VARIABLE, LAB

from race_watch.events import HookStruck, ResourcesSampled
from race_watch.journal.layout import SUFFIX
from race_watch.journal.reader import JournalReader
from race_watch.lab.server import HOW_TO_GET, LiveKitServer, find_server
from race_watch.lab.tokens import token
from race_watch.lab.wheels import environment

if find_server() is None:
    pytest.skip(f"growth on a real server: {HOW_TO_GET}", allow_module_level=True)

pytestmark = [pytest.mark.real, pytest.mark.one_python]

LIVEKIT = "1.1.21"
VISITORS = 100
# The room's and its local participant's; at the last sample they may be gone.
OWN_HANDLES = 2
PATIENCE_S = 120.0
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Visited:
    said: str
    samples: list[ResourcesSampled]
    incidents: list[dict[str, Any]]


def visited(server: LiveKitServer, home: Path, *options: str) -> Visited:
    """The agent's room, watched, with its visitors come and gone."""
    python = str(environment([f"livekit=={LIVEKIT}"]))
    run_dir, incidents, room = home / "run", home / "incidents.jsonl", f"visited-{home.name}"
    own = {name: value for name, value in os.environ.items() if not FOREIGN_VARIABLE.match(name)}
    watch = [sys.executable, "-m", "race_watch", "run", "--quiet", "--metrics-port", "0", "--incidents", str(incidents)]
    agent = [python, str(LAB / "scenarios" / "visited_room.py"), "--url", server.url, "--room", room]
    command = [*watch, "--run-dir", str(run_dir), "--keep", "--", *agent, "--visitors", str(VISITORS), *options]
    guests = [token(room, f"visitor-{number}") for number in range(VISITORS)]
    with LineProcess(command, {**own, "PYTHONPATH": str(ROOT)}) as working:
        working.wait_for(lambda record: record.get("message") == "joined", "agent in its room", PATIENCE_S)
        with LineProcess([python, str(LAB / "visitors.py"), "--url", server.url, *guests], own) as coming:
            coming.wait_for(lambda record: record.get("event") == "done", "end of the visits", PATIENCE_S)
        assert working.exit_code(PATIENCE_S) == 0
        said = " ".join(record.get("message", "") for record in working.records)
    return Visited(said, _samples(run_dir), last_of_each(incidents.read_text().splitlines()))


def last_of_each(lines: list[str]) -> list[dict[str, Any]]:
    return list({incident["id"]: incident for incident in map(json.loads, lines)}.values())


def _samples(run_dir: Path) -> list[ResourcesSampled]:
    found: list[ResourcesSampled] = []
    for path in run_dir.glob(f"*{SUFFIX}"):
        reader = JournalReader(str(path))
        events = [record.event for record in reader.read(final=True)]
        reader.close()
        assert not any(isinstance(event, HookStruck) for event in events)
        found += [event for event in events if isinstance(event, ResourcesSampled)]
    return found


def test_hundred_visitors_of_a_clean_agent_raise_no_alarm(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    ran = visited(livekit_server, tmp_path)
    assert f"{VISITORS} left; subscribed to {VISITORS} tracks, kept 0 publications" in ran.said
    assert ran.samples[-1].participants_departed == VISITORS
    assert ran.samples[-1].ffi_handles <= OWN_HANDLES
    assert max(sample.participants for sample in ran.samples) >= 2
    assert ran.incidents == []


def test_publications_that_an_agent_keeps_are_found_with_their_unit_and_slope(
    livekit_server: LiveKitServer, tmp_path: Path
) -> None:
    ran = visited(livekit_server, tmp_path, "--keep")
    assert VISITORS <= ran.samples[-1].ffi_handles <= OWN_HANDLES + VISITORS
    (incident,) = ran.incidents
    evidence = incident["evidence"]
    assert (incident["category"], evidence["resource"], evidence["unit"]) == ("handle_leak", "handles", "participant")
    assert (incident["verdict"], incident["signature"]) == ("app", "departed-kept-by-application")
    slope = re.match(r"[\d.]+", evidence["slope"])
    assert slope is not None
    assert float(slope[0]) == pytest.approx(1.0, rel=0.1)
    assert "publication +1" in evidence["kinds"]
