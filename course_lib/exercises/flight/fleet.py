"""Project 5, stages 2 and 3: replicas that come and go; secrets and network.

Main path: SCALED, SECURED -> engine.registry. Functions of a Deployment are tried on some of the check's own.
"""

from __future__ import annotations

import base64
import copy
import itertools
import math
import random
import re
import string
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from course_lib.exercises.engine.checks import expect, expect_equal, without_error
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.flight.manifests import (
    Pod,
    Resource,
    as_taken,
    connects,
    evictions,
    get,
    labels_of,
    place_of,
    pod_of,
    quantity,
    selects,
    share_of,
)

_PORT, _RACK = 8000, "example.com/rack"


# -- stage 2: replicas that come and go ------------------------------------------------------------------


def _word() -> str:
    return "".join(random.choices(string.ascii_lowercase, k=9))


def _given(labels: dict[str, str] | None = None, **pod: Any) -> Resource:
    """Return a Deployment of the check's own."""
    labels = labels or {"app.kubernetes.io/name": _word(), "track": random.choice(["stable", "canary"])}
    tiers = [_word(), _word()]
    box = {
        "name": _word(),
        "image": f"registry.example/{_word()}:7",
        "ports": [{"name": "web", "containerPort": 8000}],
    }
    pod = {"containers": [box], "nodeSelector": {"disk": _word()}, **pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": _word(), "namespace": _word(), "annotations": {"owner": _word()}},
        "spec": {
            "replicas": 3,
            "revisionHistoryLimit": 4,
            "minReadySeconds": random.randint(3, 9),
            "selector": {
                "matchLabels": dict(labels),
                "matchExpressions": [{"key": "tier", "operator": "In", "values": tiers}],
            },
            "template": {
                "metadata": {"labels": {**labels, "tier": tiers[0], "release": _word()}},
                "spec": pod,
            },
        },
    }


def _made(call: Callable[..., Any], given: Resource, *rest: Any, what: str) -> Any:
    """Return what a function makes of a Deployment, which it must leave as it is."""
    handed = copy.deepcopy(given)
    made = without_error(lambda: call(handed, *rest), what)
    expect_equal(handed, given, f"the Deployment handed to {what}, afterwards", hint="copy.deepcopy first.")
    return copy.deepcopy(made)


def _without(deployment: Resource, spec: set[str], pod: set[str], box: set[str]) -> Resource:
    """Return a Deployment without these fields."""
    bare = copy.deepcopy(deployment)
    for key in spec:
        bare["spec"].pop(key, None)
    for key in pod:
        pod_of(bare).pop(key, None)
    for each in (one for kind in ("containers", "initContainers") for one in pod_of(bare).get(kind) or []):
        for key in box:
            each.pop(key, None)
    return bare


def _rolled(rolled: Any) -> tuple[Resource, Resource]:
    own = {"labelSelector": {"matchLabels": {"track": _word()}}, "whenUnsatisfiable": "DoNotSchedule"}
    given = _given(topologySpreadConstraints=[{"maxSkew": 3, "topologyKey": _RACK, **own}])
    return given, as_taken(_made(rolled, given, what="rolled(deployment)"))


def changes_what_it_should(rolled: Any, _: Any) -> None:
    """`rolled` returns a changed copy: rollout, spread and the count of replicas; all else stays."""
    given, made = _rolled(rolled)
    ours = {"replicas", "strategy"}, {"topologySpreadConstraints"}, set[str]()
    expect_equal(_without(made, *ours), _without(given, *ours), "all else of the Deployment")
    count, hint = get(made, "spec", "replicas"), "Each `kubectl apply` would set it again."
    expect_equal(count, None, "replicas of the Deployment, which the autoscaler sets", hint=hint)


def releases_in_turn(rolled: Any, _: Any) -> None:
    """A release takes no pod away before its successor is ready, at any count of replicas."""
    strategy = get(_rolled(rolled)[1], "spec", "strategy") or {}
    expect_equal(strategy.get("type", "RollingUpdate"), "RollingUpdate", "type of the strategy")
    step = strategy.get("rollingUpdate") or {}
    for count in range(1, 31):
        away = share_of(step.get("maxUnavailable", "25%"), count, math.floor)
        more = share_of(step.get("maxSurge", "25%"), count, math.ceil)
        told = f"{away} away and {more} more, of {count} replicas"
        expect(away == 0 and more > 0, observed=told, expected="0 away and 1 or more more")


def spreads(rolled: Any, _: Any) -> None:
    """The pods are spread over zones and over nodes, 1 apart; where it cannot be, they run anyway."""
    given, made = _rolled(rolled)
    found = pod_of(made).get("topologySpreadConstraints") or []
    for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname"):
        own = [each for each in found if each.get("topologyKey") == key]
        seen = [(each.get("maxSkew"), each.get("whenUnsatisfiable")) for each in own]
        expect_equal(seen, [(1, "ScheduleAnyway")], f"maxSkew and whenUnsatisfiable of {key}")
        _expect_own(get(own[0], "labelSelector"), given, f"the pods that are spread by {key}")
        apart = own[0].get("matchLabelKeys") or []
        expect_equal(apart, [], f"matchLabelKeys of {key}: pods of all releases are spread together")
    left = [each for each in found if each.get("topologyKey") == _RACK]
    expect_equal(
        left, pod_of(given)["topologySpreadConstraints"], f"its own constraint of {_RACK}, which stays"
    )


def _expect_own(selector: Any, given: Resource, what: str) -> None:
    """Fail the check unless a selector takes the Deployment's pods, of each release, and no others."""
    own = {**get(given, "spec", "selector", "matchLabels"), "tier": labels_of(given)["tier"]}
    pods = {"its own": labels_of(given), "its own of the next release": {**own, "release": _word()}}
    pods |= {f"one with another {key}": {**labels_of(given), key: _word()} for key in own}
    seen = [name for name, labels in pods.items() if selects(selector, labels)]
    hint = "The Deployment's own selector says which pods are its own."
    expect_equal(seen, ["its own", "its own of the next release"], what, hint=hint)


def _scaled(scaled: Any, least: int = 3, most: int = 12) -> tuple[Resource, Resource, Resource]:
    given, what = _given(), f"scaled(deployment, {least}, {most})"
    made = _made(scaled, given, least, most, what=what)
    kinds = sorted(str(get(each, "kind")) for each in made) if isinstance(made, list | tuple) else made
    expect_equal(kinds, ["HorizontalPodAutoscaler", "PodDisruptionBudget"], f"what {what} returns")
    scaler, budget = sorted((as_taken(each) for each in made), key=lambda each: str(each["kind"]))
    for each in (scaler, budget):
        expect_equal(place_of(each), place_of(given), f"namespace of the {each['kind']}")
    return given, scaler, budget


def scales(_: Any, scaled: Any) -> None:
    """The autoscaler holds `least` to `most` replicas by requests in flight, 20 a pod; it shrinks slowly."""
    for least, most in ((2, 5), (3, 40)):
        given, scaler, _budget = _scaled(scaled, least, most)
        spec = scaler["spec"]
        wanted = {"apiVersion": "apps/v1", "kind": "Deployment", "name": given["metadata"]["name"]}
        expect_equal(spec.get("scaleTargetRef"), wanted, "what is scaled")
        bounds = spec.get("minReplicas", 1), spec.get("maxReplicas")
        expect_equal(bounds, (least, most), "minReplicas and maxReplicas")
        seen = [
            (
                get(each, "pods", "metric", "name"),
                each.get("type"),
                quantity(get(each, "pods", "target", "averageValue") or 0, "averageValue"),
            )
            for each in spec.get("metrics") or []
        ]
        expect_equal(seen, [("desk_requests_in_flight", "Pods", 20)], "what it scales by")
        for way, default, fits in (("scaleUp", 0, (0,)), ("scaleDown", 300, range(300, 3_601))):
            wait_s = get(spec, "behavior", way, "stabilizationWindowSeconds")
            wait_s = default if wait_s is None else wait_s
            wanted_s = "0" if way == "scaleUp" else "300 to 3600"
            expect(wait_s in fits, f"seconds that {way} waits", observed=wait_s, expected=wanted_s)
            if way == "scaleUp":
                slow = [
                    each
                    for each in get(spec, "behavior", way, "policies") or []
                    if each["periodSeconds"] > 60
                ]
                expect_equal(slow, [], "policies of scaleUp that hold it back for over a minute")
            off = get(spec, "behavior", way, "selectPolicy")
            expect(off != "Disabled", f"selectPolicy of {way}", observed=off, expected="not Disabled")


def can_be_emptied(_: Any, scaled: Any) -> None:
    """At each count from `least` to `most` a pod can be evicted, and never more than half of them."""
    for least, most in ((2, 5), (3, 40), (7, 9)):
        given, _scaler, budget = _scaled(scaled, least, most)
        _expect_own(get(budget, "spec", "selector"), given, "the pods that the budget protects")
        for count in range(least, most + 1):
            away = evictions(budget, count)
            what = f"pods that may be evicted of {count}, where least is {least} and most {most}"
            expect(1 <= away <= count // 2, what, observed=away, expected=f"1 to {count // 2}")


# -- stage 3: secrets and network ------------------------------------------------------------------------

_OUTSIDE = "outside of the cluster"


def _secrets() -> dict[str, str]:
    word = _word() + "'\"\\" + _word().upper()
    return {
        f"{_word().upper()}_URL": f"postgresql://desk:{word}@db.data/desk",
        f"{_word().upper()}_KEY": f"sk-{_word()}",
    }


def _sealed(sealed: Any) -> tuple[Resource, dict[str, str], Resource, Resource]:
    secrets = _secrets()
    plain = [{"name": _word().upper(), "value": _word()} for _ in range(2)]
    variables = [*plain, *({"name": name, "value": value} for name, value in secrets.items())]
    random.shuffle(variables)
    variables.append({"name": f"A{_word().upper()}", "value": f"{_word()}-$({random.choice([*secrets])})"})
    kept = {"secretKeyRef": {"name": _word(), "key": _word()}}  # one that comes from elsewhere as it is
    away = {"name": f"{_word().upper()}_TOKEN", "valueFrom": kept}
    given = _given(
        initContainers=[
            {
                "name": _word(),
                "image": "registry.example/migrate:7",
                "env": [*copy.deepcopy(variables[-2::-1]), copy.deepcopy(variables[-1]), away],
            },
            {"name": _word(), "image": "registry.example/wait:7", "env": copy.deepcopy(plain)},
        ]
    )
    pod_of(given)["containers"][0]["env"] = variables
    made, what = (
        _made(sealed, given, sorted([*secrets, away["name"]]), what="sealed(deployment, secrets)"),
        "what sealed returns",
    )
    kinds = [get(each, "kind") for each in made] if isinstance(made, list | tuple) else made
    expect_equal(kinds, ["Deployment", "ServiceAccount"], what)
    return given, secrets, as_taken(made[0]), as_taken(made[1])


def keeps_secrets(sealed: Any, _: Any) -> None:
    """No variable holds a secret's value any more, plain or in base64, and no Secret is returned."""
    _given_one, secrets, *made = _sealed(sealed)

    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, dict | list):
            for each in [*value, *(value.values() if isinstance(value, dict) else ())]:
                yield from texts(each)
        else:
            yield str(value)

    for name, value in secrets.items():
        forms = value, base64.b64encode(value.encode()).decode()
        found = any(form in text for text, form in itertools.product(texts(made), forms))
        expect(
            not found,
            f"the value of {name}, a secret",
            observed="it is in the manifest",
            expected="not there",
        )


def _named(variables: Mapping[str, object], found: re.Match[str]) -> str:
    """Return the value of $(NAME), which Kubernetes puts in where the variable stands before."""
    return str(variables.get(found[1], found[0]))


def _environment(box: Resource, secrets: Mapping[str, str]) -> dict[str, object]:
    """Return a container's variables where the Secret desk-secrets holds these."""
    found: dict[str, object] = {}
    for each in box.get("envFrom") or []:
        if get(each, "secretRef", "name") == "desk-secrets":
            found |= {f"{each.get('prefix') or ''}{name}": value for name, value in secrets.items()}
    for each in box.get("env") or []:
        asked = get(each, "valueFrom", "secretKeyRef") or {}
        kept = secrets.get(asked.get("key", "")) if asked.get("name") == "desk-secrets" else None
        plain = re.sub(r"\$\((\w+)\)", partial(_named, found), each.get("value") or "")
        found[each["name"]] = kept if "valueFrom" in each else plain
    return found


def _is_foreign(variable: Resource) -> bool:
    name = get(variable, "valueFrom", "secretKeyRef", "name")
    return name is not None and name != "desk-secrets"


def starts_as_before(sealed: Any, _: Any) -> None:
    """With the Secret `desk-secrets`, every container has the variables that it had; all else stays."""
    given, secrets, made, _account = _sealed(sealed)
    for kind in ("containers", "initContainers"):
        for before, after in zip(pod_of(given)[kind], pod_of(made).get(kind) or [], strict=False):
            wanted, seen = _environment(before, {}), _environment(after, secrets)
            odd = sorted(name for name in {*wanted, *seen} if wanted.get(name) != seen.get(name))
            expect_equal(odd, [], f"variables of {kind} with another value than before")
            away = [each["name"] for each in before.get("env") or [] if _is_foreign(each)]
            there = _environment(after, {**secrets, **dict.fromkeys(away, "kept")})
            gone = [name for name in away if name not in there]
            expect_equal(gone, [], f"variables of {kind} that came from a Secret before, and are gone")
    ours = (
        set[str](),
        {"serviceAccountName", "automountServiceAccountToken", "enableServiceLinks"},
        {"env", "envFrom"},
    )
    expect_equal(_without(made, *ours), _without(given, *ours), "all else of the Deployment")


def holds_no_token(sealed: Any, _: Any) -> None:
    """The pods run under the ServiceAccount that is returned, and its token is not mounted."""
    given, _secrets_of, made, account = _sealed(sealed)
    names = pod_of(made).get("serviceAccountName"), place_of(account)
    expect_equal(
        names, (account["metadata"]["name"], place_of(given)), "service account of the pods, and where it is"
    )
    expect(names[0] != "default", "name of the account", observed=names[0], expected="one of their own")
    said = [get(pod_of(made), "automountServiceAccountToken"), account.get("automountServiceAccountToken")]
    mounted = next((each for each in said if each is not None), True)
    expect_equal(mounted, False, "whether the token is mounted: what the pod says, else its account")


def lets_through(_: Any, network: Any) -> None:
    """Nothing goes in or out of any pod of the namespace, but what the task names."""
    given = _given()
    place, labels, dns = place_of(given), labels_of(given), {"k8s-app": "kube-dns"}
    made = _made(network, given, what="network(deployment)")
    expect(
        isinstance(made, list | tuple), "what network returns", observed=made, expected="a list of resources"
    )
    policies = [as_taken(each) for each in made]
    kinds = {(each["kind"], place_of(each)) for each in policies}
    expect_equal(kinds, {("NetworkPolicy", place)}, "kinds and namespaces of what network returns")
    names_of = sorted(each["metadata"]["name"] for each in policies)
    expect_equal(names_of, sorted({*names_of}), "names of the policies, of which no two are alike")
    own, near, far = (
        Pod(*each, {"web": _PORT}) for each in ((place, labels), (place, {"app": _word()}), (_word(), labels))
    )
    outside, meta = Pod("", {}, {}, "203.0.113.7"), Pod("", {}, {}, "169.254.169.254")
    others = {
        name: Pod(name, {"app": _word()}, {"web": _PORT})
        for name in ("gateway", "monitoring", "data", "kube-system")
    }
    names = {"another pod of the namespace": near, "one with these labels in another namespace": far}
    names |= {
        **others,
        _OUTSIDE: outside,
        "the cloud's metadata": meta,
        "kube-dns": Pod("kube-system", dns, {}),
    }
    right = {("gateway", "in", 8000, "TCP"), ("monitoring", "in", 8000, "TCP"), ("data", "out", 5432, "TCP")}
    right |= {("data", "out", 6379, "TCP"), ("kube-dns", "out", 53, "UDP"), ("kube-dns", "out", 53, "TCP")}
    hint = "A policy that selects all pods ({}) and allows nothing closes both ways; others open again."
    ports = 8000, 5432, 6000, 6379, 53, 443, 22
    asked = itertools.product(names, ("in", "out"), ports, ("TCP", "UDP", "SCTP"))
    for name, way, port, protocol in sorted(asked, key=lambda each: each not in right):
        source, target = (names[name], own) if way == "in" else (own, names[name])
        seen, told = connects(policies, source, target, port, protocol), ("refused", "let through")
        what = f"a connection {way}: {'from' if way == 'in' else 'to'} {name}, port {port}, {protocol}"
        expect_equal(told[seen], told[(name, way, port, protocol) in right], what, hint=hint)
    sister = Pod(place, {**labels, "tier": _word()}, {"web": _PORT})
    asked_of = itertools.product((near, sister), ("gateway", "data", _OUTSIDE), ("in", "out"), (8000, 5432))
    for each, name, way, port in asked_of:
        source, target = (names[name], each) if way == "in" else (each, names[name])
        seen = connects(policies, source, target, port)
        what = f"a connection {way} of another pod of the namespace, at its other end: {name}"
        expect(not seen, what, observed="let through", expected="refused", hint=hint)


SCALED = Exercise(
    title="Replicas that come and go",
    minutes=10,
    difficulty="medium",
    hints=(
        "copy.deepcopy(deployment), then change the copy. The Deployment's spec.selector says which pods are "
        "its own: constraints and budget take it as it is.",
        "maxUnavailable: 0 of a rollout and maxUnavailable: 1 of a budget are two things: a release, and a "
        "machine that is emptied. A budget with minAvailable: least forbids every eviction at night.",
    ),
    checks=(changes_what_it_should, releases_in_turn, spreads, scales, can_be_emptied),
    why="One hand sets the count of replicas: the autoscaler. A budget in maxUnavailable holds at every "
    "count, one in minAvailable only while it is below the least. A replica waits for its model, so its "
    "processor says little: requests in flight do.",
)
SECURED = Exercise(
    title="Secrets and network",
    minutes=10,
    difficulty="medium",
    hints=(
        "valueFrom: {secretKeyRef: {name: desk-secrets, key: ...}} in place of value. Init containers have "
        "an environment too.",
        "podSelector: {} with both policyTypes and no rules closes the namespace. Each further policy "
        "opens something, for the pods that it selects: the Deployment's own.",
        "`from` and `to` are lists of peers. namespaceSelector and podSelector in one peer: both must hold; "
        "in two peers: one is enough. A namespace's name is its label kubernetes.io/metadata.name.",
    ),
    checks=(keeps_secrets, starts_as_before, holds_no_token, lets_through),
    why="What is in a manifest is in the repository, and base64 hides nothing. The network begins closed for "
    "all pods of the namespace, so a new one is closed too; and each opening names both ends and the port. A "
    "program that asks nothing of the cluster holds no token for it.",
)
