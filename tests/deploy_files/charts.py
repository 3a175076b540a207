"""Run by the Python of `make deploy-tools`: JSON in, JSON out. Helm's engine and the schemas of Kubernetes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
from helm_python.chart import Chart, lint

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "helm"))
import render

# The oldest that the chart says it supports and has schemas here, and the newest.
KUBERNETES = ("1.31", "1.37")


def rendered(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    chart = Chart.load(render.CHART)
    answers: list[dict[str, Any]] = []
    for one in values:
        try:
            objects = [found for made in render.manifests(chart, one).values() for found in made]
            answers.append({"objects": objects, "error": None})
        except Exception as error:  # noqa: BLE001 - whatever Helm says is the answer
            answers.append({"objects": [], "error": str(error)})
    return answers


def linted(values: list[dict[str, Any]]) -> list[list[str]]:
    """Errors and warnings; the third severity says that a chart might have an icon."""
    reports = [lint(render.CHART, one, strict=True) for one in values]
    return [[found["error"] for found in report["messages"] if found["severity"] > 1] + report["errors"] for report in reports]


def validated(objects: list[dict[str, Any]]) -> list[str]:
    said = []
    for one in objects:
        where = f"{one['kind']} {one['metadata']['name']}"
        if one["apiVersion"].startswith("monitoring.coreos.com/"):
            said += [f"{where}: {complaint}" for complaint in _operator(one)]
            continue
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                said.append(f"{where}, Kubernetes {version}: {error.message} at {list(error.path)}")
    return said


def _operator(one: dict[str, Any]) -> Iterator[str]:
    # Five seconds, which the other questions need not wait.
    from cloudcoil.models.prometheus_operator import v1 as prometheus_operator

    try:
        known = getattr(prometheus_operator, one["kind"]).model_validate(one)
    except ValueError as error:
        yield str(error)
        return
    yield from _dropped(one, known.model_dump(mode="json", by_alias=True, exclude_unset=True), one["kind"])


def _dropped(given: Any, kept: Any, where: str) -> Iterator[str]:
    """Fields that the schema does not know: the API server would drop them without a word."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for name, value in given.items():
            if name not in kept:
                yield f"{where}.{name} is unknown"
            else:
                yield from _dropped(value, kept[name], f"{where}.{name}")
    elif isinstance(given, list) and isinstance(kept, list):
        for index, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from _dropped(one, other, f"{where}[{index}]")


ANSWERS = {"render": rendered, "lint": linted, "validate": validated, "cases": lambda _: render.cases()}

if __name__ == "__main__":
    # Helm says on stdout what it thinks of links.
    answer = ANSWERS[sys.argv[1]](json.load(sys.stdin))
    print(json.dumps(answer))
