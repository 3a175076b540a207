"""The Dockerfiles, without a daemon to build them: hadolint, and what they copy."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploy_tools import DEPLOY, ROOT, needs_tools, run

pytestmark = [
    pytest.mark.one_python,
    pytest.mark.parametrize(
        "file", [DEPLOY / "docker" / "Dockerfile", DEPLOY / "operator" / "Dockerfile"], ids=["docker", "operator"]
    ),
]


def copied(file: Path) -> list[str]:
    """What comes from the repository."""
    lines = [line.split()[1:-1] for line in file.read_text().splitlines() if line.startswith("COPY ")]
    return [source for sources in lines if not sources[0].startswith("--from") for source in sources]


@needs_tools
def test_hadolint_finds_nothing(file: Path) -> None:
    ended = run("hadolint", "--failure-threshold", "style", file)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stdout


def test_what_is_copied_exists_and_is_in_the_context(file: Path) -> None:
    ignored = (file.parent / "Dockerfile.dockerignore").read_text().splitlines()
    let_in = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    assert copied(file)
    for source in copied(file):
        assert (ROOT / source).exists(), source
        assert any(source == one or source.startswith(f"{one}/") for one in let_in), f"{source} is not in the context"
    assert all(any(source == one or source.startswith(f"{one}/") for source in copied(file)) for one in let_in), (
        "more than is needed"
    )


def test_what_runs_is_nobody_by_number(file: Path) -> None:
    lines = file.read_text().splitlines()
    entries = [index for index, line in enumerate(lines) if line.startswith("ENTRYPOINT")]
    users = [index for index, line in enumerate(lines) if line == "USER 65532:65532"]
    stages = [index for index, line in enumerate(lines) if line.startswith("FROM")]
    for entry in entries:
        stage = max(index for index in stages if index < entry)
        assert any(stage < index < entry for index in users)
    assert entries or "operator" in str(file), "the operator's image keeps its own"


def test_what_is_started_has_been_run_and_compiled_before_nothing_is_compiled_any_more(file: Path) -> None:
    stages = file.read_text().split("\nFROM ")
    started = [stage for stage in stages if "\nENTRYPOINT" in stage]
    assert started or "operator" in str(file), "the operator's image keeps its own"
    for stage in started:
        assert stage.index("RUN race-watch run") < stage.index("PYTHONDONTWRITEBYTECODE") < stage.index("USER ")
