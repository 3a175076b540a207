"""A real livekit-server and a real livekit-agents worker; test modules here skip where there is no server binary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from workers import AgentsWorker

from race_watch.lab.server import LiveKitServer
from race_watch.lab.wheels import environment

AGENTS = "livekit-agents==1.8.9"


@pytest.fixture(scope="session")
def livekit_server() -> Iterator[LiveKitServer]:
    with LiveKitServer() as server:
        yield server


@pytest.fixture(scope="session")
def agents_python() -> Path:
    return environment([AGENTS])


@pytest.fixture(scope="module")
def bare_worker(livekit_server: LiveKitServer, agents_python: Path) -> Iterator[AgentsWorker]:
    with AgentsWorker(livekit_server, agents_python) as worker:
        yield worker
