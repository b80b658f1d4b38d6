"""Project 5 of section 6: what a cluster would take, evict and let through."""

from __future__ import annotations

import pytest

from course_lib.exercises.engine.checks import CheckFailed
from course_lib.exercises.flight.manifests import Pod, connects, evictions, read

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: desk, annotations: null}
spec: {selector: {app: desk}, ports: [{port: 80}]}
"""
DESK, OUTSIDE = Pod("desk", {"app": "desk"}, {"http": 8000}), Pod("", {}, {}, "203.0.113.7")


def policy(**spec: object) -> dict[str, object]:
    return {"metadata": {"namespace": "desk"}, "spec": {"podSelector": {}, **spec}}


def test_a_resource_is_read_without_its_nulls():
    assert read(SERVICE, "Service")["metadata"] == {"name": "desk"}


HOSTILE = {
    "no text": (b"kind: Service", "bytes"),
    "too long": ("#" * 100_001, "100,001 characters"),
    "a circle": ("kind: &a [*a]", "Circular reference"),
    "deep": ("[" * 20_000, "brackets more than 50 deep"),
    "a tag": ("!!python/object/apply:os.getcwd []", "ConstructorError"),
    "many aliases": ("a: &a x\nb: [" + "*a, " * 17 + "]", "17 aliases"),
    "a key twice": (SERVICE + "kind: Service", "'kind' twice"),
    "a date": (SERVICE.replace("null", "{at: 2026-11-27}"), "not JSON serializable"),
    "two": (f"{SERVICE}---{SERVICE}", "'Service', 'Service'"),
    "no name": (SERVICE.replace("name: desk, ", ""), "got None"),
    "null in a list": (SERVICE.replace("[{port: 80}]", "[null]"), "ports"),
    "below 0": (SERVICE.replace("80", "-80"), "-80"),
    "another kind": (SERVICE.replace("Service", "Servise"), "Servise"),
}


@pytest.mark.parametrize(("text", "words"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_text_that_is_no_service_is_told_in_a_line(text, words):
    with pytest.raises(CheckFailed) as failed:
        read(text, "Service")

    assert words in str(failed.value)
    assert len(str(failed.value)) < 500


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        ({"minAvailable": 2}, 3),
        ({"minAvailable": "50%"}, 2),
        ({"maxUnavailable": "25%"}, 2),
        ({"minAvailable": 9}, 0),
    ],
)
def test_a_share_of_five_pods_is_rounded_up(spec, allowed):
    assert evictions({"spec": spec}, 5) == allowed


def test_a_policy_without_types_closes_only_the_way_in():
    closed = [policy()]

    assert connects(closed, DESK, OUTSIDE, 443)
    assert not connects(closed, OUTSIDE, DESK, 8000)


def test_a_named_port_is_that_of_the_target():
    opened = [policy(ingress=[{"ports": [{"port": "http"}]}])]

    assert connects(opened, OUTSIDE, DESK, 8000)
    assert not connects(opened, OUTSIDE, DESK, 8001)


def test_a_block_of_addresses_has_exceptions_and_ports_a_range():
    block = {"cidr": "0.0.0.0/0", "except": ["203.0.113.0/24"]}
    opened = [
        policy(
            policyTypes=["Egress"],
            egress=[{"to": [{"ipBlock": block}], "ports": [{"port": 1, "endPort": 99}]}],
        )
    ]

    assert connects(opened, DESK, OUTSIDE._replace(address="198.51.100.1"), 80)
    assert not connects(opened, DESK, OUTSIDE._replace(address="198.51.100.1"), 443)
    assert not connects(opened, DESK, OUTSIDE, 80)


def test_selectors_in_one_peer_must_both_hold_and_an_empty_one_takes_all_namespaces():
    peer = {
        "namespaceSelector": {},
        "podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
    }
    opened = [policy(ingress=[{"from": [peer]}])]

    assert connects(opened, Pod("games", {"app": "chess"}, {}), DESK, 8000)
    assert not connects(opened, Pod("games", {}, {}), DESK, 8000)
    assert not connects(opened, OUTSIDE, DESK, 8000)
