"""Compose's own reader, a linter and the service's settings on deploy/compose.yaml."""

from __future__ import annotations

import functools
import json
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from course_lib.deployment import DeploymentConfig, Replica, routes
from course_lib.deployment.gateway import longest_end_s
from tests.deploy.manifests import DEPLOY, DOCKERFILE, linter, script

COMPOSE = DEPLOY / "compose.yaml"
OURS = ("replica-1", "replica-2", "worker")


def configured(path: Path) -> subprocess.CompletedProcess[str]:
    command = [script("docker-compose"), "-f", str(path), "config", "--format", "json"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@functools.cache
def services() -> dict[str, Any]:
    """Return the services as Compose understands them, with anchors and defaults resolved."""
    read = configured(COMPOSE)
    assert read.returncode == 0, read.stderr
    return json.loads(read.stdout)["services"]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What make_secrets.py makes."""
    folder = tmp_path_factory.mktemp("deploy") / "secrets"
    command = [sys.executable, str(DEPLOY / "make_secrets.py"), str(folder)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    kept = [path.read_text().strip() for path in folder.iterdir()]
    assert not [text for text in kept if text in told]
    return folder


SPOILED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a misspelt key": (lambda each: each["services"]["worker"].update(depend_on=["redis"]), "depend_on"),
    "a service that is not there": (
        lambda each: each["services"]["gateway"].update(depends_on=["replica-9"]),
        "replica-9",
    ),
    "a secret that is not there": (lambda each: each["secrets"].pop("REDIS_URL"), "REDIS_URL"),
}


@pytest.mark.parametrize(("plant", "word"), SPOILED.values(), ids=SPOILED)
def test_compose_refuses_a_mistake(plant, word: str, tmp_path: Path):
    document = yaml.safe_load(COMPOSE.read_text())
    plant(document)
    (path := tmp_path / "compose.yaml").write_text(yaml.safe_dump(document))

    read = configured(path)

    assert read.returncode != 0
    assert word in read.stderr


def lint(path: Path) -> set[str]:
    command = [linter("compose-lint"), "check", "--no-env", "--format", "json", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    return {each["rule_id"] for each in json.loads(told)["findings"]}


def test_a_linter_finds_nothing_but_that_images_are_named_by_version_and_not_by_digest():
    assert lint(COMPOSE) == {"CL-0019"}


@pytest.mark.parametrize(
    "plant",
    [{"privileged": True}, {"ports": ["6379:6379"]}, {"image": "valkey/valkey:latest"}, {"cap_drop": []}],
    ids=["privileged", "open to the network", "latest", "capabilities"],
)
def test_the_linter_refuses_a_mistake(plant: dict[str, Any], tmp_path: Path):
    document = yaml.safe_load(COMPOSE.read_text())
    document["services"]["redis"].update(plant)
    (path := tmp_path / "compose.yaml").write_text(yaml.safe_dump(document))

    assert lint(path) > {"CL-0019"}


def test_every_service_is_bounded_and_can_change_nothing_and_is_open_to_this_machine_alone():
    for name, each in services().items():
        limits = each["deploy"]["resources"]["limits"]
        assert {"cpus", "memory", "pids"} <= set(limits), name
        assert each["read_only"], name
        assert each["cap_drop"] == ["ALL"], name
        assert each["security_opt"] == ["no-new-privileges:true"], name
        assert all(port["host_ip"] == "127.0.0.1" for port in each.get("ports", [])), name


def test_the_service_accepts_its_settings_with_the_secrets_that_are_made(
    secrets: Path, monkeypatch, tmp_path: Path
):
    for name in OURS:
        for variable, value in services()[name]["environment"].items():
            monkeypatch.setenv(variable, value)
        wanted = {Path(each["target"]).name for each in services()[name]["secrets"]}
        assert wanted <= {path.name for path in secrets.iterdir()}

        config = DeploymentConfig(host="0.0.0.0", _secrets_dir=secrets, records_folder=tmp_path)

        assert config.trace_share == 0.1
        assert config.profile == "production"
        assert [key.name for key in config.api_keys] == ["caller", "prometheus"]
        assert all(
            value in config.shown()[field]
            for field, value in (("redis_url", "redis:6379"), ("queue_url", "rabbitmq:5671"))
        )


def test_the_certificate_is_good_for_each_server_that_has_it(secrets: Path):
    servers = {name for name, each in services().items() if "server.pem" in str(each.get("secrets"))}
    context = ssl.create_default_context(cafile=str(secrets / "ca.pem"))
    context.load_cert_chain(secrets / "server.pem", secrets / "server.key")
    command = ["openssl", "verify", "-CAfile", str(secrets / "ca.pem"), "-verify_hostname"]

    assert servers == {"redis", "postgres", "rabbitmq", "jaeger"}
    for name in servers:
        subprocess.run([*command, name, str(secrets / "server.pem")], check=True, capture_output=True)


def test_the_secrets_are_for_their_owner_and_made_once(secrets: Path):
    again = subprocess.run(
        [sys.executable, str(DEPLOY / "make_secrets.py"), str(secrets)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert secrets.stat().st_mode & 0o777 == 0o700
    assert again.returncode == 1
    assert "exists" in again.stderr


def listening() -> list[str]:
    port = re.search(r"^EXPOSE (\d+)", DOCKERFILE.read_text(), re.MULTILINE)[1]
    return [f"{name}:{port}" for name in services() if name.startswith("replica")]


def test_every_replica_is_watched_by_its_name_which_a_dead_one_keeps():
    (scrape,) = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]

    assert scrape["static_configs"] == [{"targets": listening()}]
    assert not [kind for kind in scrape if kind.endswith("_sd_configs")]  # who left the DNS would not be down


def test_the_routes_are_those_that_the_library_makes():
    replicas = [Replica(f"http://{address}") for address in listening()]

    written = yaml.safe_load((DEPLOY / "gateway" / "routes.yaml").read_text())

    assert written == routes(replicas, config=DeploymentConfig())


def test_traefik_understands_its_words_and_its_routes(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    gateway = services()["gateway"]

    def here(words: list[str]) -> list[str]:
        moved = [word.replace("=:8080", f"={address}") for word in words]
        return [script("traefik"), *[word.replace("/etc/traefik", str(DEPLOY / "gateway")) for word in moved]]

    look = here(gateway["healthcheck"]["test"][2:])

    with subprocess.Popen(here(gateway["command"]), cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        try:
            give_up_at = time.monotonic() + 30
            while subprocess.run(look, cwd=tmp_path, capture_output=True, check=False).returncode:
                assert process.poll() is None
                assert time.monotonic() < give_up_at
            while (answers := httpx.get(f"http://{address}/v1/answers").status_code) == 404:  # no routes yet
                assert time.monotonic() < give_up_at
                time.sleep(0.05)
            metrics = httpx.get(f"http://{address}/metrics").status_code
        finally:
            process.terminate()

    assert (answers, metrics) == (502, 404)  # no replica runs here; and what is told of it has no route


def test_what_is_written_is_on_a_volume_that_the_user_of_the_image_owns():
    for name in OURS:
        folder = services()[name]["environment"]["COURSE_SERVICE_RECORDS_FOLDER"]
        assert [each["target"] for each in services()[name]["volumes"]] == [folder]
        assert (
            f"install --directory --owner 10001 --group 10001 --mode 700 {folder}\n" in DOCKERFILE.read_text()
        )


def test_alerts_go_to_this_machine_or_to_a_named_one(monkeypatch):
    assert services()["alertmanager"]["extra_hosts"] == ["oncall=host-gateway"]
    monkeypatch.setenv("ONCALL_HOST", "192.0.2.7")
    assert "oncall=192.0.2.7" in configured(COMPOSE).stdout


def test_what_is_mounted_is_there():
    volumes = [volume for each in services().values() for volume in each.get("volumes", [])]
    mounted = [Path(volume["source"]) for volume in volumes if volume["type"] == "bind"]

    assert [path for path in mounted if not path.exists()] == []


def test_a_process_has_the_time_that_it_may_take_to_end():
    drain_s = float(services()["worker"]["environment"]["COURSE_SERVICE_DRAIN_S"])
    for name in OURS:
        assert float(services()[name]["stop_grace_period"].removesuffix("s")) > longest_end_s(
            DeploymentConfig(drain_s=drain_s)
        )
