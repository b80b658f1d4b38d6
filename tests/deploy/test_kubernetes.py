"""The manifests: validators pass them and refuse mistakes in them; and they agree with the code."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
import yaml

from course_lib.debugging import MetricsCollector
from course_lib.deployment import DeploymentConfig, load_program
from course_lib.deployment.gateway import HEALTH_PATH, VERSION_HEADER, longest_end_s
from course_lib.deployment.guard import OPEN
from tests.deploy.manifests import (
    DEPLOY,
    DOCKERFILE,
    OVERLAYS,
    failed_policies,
    find,
    kubernetes_version,
    planted,
    problems,
    rendered,
)
from tests.deployment.settings import PRODUCTION

PORT = re.search(r"^EXPOSE (\d+)", DOCKERFILE.read_text(), re.MULTILINE)[1]


def pod(resource: dict[str, Any]) -> dict[str, Any]:
    return resource["spec"]["template"]["spec"]


def container(resource: dict[str, Any]) -> dict[str, Any]:
    return pod(resource)["containers"][0]


SPOILED = {
    "replicas in words": (lambda each: each["spec"].update(replicas="two"), "'two' is not of type"),
    "a misspelt field": (
        lambda each: container(each).update(livenessprobe={}),
        "'livenessprobe' was unexpected",
    ),
    "a selector left out": (lambda each: each["spec"].pop("selector"), "'selector' is a required property"),
}
POLICIES = {
    "privileged": (lambda each: container(each)["securityContext"].update(privileged=True), "CKV_K8S_16"),
    "latest": (lambda each: container(each).update(image="ghcr.io/lantern-gear/desk:latest"), "CKV_K8S_14"),
    "no-limits": (lambda each: container(each)["resources"].pop("limits"), "CKV_K8S_13"),
    "root": (lambda each: pod(each).pop("securityContext"), "CKV_K8S_29"),
    "writable": (
        lambda each: container(each)["securityContext"].update(readOnlyRootFilesystem=False),
        "CKV_K8S_22",
    ),
    "no-probe": (lambda each: container(each).pop("livenessProbe"), "CKV_K8S_8"),
}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_resource_is_one_of_the_named_kubernetes(overlay: str):
    assert problems(rendered(overlay)) == []
    assert tuple(map(int, kubernetes_version().split("."))) >= (1, 34)


@pytest.mark.parametrize(("plant", "words"), SPOILED.values(), ids=SPOILED)
def test_validation_refuses_a_mistake(plant, words: str):
    found = problems(planted(plant))

    assert len(found) == 1
    assert words in found[0]


def test_a_route_with_a_share_that_is_no_weight_is_refused():
    share = planted(lambda each: each["spec"]["rules"][-1]["backendRefs"][1].update(weight=0.1), "HTTPRoute")

    assert problems(share) == ["HTTPRoute/desk: 0.1 is not of type 'integer'"]


# Some five seconds of a core: checkov imports all that it can check, so it runs once, on all files.
def test_a_policy_linter_passes_what_is_shipped_and_refuses_each_mistake(tmp_path):
    cases = {overlay: (rendered(overlay), set()) for overlay in OVERLAYS}
    cases |= {name: (planted(plant), {policy}) for name, (plant, policy) in POLICIES.items()}
    (folder := tmp_path / "manifests").mkdir()
    for name, (resources, _) in cases.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump_all(resources))

    found = failed_policies(folder, tmp_path)

    for name, (_, expected) in cases.items():
        broken = found[f"{name}.yaml"]
        assert broken >= expected if expected else not broken, (name, broken)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_settings_are_those_of_the_service_and_it_accepts_them(overlay: str, monkeypatch):
    settings = find(rendered(overlay), "ConfigMap", "desk-settings")["data"]
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    secrets = {name: value for name, value in PRODUCTION.items() if name not in ("profile", "host")}

    config = DeploymentConfig(**secrets)

    assert (config.profile, config.trace_share) == (overlay, 0.1)
    assert config.otlp_endpoint == settings["OTEL_EXPORTER_OTLP_ENDPOINT"]


def test_a_misspelt_setting_would_be_found(monkeypatch):
    monkeypatch.setenv("COURSE_SERVICE_DRAIN", "10")

    with pytest.raises(Exception, match="COURSE_SERVICE_DRAIN_S"):
        DeploymentConfig(**PRODUCTION)


def test_a_pod_writes_no_file_that_an_erasure_by_another_would_not_reach():
    resources = rendered("production")

    assert "COURSE_SERVICE_RECORDS_FOLDER" not in find(resources, "ConfigMap", "desk-settings")["data"]
    for each in (one for one in resources if one["kind"] == "Deployment"):
        written = {
            vol["name"]: vol["emptyDir"]["sizeLimit"] for vol in pod(each)["volumes"] if "emptyDir" in vol
        }
        assert written == {"tmp": "256Mi"}, each["metadata"]["name"]


@pytest.mark.parametrize("name", ["desk", "desk-canary", "desk-worker"])
def test_a_pod_is_given_the_time_that_a_process_may_take_to_end(name: str):
    resources = rendered("production")
    drain_s = float(find(resources, "ConfigMap", "desk-settings")["data"]["COURSE_SERVICE_DRAIN_S"])
    spec = next(
        each for each in resources if each["kind"] == "Deployment" and each["metadata"]["name"] == name
    )

    before_s = container(spec).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)

    patience_s = pod(spec)["terminationGracePeriodSeconds"]
    assert patience_s > before_s + longest_end_s(DeploymentConfig(drain_s=drain_s))


def test_ports_paths_user_and_command_are_those_of_image_and_code():
    spec, text = find(rendered("production"), "Deployment"), DOCKERFILE.read_text()
    asked = {
        name: container(spec)[f"{name}Probe"]["httpGet"]["path"]
        for name in ("startup", "liveness", "readiness")
    }

    assert asked == {"startup": "/health/live", "liveness": "/health/live", "readiness": HEALTH_PATH}
    assert set(asked.values()) <= OPEN  # nobody has a key there
    assert str(container(spec)["ports"][0]["containerPort"]) == PORT
    assert f"COURSE_SERVICE_PORT={PORT}" in text
    assert f"USER {pod(spec)['securityContext']['runAsUser']}:" in text
    assert container(spec)["args"] == re.search(r"^CMD (\[.*\])", text, re.MULTILINE)[1].translate(
        str.maketrans("", "", '[]"')
    ).split(", ")


def test_replicas_follow_a_metric_that_the_service_has():
    metric = find(rendered("production"), "HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]["metric"][
        "name"
    ]
    adapter = yaml.safe_load((DEPLOY / "kubernetes" / "metrics-adapter.yaml").read_text())

    assert f"# TYPE {metric} gauge" in MetricsCollector().text()
    assert adapter["rules"]["custom"][0]["name"]["matches"] == metric


def test_the_canary_has_the_version_that_its_route_names_and_programs_that_load(tmp_path):
    resources = rendered("production")
    canary = find(resources, "Deployment", "desk-canary")
    values = {each["name"]: each["value"] for each in container(canary)["env"]}
    named = find(resources, "HTTPRoute")["spec"]["rules"][0]["matches"][0]["headers"][0]
    volume = next(each["configMap"] for each in pod(canary)["volumes"] if "configMap" in each)
    texts = find(resources, "ConfigMap", "desk-programs")["data"]
    for each in volume["items"]:
        path = tmp_path / each["path"]
        path.parent.mkdir()
        path.write_text(texts[each["key"]])
        load_program(path.parent.name, path)

    version = values["COURSE_SERVICE_PROGRAM_VERSION"]
    assert named == {"name": VERSION_HEADER, "value": version}
    assert {each["path"] for each in volume["items"]} == {f"answer/{version}.json", f"triage/{version}.json"}


def test_nothing_goes_in_or_out_but_what_is_named():
    policies = {
        each["metadata"]["name"]: each["spec"]
        for each in rendered("production")
        if each["kind"] == "NetworkPolicy"
    }

    assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert all(
        rule.get("ports") for rule in policies["out-of-desk"]["egress"] + policies["into-desk"]["ingress"]
    )


def test_only_an_overlay_with_a_hosted_model_lets_the_pods_out_of_the_cluster(tmp_path):
    folder = os.path.relpath(DEPLOY / "kubernetes", tmp_path)
    hosted = {"resources": [f"{folder}/base"], "components": [f"{folder}/components/hosted-model"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(hosted))

    for resources, is_hosted in ((rendered(OVERLAYS[0]), False), (rendered(tmp_path), True)):
        assert problems(resources) == []
        policies = [each["spec"] for each in resources if each["kind"] == "NetworkPolicy"]
        out = [rule for each in policies for rule in each.get("egress", ()) if "ipBlock" in str(rule)]
        assert [rule["ports"] for rule in out] == [[{"port": 443}]] * is_hosted


def test_who_names_a_version_gets_it_alone_also_the_stable_one():
    resources = rendered("production")
    stable = find(resources, "ConfigMap", "desk-settings")["data"]["COURSE_SERVICE_PROGRAM_VERSION"]
    *named, _ = find(resources, "HTTPRoute")["spec"]["rules"]

    assert [(rule["matches"][0]["headers"][0]["value"], rule["backendRefs"]) for rule in named] == [
        ("2", [{"name": "desk-canary", "port": 80}]),
        (stable, [{"name": "desk", "port": 80}]),
    ]


def test_no_secret_is_in_a_manifest():
    for overlay in OVERLAYS:
        assert not [each for each in rendered(overlay) if each["kind"] == "Secret"]
        assert not re.search(r"password|://[^\s/]*@", str(rendered(overlay)), re.IGNORECASE)
