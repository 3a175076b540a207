"""Fixtures of the host half's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from arming import Armed, arming
from sdk_runs import SdkRuns


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A private directory for the journals of the test's processes."""
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def armed(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Armed]:
    """race_watch in this process, which is as before at the end."""
    with arming(run_dir, monkeypatch.setenv) as armed:
        yield armed


@pytest.fixture(params=["asyncio", "uvloop"])
def new_loop(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Makes an event loop, of asyncio's own kind and of uvloop's."""
    module = pytest.importorskip(request.param)
    return module.new_event_loop  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def sdk_runs(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> SdkRuns:
    """The runs of an application on published SDKs, shared by the workers of the session."""
    own = tmp_path_factory.getbasetemp()
    return SdkRuns((own if worker_id == "master" else own.parent) / "sdk-runs")
