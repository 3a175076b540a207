"""A clean session on a real livekit-server: join, publish, a second participant with a track, unpublish, leave, rejoin."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from race_watch.lab.runner import run_scenario
from race_watch.lab.server import HOW_TO_GET, LiveKitServer, find_server

if find_server() is None:
    pytest.skip(f"clean sessions on a real server: {HOW_TO_GET}", allow_module_level=True)

pytestmark = [pytest.mark.real, pytest.mark.one_python]


@pytest.mark.parametrize("livekit", ["1.1.8", "1.1.21", "1.2.0"])
def test_clean_session_makes_no_incident(livekit_server: LiveKitServer, tmp_path: Path, livekit: str) -> None:
    incidents = tmp_path / "incidents.jsonl"
    ended = run_scenario(
        "clean_session",
        ["--no-control"],
        livekit=livekit,
        sfu_url=livekit_server.url,
        under=[sys.executable, "-m", "race_watch", "run", "--metrics-port", "0", "--incidents", str(incidents), "--"],
    )
    assert ended.returncode == 0
    assert incidents.read_text() == ""
    assert "1 process watched" in ended.stderr
