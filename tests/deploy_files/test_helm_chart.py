"""The chart, rendered by Helm's own engine and held against the schemas of Kubernetes and of the Prometheus operator."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from deploy_tools import DEPLOY, ROOT, ask, complaints, needs_tools, run

pytestmark = [needs_tools, pytest.mark.one_python]

WORKER = {"image": "registry.example.com/voice-agent:1"}
EVERYTHING = {
    "worker": WORKER,
    "podMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True, "labels": {"release": "monitoring"}},
    "dashboards": {"enabled": True},
    "networkPolicy": {"enabled": True},
    "podDisruptionBudget": {"enabled": True},
}

REFUSED = {
    "a name that is no value": ({"worker": WORKER, "promethusRule": {}}, "promethusRule"),
    "a name that is no value, further down": ({"worker": {**WORKER, "replica": 3}}, "replica"),
    "a route that there is not": ({"route": "magic", "worker": WORKER}, "route"),
    "a worker without an image": ({}, "image"),
    "the route run without a command": ({"route": "run", "worker": WORKER}, "command"),
    "another user for the worker's container": ({"worker": {**WORKER, "securityContext": {"runAsUser": 5}}}, "securityContext"),
    "a size without a unit that Kubernetes knows": ({"worker": WORKER, "runDir": {"sizeLimit": "2 gigs"}}, "sizeLimit"),
    "a sample limit that one worker exceeds": ({"worker": WORKER, "podMonitor": {"sampleLimit": 100}}, "sampleLimit"),
    "a port that needs root": ({"worker": WORKER, "metrics": {"port": 80}}, "port"),
    "a PYTHONPATH that inject would override": (
        {"worker": {**WORKER, "env": [{"name": "PYTHONPATH", "value": "/app"}]}},
        "worker.pythonPath",
    ),
}


def rendered(*values: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of each."""
    answers = ask("render", list(values))
    assert [answer["error"] for answer in answers] == [None] * len(values)
    return [{f"{one['kind']}/{one['metadata']['name']}": one for one in answer["objects"]} for answer in answers]


def pod(objects: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = objects["Deployment/voice-race-watch"]["spec"]["template"]["spec"]
    return found


def variables(container: dict[str, Any]) -> dict[str, str]:
    names = [variable["name"] for variable in container["env"]]
    assert len(names) == len(set(names)), "a variable is set twice"
    return {variable["name"]: variable.get("value", "") for variable in container["env"]}


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    found: dict[str, Any] = ask("cases", None)
    assert {"inject", "sidecar", "run", "monitoring"} <= found.keys()
    return found


def test_the_rendered_examples_are_what_the_chart_renders() -> None:
    ended = run("python", DEPLOY / "helm" / "render.py", "--check")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_helm_lint_finds_nothing_in_any_case(cases: dict[str, Any]) -> None:
    assert ask("lint", [*cases.values(), EVERYTHING]) == [[]] * (len(cases) + 1)


def test_kubernetes_and_the_operator_accept_every_object_and_know_every_field(cases: dict[str, Any]) -> None:
    for objects in rendered(*cases.values(), EVERYTHING):
        assert complaints(list(objects.values())) == []


def test_a_misspelt_field_would_be_found() -> None:
    (objects,) = rendered(EVERYTHING)
    deployment, monitor = objects["Deployment/voice-race-watch"], objects["PodMonitor/voice-race-watch"]
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 5
    monitor["spec"]["podMetricsEndpoints"][0]["scrapeInterval"] = "30s"
    said = "\n".join(complaints([deployment, monitor]))
    assert "terminationGracePeriod" in said
    assert "scrapeInterval is unknown" in said


@pytest.mark.parametrize("what", REFUSED)
def test_values_that_cannot_be_meant_are_refused(what: str) -> None:
    values, named = REFUSED[what]
    (answer,) = ask("render", [values])
    assert answer["objects"] == []
    assert named in answer["error"]


def test_inject_brings_the_host_half_and_the_worker_reads_it_only() -> None:
    (objects,) = rendered({"worker": {**WORKER, "pythonPath": "/app/src"}})
    bring, watch = pod(objects)["initContainers"]
    (worker,) = pod(objects)["containers"]
    where = {mount["name"]: mount for mount in worker["volumeMounts"]}["race-watch-inject"]
    assert where["readOnly"]
    assert bring["command"] == ["cp", "-r", "/inject/.", where["mountPath"] + "/"]
    assert variables(worker)["PYTHONPATH"] == f"{where['mountPath']}/race_watch/bootstrap:/app/src"
    assert watch["restartPolicy"] == "Always"
    assert "command" not in worker, "the image's own entry point"


@pytest.mark.parametrize("route", ["inject", "sidecar"])
def test_worker_and_sidecar_share_the_run_directory_and_the_user(route: str) -> None:
    (objects,) = rendered({"route": route, "worker": WORKER})
    watch, (worker,) = pod(objects)["initContainers"][-1], pod(objects)["containers"]
    assert watch["args"] == ["watch", "--run-dir", variables(worker)["RACE_WATCH_RUN_DIR"]]
    assert variables(worker)["RACE_WATCH_WATCHER"] == "none"
    mounted = [
        {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"] if not mount.get("readOnly")}
        for one in (watch, worker)
    ]
    assert mounted[0]["race-watch-run"] == mounted[1]["race-watch-run"]
    # A directory inside it: the volume's root is open to all, which race_watch refuses.
    assert variables(worker)["RACE_WATCH_RUN_DIR"].startswith(mounted[0]["race-watch-run"] + "/")
    assert pod(objects)["securityContext"]["runAsUser"] == 10001
    assert all("runAsUser" not in one.get("securityContext", {}) for one in (watch, worker))


def test_the_route_run_stands_before_the_command_and_needs_no_other_container() -> None:
    (objects,) = rendered({"route": "run", "worker": {**WORKER, "command": ["python", "agent.py"], "args": ["start"]}})
    (worker,) = pod(objects)["containers"]
    assert "initContainers" not in pod(objects)
    assert worker["command"] == ["race-watch", "run", "--", "python", "agent.py"]
    assert worker["args"] == ["start"]
    assert "RACE_WATCH_WATCHER" not in variables(worker)


@pytest.mark.parametrize("route", ["inject", "sidecar", "run"])
def test_the_port_that_is_scraped_is_one_that_the_pod_has_and_that_is_served(route: str) -> None:
    values = {**EVERYTHING, "route": route, "worker": {**WORKER, "command": ["python"]}, "metrics": {"port": 9999}}
    (objects,) = rendered(values)
    (endpoint,) = objects["PodMonitor/voice-race-watch"]["spec"]["podMetricsEndpoints"]
    everyone = [*pod(objects).get("initContainers", ()), *pod(objects)["containers"]]
    (served,) = [one for one in everyone if any(port["name"] == endpoint["port"] for port in one.get("ports", ()))]
    assert variables(served)["RACE_WATCH_METRICS_PORT"] == "9999"
    assert variables(served)["RACE_WATCH_METRICS_HOST"] == "0.0.0.0"
    assert 9999 in [port["containerPort"] for port in served["ports"]]
    assert objects["NetworkPolicy/voice-race-watch"]["spec"]["ingress"][0]["ports"][0]["port"] == 9999
    labels = objects["Deployment/voice-race-watch"]["spec"]["template"]["metadata"]["labels"]
    for kind, field in (("PodMonitor", "selector"), ("NetworkPolicy", "podSelector"), ("PodDisruptionBudget", "selector")):
        wanted = objects[f"{kind}/voice-race-watch"]["spec"][field]["matchLabels"]
        assert wanted.items() <= labels.items(), kind


@pytest.mark.parametrize("route", ["inject", "sidecar", "run"])
def test_every_mount_has_its_volume_and_nobody_runs_as_root_or_writes_to_its_image(route: str) -> None:
    secured = {"token": {"secret": "token"}, "tls": {"secret": "tls"}}
    (objects,) = rendered({"route": route, "worker": {**WORKER, "command": ["python"]}, "metrics": secured})
    spec = pod(objects)
    volumes = [volume["name"] for volume in spec["volumes"]]
    everyone = [*spec.get("initContainers", ()), *spec["containers"]]
    mounts = {mount["name"] for one in everyone for mount in one["volumeMounts"]}
    assert mounts == set(volumes)
    assert spec["securityContext"]["runAsNonRoot"]
    for one in everyone:
        assert one["securityContext"]["readOnlyRootFilesystem"]
        assert not one["securityContext"]["allowPrivilegeEscalation"]
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not spec["automountServiceAccountToken"]
    assert not spec["enableServiceLinks"]


def test_token_and_certificate_are_mounted_where_the_watcher_looks_and_the_monitor_uses_them() -> None:
    secured = {"token": {"secret": "t", "key": "k"}, "tls": {"secret": "c"}}
    (objects,) = rendered({"worker": WORKER, "metrics": secured, "podMonitor": {"enabled": True}})
    watch = pod(objects)["initContainers"][-1]
    where = {mount["name"]: mount["mountPath"] for mount in watch["volumeMounts"]}
    assert variables(watch)["RACE_WATCH_METRICS_TOKEN_FILE"] == where["race-watch-token"] + "/k"
    assert variables(watch)["RACE_WATCH_METRICS_TLS_CERT"] == where["race-watch-tls"] + "/tls.crt"
    assert watch["livenessProbe"]["httpGet"]["scheme"] == "HTTPS"
    (endpoint,) = objects["PodMonitor/voice-race-watch"]["spec"]["podMetricsEndpoints"]
    assert endpoint["scheme"] == "https"
    assert endpoint["authorization"]["credentials"] == {"name": "t", "key": "k"}


def test_every_setting_that_the_chart_makes_is_one_of_race_watch(cases: dict[str, Any]) -> None:
    from race_watch.settings import from_env

    for objects in rendered(*(case for case in cases.values() if case["worker"].get("enabled", True))):
        for one in [*pod(objects).get("initContainers", ()), *pod(objects)["containers"]]:
            if "env" in one:
                assert from_env(variables(one)).problems == ()


def test_rules_and_dashboards_are_those_of_the_repository() -> None:
    (objects,) = rendered(EVERYTHING)
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    assert objects["PrometheusRule/voice-race-watch"]["spec"] == rules
    made = {name: text for one in objects.values() if one["kind"] == "ConfigMap" for name, text in one["data"].items()}
    there = {path.name: json.loads(path.read_text()) for path in (ROOT / "dashboards").glob("*.json")}
    assert there
    assert {name: json.loads(text) for name, text in made.items()} == there


def test_monitoring_alone_deploys_no_worker() -> None:
    (objects,) = rendered({**EVERYTHING, "worker": {"enabled": False}})
    assert {name.partition("/")[0] for name in objects} == {"PodMonitor", "PrometheusRule", "ConfigMap", "NetworkPolicy"}


def test_the_chart_has_the_version_of_the_package() -> None:
    import race_watch

    chart = yaml.safe_load((DEPLOY / "helm" / "race-watch" / "Chart.yaml").read_text())
    assert chart["appVersion"] == race_watch.__version__
