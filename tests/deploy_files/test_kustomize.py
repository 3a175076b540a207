"""deploy/kustomize, built by kubectl and held against the same schemas as the chart."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from deploy_tools import DEPLOY, ROOT, ask, complaints, needs_tools, run

pytestmark = [needs_tools, pytest.mark.one_python]

KUSTOMIZE = DEPLOY / "kustomize"


def built(folder: Any) -> dict[str, Any]:
    ended = run("kubectl", "kustomize", folder)
    assert ended.returncode == 0, ended.stderr
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in yaml.safe_load_all(ended.stdout)}


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    return built(KUSTOMIZE / "base")


def test_kubernetes_and_the_operator_accept_every_object_and_know_every_field(objects: dict[str, Any]) -> None:
    assert complaints(list(objects.values())) == []


def test_the_components_make_of_a_bare_worker_what_the_chart_makes(objects: dict[str, Any]) -> None:
    (answer,) = ask("render", [{"worker": {"image": "registry.example.com/voice-agent:1.4.2", "args": ["start"]}}])
    (ours,) = [one for one in answer["objects"] if one["kind"] == "Deployment"]
    chart, theirs = ours["spec"]["template"]["spec"], objects["Deployment/voice-agent"]["spec"]["template"]["spec"]
    assert objects["Deployment/voice-agent"]["spec"]["template"]["metadata"]["labels"]["race-watch/watched"] == "true"

    def by_name(those: list[dict[str, Any]]) -> dict[str, Any]:
        return {one["name"]: one for one in those}

    def without_image(one: dict[str, Any]) -> dict[str, Any]:
        return {field: value for field, value in one.items() if field not in ("image", "imagePullPolicy")}

    assert [one["name"] for one in theirs["initContainers"]] == [one["name"] for one in chart["initContainers"]]
    for one, other in zip(theirs["initContainers"], chart["initContainers"], strict=True):
        assert without_image(one) == without_image(other)
    (worker,), (other,) = theirs["containers"], chart["containers"]
    assert by_name(other["env"]).items() <= by_name(worker["env"]).items()
    assert by_name(worker["volumeMounts"]) == by_name(other["volumeMounts"])
    assert by_name(theirs["volumes"]) == by_name(chart["volumes"])
    assert not theirs["enableServiceLinks"]


def test_the_monitor_selects_the_watched_pods_by_a_port_that_they_have(objects: dict[str, Any]) -> None:
    monitor, template = objects["PodMonitor/race-watch"]["spec"], objects["Deployment/voice-agent"]["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    ports = {port["name"]: port["containerPort"] for one in template["spec"]["initContainers"] for port in one.get("ports", ())}
    assert endpoint["port"] in ports
    (answer,) = ask("render", [{"worker": {"enabled": False}, "podMonitor": {"enabled": True}}])
    assert answer["objects"][0]["spec"] == monitor


def test_rules_and_dashboards_are_all_those_of_the_repository(objects: dict[str, Any]) -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    assert objects["PrometheusRule/race-watch"]["spec"] == rules
    made = {name: text for one in objects.values() if one["kind"] == "ConfigMap" for name, text in one["data"].items()}
    assert {name: json.loads(text) for name, text in made.items()} == {
        path.name: json.loads(path.read_text()) for path in (ROOT / "dashboards").glob("*.json")
    }


def test_a_deployment_that_is_not_labelled_is_left_alone(tmp_path: Any) -> None:
    worker = (KUSTOMIZE / "base" / "worker.yaml").read_text().replace('race-watch/inject: "true"', 'tier: "realtime"')
    work = tmp_path / "work"
    work.mkdir()
    (work / "worker.yaml").write_text(worker)
    # Relative, as kustomize wants it, and inside what it may read.
    for component in ("inject", "sidecar"):
        target = work / component
        target.mkdir()
        (target / "kustomization.yaml").write_text((KUSTOMIZE / "components" / component / "kustomization.yaml").read_text())
    (work / "kustomization.yaml").write_text("resources: [worker.yaml]\ncomponents: [inject]\n")
    (deployment,) = built(work).values()
    assert deployment == yaml.safe_load(worker)
