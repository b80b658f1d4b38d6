"""Project 5, stage 1: a Deployment and its Service, by rules that say what the program needs.

Main path: FIRST -> engine.registry; `findings` shows the rules in the lesson.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from course_lib.exercises.engine.checks import CheckFailed
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.flight.manifests import (
    Resource,
    get,
    labels_of,
    place_of,
    pod_of,
    quantity,
    read,
    selects,
)

_IMAGE = re.compile(r"ghcr\.io/lantern-gear/desk(:1\.0\.0|(:[\w.-]+)?@sha256:[0-9a-f]{64})")
_PORT, _DRAIN_S, _START_S, _HANGS_S, _AWAY_S, _HEARD_S = 8000, 20, 60, 60, 10, 5
_MIB = 1024**2
_VOLUMES = {"name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
            "projected", "secret"}  # fmt: skip


class Finding(NamedTuple):
    """What is wrong in a manifest."""

    what: str
    observed: object
    expected: str


def reaches(deployment: Resource, service: Resource) -> Iterator[Finding]:
    """The Service leads from its port 80 to port 8000 of the pods, inside of the cluster alone."""
    labels, box, port = labels_of(deployment), get(pod_of(deployment), "containers", 0), None
    own = get(deployment, "spec", "selector")
    is_own = any((own or {}).values()) and selects(own, labels)
    yield from _false(is_own, "labels of the pods", labels, f"what its selector has: {own}")
    chosen = get(service, "spec", "selector")
    found = bool(chosen) and selects({"matchLabels": chosen}, labels)
    yield from _false(found, "selector of the Service", chosen, f"labels of the pods: {labels}")
    yield from _differs("namespace of the Service", place_of(service), place_of(deployment))
    for each in get(service, "spec", "ports") or []:
        if each.get("port") == 80 and each.get("protocol", "TCP") == "TCP":
            port = _number(box, each.get("targetPort", 80))
    yield from _differs("port of the pods to which port 80 of the Service leads", port, _PORT)
    yield from _differs("type of the Service", get(service, "spec", "type") or "ClusterIP", "ClusterIP")
    headless = get(service, "spec", "clusterIP") == "None"
    yield from _false(not headless, "clusterIP", "None", "an address, which leads port 80 to port 8000")
    outside = get(service, "spec", "externalIPs") or []
    yield from _false(not outside, "externalIPs", outside, "none: it is for the inside of the cluster")
    early = get(service, "spec", "publishNotReadyAddresses")
    yield from _false(not early, "publishNotReadyAddresses", early, "a pod gets requests when it is ready")


def _false(holds: object, what: str, observed: object, expected: str) -> Iterator[Finding]:
    if not holds:
        yield Finding(what, observed, expected)


def _differs(what: str, observed: object, *allowed: object) -> Iterator[Finding]:
    yield from _false(observed in allowed, what, observed, " or ".join(map(str, allowed)))


def _number(container: Any, port: object) -> object:
    named = {each.get("name"): each["containerPort"] for each in get(container, "ports") or []}
    return named.get(port, port)


def _asks(deployment: Resource, kind: str, path: str) -> Iterator[Finding]:
    box = get(pod_of(deployment), "containers", 0)
    asked = get(box, f"{kind}Probe", "httpGet") or {}
    seen = f"{asked.get('path')} on port {_number(box, asked.get('port'))}" if asked else "nothing over HTTP"
    yield from _differs(f"what the {kind} probe asks", seen, f"{path} on port {_PORT}")


def _lasts_s(probe: Any) -> float:
    """Return how long a probe fails until something is done."""
    return float((get(probe, "periodSeconds") or 10) * (get(probe, "failureThreshold") or 3))


def probes(deployment: Resource, _: Resource) -> Iterator[Finding]:
    """Liveness asks /health/live, readiness /health/ready; a start may take 60 s, a hang as long."""
    box = get(pod_of(deployment), "containers", 0)
    live, ready, start = (get(box, f"{kind}Probe") for kind in ("liveness", "readiness", "startup"))
    yield from _asks(deployment, "liveness", "/health/live")
    yield from _asks(deployment, "readiness", "/health/ready")
    if start:
        yield from _asks(deployment, "startup", "/health/live")
    first = start or live
    start_s = (get(first, "initialDelaySeconds") or 0) + _lasts_s(first)
    told = "seconds until a process that is still starting is ended"
    yield from _false(start_s >= _START_S, told, start_s, f"at least {_START_S}")
    told = "seconds until a process that hangs is ended"
    yield from _false(live and _lasts_s(live) <= _HANGS_S, told, _lasts_s(live), f"at most {_HANGS_S}")
    told = "seconds until a pod that is not ready gets no requests"
    yield from _false(ready and _lasts_s(ready) <= _AWAY_S, told, _lasts_s(ready), f"at most {_AWAY_S}")


def resources(deployment: Resource, _: Resource) -> Iterator[Finding]:
    """It asks for cpu and for 300 MiB of memory or more; its limit of memory is 700 MiB to 2 GiB."""
    given = get(pod_of(deployment), "containers", 0, "resources") or {}
    limits = given.get("limits") or {}
    asked = {**limits, **(given.get("requests") or {})}
    cpu = quantity(asked.get("cpu") or 0, "request of cpu")
    yield from _false(cpu, "request of cpu", asked.get("cpu"), "a quantity such as 500m")
    memory = [each.get("memory") for each in (asked, limits)]
    if None in memory:
        yield Finding("request and limit of memory", memory, "both")
        return
    request, limit = (quantity(each, "memory") / _MIB for each in memory)
    told = "request of memory in MiB"
    yield from _false(300 <= request <= limit, told, request, f"at least 300, at most the limit ({limit:g})")
    yield from _false(700 <= limit <= 2048, "limit of memory in MiB", limit, "from 700 to 2048")


def is_confined(deployment: Resource, _: Resource) -> Iterator[Finding]:
    """The pod meets the Pod Security Standard `restricted`; its file system is read-only, but for /tmp."""
    pod, box = pod_of(deployment), get(pod_of(deployment), "containers", 0) or {}
    own, around = (get(each, "securityContext") or {} for each in (box, pod))
    both = {**around, **own}
    yield from _differs("runAsNonRoot", both.get("runAsNonRoot"), True)
    yield from _false(both.get("runAsUser") != 0, "runAsUser", 0, "another user than root, or none named")
    yield from _differs("readOnlyRootFilesystem", own.get("readOnlyRootFilesystem"), True)
    yield from _differs("allowPrivilegeEscalation", own.get("allowPrivilegeEscalation"), False)
    yield from _differs("privileged", own.get("privileged"), None, False)
    kept = get(own, "capabilities") or {}
    dropped = "ALL" in (kept.get("drop") or []) and not kept.get("add")
    yield from _false(dropped, "capabilities", kept, "drop: [ALL], and none added")
    seccomp = get(both, "seccompProfile", "type")
    yield from _differs("seccompProfile", seccomp, "RuntimeDefault", "Localhost")
    host = [each for each in ("hostNetwork", "hostPID", "hostIPC") if pod.get(each)]
    host += ["hostPort" for each in box.get("ports") or [] if each.get("hostPort")]
    host += [name for each in pod.get("volumes") or [] for name in each.keys() - _VOLUMES]
    yield from _differs("what it uses of the node", host, [])
    empty = {each["name"] for each in pod.get("volumes") or [] if "emptyDir" in each}
    mounts = [
        each["mountPath"].rstrip("/")
        for each in box.get("volumeMounts") or []
        if each["name"] in empty and not each.get("readOnly")
    ]
    yield from _false("/tmp" in mounts, "where it can write", mounts, "/tmp, an emptyDir")  # noqa: S108


def is_named(deployment: Resource, _: Resource) -> Iterator[Finding]:
    """There is one container; its image is ghcr.io/lantern-gear/desk of version 1.0.0, or by its digest."""
    boxes = [each for kind in ("containers", "initContainers") for each in pod_of(deployment).get(kind) or []]
    yield from _differs("number of containers", len(boxes), 1)
    image = get(boxes, 0, "image")
    told = "ghcr.io/lantern-gear/desk:1.0.0, or its digest"
    yield from _false(_IMAGE.fullmatch(str(image)), "the image", image, told)


def ends_gracefully(deployment: Resource, _: Resource) -> Iterator[Finding]:
    """A pod that is to end waits 5 s before SIGTERM, and has 20 s after it to answer what is under way."""
    before = get(pod_of(deployment), "containers", 0, "lifecycle", "preStop")
    words = " ".join(get(before, "exec", "command") or [])
    slept = re.search(r"\bsleep (\d+)s?$", words)
    wait_s = get(before, "sleep", "seconds") or (int(slept[1]) if slept else 0)
    yield from _false(wait_s >= _HEARD_S, "seconds of preStop", wait_s, f"at least {_HEARD_S}")
    end_s = pod_of(deployment).get("terminationGracePeriodSeconds", 30)
    told, wanted = "seconds from SIGTERM to SIGKILL", f"at least {_DRAIN_S}"
    yield from _false(end_s - wait_s >= _DRAIN_S, told, end_s - wait_s, wanted)


RULES = reaches, probes, resources, is_confined, is_named, ends_gracefully


def findings(deployment: str, service: str) -> list[Finding]:
    """Return all that is wrong in the texts of a Deployment and a Service, by the rules of stage 1.

    Raises:
        CheckFailed: Kubernetes would not take them.
    """
    both = read(deployment, "Deployment"), read(service, "Service")
    return [each for rule in RULES for each in rule(*both)]


def is_valid(deployment: Any, service: Any) -> None:
    """Kubernetes 1.34 takes both, strictly: no field that it does not know, no value of another type."""
    read(deployment, "Deployment")
    read(service, "Service")


def _check(rule: Callable[[Resource, Resource], Iterator[Finding]]) -> Callable[[Any, Any], None]:
    def check(deployment: Any, service: Any) -> None:
        for each in rule(read(deployment, "Deployment"), read(service, "Service")):
            raise CheckFailed(each.what, observed=each.observed, expected=each.expected)

    check.__doc__ = rule.__doc__
    return check


FIRST = Exercise(
    title="A Deployment and its Service",
    minutes=15,
    difficulty="medium",
    hints=(
        "Begin with the starter, and take its findings one by one. A port can have a name, which probes and "
        "the Service then use.",
        "A startupProbe holds the other two back: periodSeconds times failureThreshold is what it grants. "
        "securityContext stands at the pod (runAsNonRoot, seccompProfile) and at the container (the rest).",
        "lifecycle: {preStop: {sleep: {seconds: 5}}} counts within terminationGracePeriodSeconds: 5 + 20 and "
        "some. A read-only root file system needs an emptyDir where the program writes.",
    ),
    checks=(is_valid, *map(_check, RULES)),
    why="Each number is said of the program: how long it may start, hang, drain. Liveness asks "
    "for nothing that another server could break, or a lost database would restart all replicas. The wait "
    "before SIGTERM is for those who still send requests here, and the end comes after both.",
)
