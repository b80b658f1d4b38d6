"""Manifests as a cluster takes them: read strictly, and what selectors, budgets and policies then do.

Main path: read(text, "Deployment") -> a resource; `evictions` and `connects` reckon, and reach no cluster.
Source: schemas of kubernetes-validate 1.37; what they do not say, as the API's documentation of 1.34 has it.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

import kubernetes_validate  # type: ignore[import-untyped]
import yaml

from course_lib.exercises.engine.checks import CheckFailed, expect, expect_equal, shortened, without_error

VERSION = "1.34"
_MOST_CHARS, _MOST_ALIASES, _MOST_DEEP = 100_000, 16, 50
_UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}
Resource = dict[str, Any]


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads as the API does when it is strict: a key stands once in a mapping."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if twice := sorted({key for key in keys if keys.count(key) > 1}):
                raise yaml.YAMLError(f"the key {twice[0]!r} twice,{node.start_mark}")
        return dict(super().construct_mapping(node, deep=deep))


def read(text: object, kind: str) -> Resource:
    """Return the one resource, of this kind, in a YAML text that Kubernetes takes; or fail the check."""
    what, wanted = f"the text of the {kind}", f"the YAML of one {kind}, {_MOST_CHARS:,} characters at most"
    is_text = isinstance(text, str) and len(text) <= _MOST_CHARS
    told = f"{len(text):,} characters" if isinstance(text, str) else type(text).__name__
    expect(is_text, what, observed=told, expected=wanted)

    def documents() -> list[Any]:
        depths = itertools.accumulate((each in "[{") - (each in "]}") for each in str(text))
        if max(depths, default=0) > _MOST_DEEP:
            raise yaml.YAMLError(f"brackets more than {_MOST_DEEP} deep")
        aliases = sum(isinstance(each, yaml.AliasEvent) for each in yaml.parse(text, Loader=yaml.SafeLoader))
        if aliases > _MOST_ALIASES:
            raise yaml.YAMLError(f"{aliases} aliases (*name); at most {_MOST_ALIASES} are read")
        found = yaml.load_all(str(text), Loader=_Loader)
        return [json.loads(json.dumps(each)) for each in found if each is not None]

    found = without_error(documents, what, expected=f"{wanted}, and values that JSON has")
    kinds = [each.get("kind") if isinstance(each, dict) else type(each).__name__ for each in found]
    expect_equal(kinds, [kind], f"what {what} holds")
    return as_taken(found[0])


def as_taken(resource: Any) -> Resource:
    """Return a resource that Kubernetes takes, strictly, without its nulls; fail the check if it does not."""
    kind = resource.get("kind") if isinstance(resource, dict) else type(resource).__name__
    what = f"what Kubernetes {VERSION} says of the {shortened(str(kind), 60)}"
    try:
        kubernetes_validate.validate(resource, VERSION, strict=True)
        taken = _without_nulls(json.loads(json.dumps(resource)), "")
    except Exception as error:  # border: of two libraries
        at = ".".join(map(str, getattr(error, "absolute_path", ()))) or kind
        told = f"no {error}" if isinstance(error, KeyError) else getattr(error, "message", str(error))
        observed = f"{at}: {shortened(str(told), 200)}"
        raise CheckFailed(what, observed=observed, expected="that it is valid, strictly") from None
    name = get(taken, "metadata", "name")
    expect(name, f"the name of the {kind}", observed=name, expected="a name, in metadata")
    return dict(taken)


def _without_nulls(value: Any, key: str) -> Any:
    """Return a value without what is null; refuse what the API refuses and the schemas do not."""
    if isinstance(value, list):
        if None in value:
            raise ValueError(f"null in the list {key}")
        return [_without_nulls(each, key) for each in value]
    if isinstance(value, dict):
        return {name: _without_nulls(each, name) for name, each in value.items() if each is not None}
    if isinstance(value, int) and value < 0:
        raise ValueError(f"{key}: {value} is below 0")
    return value


def get(value: Any, *path: str | int) -> Any:
    """Return what stands at a path; None where something on the way is missing or null."""
    for key in path:
        if isinstance(value, list) and isinstance(key, int):
            value = value[key] if len(value) > key else None
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def selects(selector: Any, labels: Mapping[str, str]) -> bool:
    """Say whether a selector takes what has these labels; an empty one takes all, null nothing."""
    if selector is None:
        return False
    asked: dict[str, Callable[[str, list[str]], bool]] = {
        "In": lambda key, values: labels.get(key) in values,
        "NotIn": lambda key, values: labels.get(key) not in values,
        "Exists": lambda key, _: key in labels,
        "DoesNotExist": lambda key, _: key not in labels,
    }
    some = selector.get("matchExpressions") or []
    return {**labels, **(selector.get("matchLabels") or {})} == labels and all(
        asked[each["operator"]](each["key"], each.get("values") or []) for each in some
    )


def labels_of(deployment: Resource) -> dict[str, str]:
    """Return the labels of a Deployment's pods."""
    return get(deployment, "spec", "template", "metadata", "labels") or {}


def pod_of(deployment: Resource) -> Resource:
    """Return the spec of a Deployment's pods."""
    return get(deployment, "spec", "template", "spec") or {}


def place_of(resource: Resource) -> str:
    """Return the namespace of a resource."""
    return get(resource, "metadata", "namespace") or "default"


def quantity(value: object, what: str) -> float:
    """Return the number that a quantity such as 500m, 2 or 512Mi stands for; fail the check if it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(m|k|M|G|Ki|Mi|Gi)?", str(value))
    if found is None:
        raise CheckFailed(what, observed=value, expected="a quantity such as 500m, 2 or 512Mi")
    return round(float(found[1]) * _UNITS[found[2] or ""], 9)


def share_of(value: object, of: int, rounded: Callable[[float], int]) -> int:
    """Return a number, or a share such as "25%" of so many pods."""
    text = str(value)
    return rounded(float(text[:-1]) * of / 100) if text.endswith("%") else int(text)


def evictions(budget: Resource, replicas: int) -> int:
    """Return how many of so many pods, all ready, a PodDisruptionBudget lets evict at once."""
    least, away = (get(budget, "spec", key) for key in ("minAvailable", "maxUnavailable"))
    kept = share_of(least, replicas, math.ceil) if least is not None else 0
    gone = share_of(away, replicas, math.ceil) if away is not None else replicas
    return max(0, min(replicas - kept, gone))


class Pod(NamedTuple):
    """One end of a connection; `namespace` is empty for one outside of the cluster."""

    namespace: str
    labels: dict[str, str]
    ports: dict[str, int]
    address: str = "10.1.2.3"


def connects(policies: list[Resource], source: Pod, target: Pod, port: int, protocol: str = "TCP") -> bool:
    """Say whether network policies let a connection through: out of its source, and into its target."""
    out = _let(policies, "Egress", source, target, target, port, protocol)
    return out and _let(policies, "Ingress", target, source, target, port, protocol)


def _let(
    policies: list[Resource], way: str, own: Pod, other: Pod, target: Pod, port: int, protocol: str
) -> bool:
    specs = []
    for each in policies:
        spec = each["spec"]
        ways = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
        if (
            own.namespace == place_of(each)
            and way in ways
            and selects(spec.get("podSelector") or {}, own.labels)
        ):
            specs.append(spec)
    rules = [rule for spec in specs for rule in spec.get(way.lower()) or []]
    end = "from" if way == "Ingress" else "to"
    return not specs or any(
        (not rule.get(end) or any(_is_peer(each, own.namespace, other) for each in rule[end]))
        and (not rule.get("ports") or any(_is_port(each, target, port, protocol) for each in rule["ports"]))
        for rule in rules
    )


def _is_peer(peer: Resource, namespace: str, other: Pod) -> bool:
    if block := peer.get("ipBlock"):
        inside = [
            ip_address(other.address) in ip_network(each, strict=False) for each in block.get("except") or []
        ]
        return ip_address(other.address) in ip_network(block["cidr"], strict=False) and not any(inside)
    near, names = peer.get("namespaceSelector"), {"kubernetes.io/metadata.name": other.namespace}
    is_near = other.namespace == namespace if near is None else selects(near, names)
    chosen = peer.get("podSelector")
    return bool(other.namespace) and is_near and (chosen is None or selects(chosen, other.labels))


def _is_port(named: Resource, target: Pod, port: int, protocol: str) -> bool:
    asked = named.get("port")
    first = target.ports.get(asked, -1) if isinstance(asked, str) else asked
    fits = first is None or first <= port <= (named.get("endPort") or first)
    return named.get("protocol", "TCP") == protocol and fits
