"""Renders the chart with each of its ci/*-values.yaml into examples/, run by the Python of `make deploy-tools`.

Dashboards and rules are named instead of repeated: they stand in dashboards/ and deploy/prometheus, and change by themselves.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from helm_python.chart import Chart

HERE = Path(__file__).parent
CHART = HERE / "race-watch"
EXAMPLES = HERE / "examples"
RELEASE = NAMESPACE = "voice"


def cases() -> dict[str, dict[str, Any]]:
    """Name -> values."""
    return {path.name.removesuffix("-values.yaml"): yaml.safe_load(path.read_text()) for path in CHART.glob("ci/*-values.yaml")}


def manifests(chart: Chart, values: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Template -> the objects that it makes."""
    rendered = chart.render(values, name=RELEASE, namespace=NAMESPACE)
    texts = {path: text for path, text in sorted(rendered.items()) if path.endswith(".yaml")}
    made = {path: [found for found in yaml.safe_load_all(text) if found] for path, text in texts.items()}
    return {path: found for path, found in made.items() if found}


def elided(made: dict[str, Any]) -> dict[str, Any]:
    if made["kind"] == "PrometheusRule":
        return {**made, "spec": "... deploy/prometheus/rules.yml"}
    if made["kind"] == "ConfigMap" and "-dashboard-" in made["metadata"]["name"]:
        return {**made, "data": {name: f"... dashboards/{name}" for name in made["data"]}}
    return made


def examples() -> dict[str, str]:
    """File name -> content."""
    chart = Chart.load(CHART)
    made = {}
    for name, values in cases().items():
        parts = [f"# `make charts` renders this from race-watch/ci/{name}-values.yaml; a test fails where the two differ.\n"]
        for path, found in manifests(chart, values).items():
            parts += [f"---\n# {path}\n" + yaml.safe_dump(elided(one), sort_keys=False, width=120) for one in found]
        made[f"{name}.yaml"] = "".join(parts)
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; name the files that differ")
    check = parser.parse_args().check
    made = examples()
    there = {path.name: path.read_text() for path in EXAMPLES.glob("*.yaml")}
    if check:
        differing = sorted(name for name in made.keys() | there.keys() if made.get(name) != there.get(name))
        for name in differing:
            print(f"deploy/helm/examples/{name} is not what the chart renders; run `make charts`")
        return 1 if differing else 0
    EXAMPLES.mkdir(exist_ok=True)
    for name in there.keys() - made.keys():
        (EXAMPLES / name).unlink()
    for name, text in made.items():
        (EXAMPLES / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
