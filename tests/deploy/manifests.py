"""What deploy/ says, rendered by the tools that read it, and what validators and linters find wrong in it."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator
from packaging.requirements import Requirement

from course_lib.paths import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "image" / "Dockerfile"
LISTED = [
    Requirement(line)
    for line in (DEPLOY / "image" / "requirements.txt").read_text().splitlines()
    if not line.startswith("#")
]
"""What the image installs by name."""
OVERLAYS = ("staging", "production")
Resources = list[dict[str, Any]]
Plant = Callable[[dict[str, Any]], Any]
"""Spoils a Deployment."""

_TEXT = {"type": "string", "minLength": 1}
_BACKENDS = {
    "type": "array",
    "maxItems": 16,
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "port"],
        "properties": {
            "name": _TEXT,
            "port": {"type": "integer", "minimum": 1, "maximum": 65_535},
            "weight": {"type": "integer", "minimum": 0, "maximum": 1_000_000},
        },
    },
}
_MATCH = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "path": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"type": {"enum": ["Exact", "PathPrefix", "RegularExpression"]}, "value": _TEXT},
        },
        "headers": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "value"],
                "properties": {"name": _TEXT, "value": _TEXT},
            },
        },
    },
}
_RULE = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "matches": {"type": "array", "items": _MATCH},
        "timeouts": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"request": {"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}},
        },
        "backendRefs": _BACKENDS,
    },
}
ROUTE = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "parentRefs": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name"],
                "properties": {"name": _TEXT, "namespace": _TEXT},
            },
        },
        "hostnames": {"type": "array", "items": _TEXT},
        "rules": {"type": "array", "maxItems": 16, "items": _RULE},
    },
}
"""The spec of an HTTPRoute of gateway.networking.k8s.io/v1: the part of its schema that is used here.

Kubernetes' own schemas have no custom resources, and those of the Gateway API are in no package.
"""


def script(name: str) -> str:
    """Return a program of this environment."""
    return str(Path(sys.executable).with_name(name))


@functools.cache
def _rendered(overlay: str | Path) -> str:
    command = [script("kubectl"), "kustomize", str(DEPLOY / "kubernetes" / "overlays" / overlay)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def rendered(overlay: str | Path) -> Resources:
    """Return the resources of an overlay, one of ours or in a folder, for this caller to change."""
    return list(yaml.safe_load_all(_rendered(overlay)))


def find(resources: Resources, kind: str, name: str = "desk") -> dict[str, Any]:
    """Return the resource of a kind; the name of a ConfigMap is without its hash."""
    return next(
        each
        for each in resources
        if each["kind"] == kind and f"{each['metadata']['name']}-".startswith(f"{name}-")
    )


def kubernetes_version() -> str:
    """Return the version that all of it is checked against: the one whose policy production enforces."""
    labels = next(each for each in rendered("production") if each["kind"] == "Namespace")["metadata"][
        "labels"
    ]
    return labels["pod-security.kubernetes.io/enforce-version"].removeprefix("v")


def problems(resources: Resources) -> list[str]:
    """Return what strict validation says against resources, as kind/name: what."""
    found = []
    for each in resources:
        name = f"{each['kind']}/{each['metadata']['name']}"
        try:
            if each["kind"] == "HTTPRoute":
                Draft202012Validator(ROUTE).validate(each["spec"])
            else:
                kubernetes_validate.validate(each, kubernetes_version(), strict=True)
        except Exception as error:  # border: of two libraries
            found.append(f"{name}: {getattr(error, 'message', error)}")
    return found


def planted(plant: Plant, kind: str = "Deployment", name: str = "desk") -> Resources:
    """Return one of production's resources, spoiled."""
    resource = find(rendered("production"), kind, name)
    plant(resource)
    return [resource]


# -- linters in an environment of their own ----------------------------------------------------------------


def linter(name: str) -> str:
    """Return a linter's program; where it is not installed, skip the test, or fail it in CI."""
    path = ROOT / "build" / "linters" / "bin" / name
    if not path.exists():
        missing = f"{name} is not installed; run: make linters"
        is_needed = os.environ.get("CI") == "true" and not os.environ.get("COURSE_WITHOUT_LINTERS")
        (pytest.fail if is_needed else pytest.skip)(missing)
    return str(path)


def failed_policies(folder: Path, scratch: Path) -> dict[str, set[str]]:
    """Return the ids of the policies that each manifest of a folder breaks, by the file's name."""
    command = [linter("checkov"), "-d", str(folder), "--framework", "kubernetes", "--skip-download"]
    told = subprocess.run(
        [*command, "--compact", "-o", "json"],
        env={**os.environ, "TMPDIR": str(scratch), "CKV_SKIP_PACKAGE_UPDATE_CHECK": "True"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    results = json.loads(told.stdout)["results"]
    assert not results["parsing_errors"], told.stderr
    found: dict[str, set[str]] = {path.name: set() for path in folder.iterdir()}
    for each in results["failed_checks"]:
        found[Path(each["file_path"]).name].add(each["check_id"])
    return found
