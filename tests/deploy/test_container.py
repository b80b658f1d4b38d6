"""The image's commands, run as its container would run them; no image is built here, for want of an engine.

Where Linux lets this user make namespaces, the process is what the manifests ask for: the image's user, with
no capability, on a read-only file system with one folder in memory that it can write to. Elsewhere it is a
plain process. Settings are in the environment, and secrets in files; what is not in the image is hidden.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from course_lib.deployment.callers import make_key
from course_lib.deployment.config import DeploymentConfig
from course_lib.deployment.gateway import longest_end_s
from course_lib.paths import ROOT
from course_lib.services import Server, running_queue
from tests.deploy.manifests import DOCKERFILE, LISTED
from tests.deployment.settings import JWT_SECRET, SIGNING_KEY

SETTINGS = {"COURSE_SERVICE_PROFILE": "production", "COURSE_SERVICE_DRAIN_S": "10"}
APART = [
    *["unshare", "--user", "--map-user=10001", "--map-group=10001", "--keep-caps", "--mount", "sh", "-c"],
    'mount -o remount,bind,ro / && mount -t tmpfs tmpfs "$0" && '
    'exec setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all --no-new-privs "$@"',
]


def is_apart(folder: Path) -> bool:
    """Return whether a process can be set apart here, with this folder as all that it can write to."""
    try:
        command = [
            *APART,
            str(folder),
            "sh",
            "-c",
            'touch "$0/a" && ! touch "$1/a" && id -u',
            str(folder),
            str(ROOT),
        ]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return False
    return told.stdout == "10001\n"


_BLOCK = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"{{name}} is not in the image", name=name)
sys.meta_path.insert(0, Missing())
"""


def installed(names: Iterable[Requirement]) -> set[str]:
    """Return what is installed with these, by the rules of this machine."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [(each.name, frozenset(each.extras)) for each in names]
    while waiting:
        name, extras = key = waiting.pop()
        if key in found or not (known := _distribution(name)):
            continue
        found.add(key)
        wanted = [Requirement(text) for text in known.requires or ()]
        waiting += [
            (each.name, frozenset(each.extras))
            for each in wanted
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", *extras))
        ]
    return {canonicalize_name(name) for name, _ in found}


def _distribution(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:  # pyproject.toml leaves it out
        return None


@pytest.fixture
def without_the_rest(tmp_path: Path) -> Path:
    """A folder that, on the path of a Python, hides from it what the image does not have."""
    kept = installed(LISTED)
    packages = packages_distributions().items()
    missing = {top for top, owners in packages if not kept & {canonicalize_name(each) for each in owners}}
    (folder := tmp_path / "hides").mkdir()
    (folder / "sitecustomize.py").write_text(_BLOCK.format(missing=missing - {"course_lib"}))
    return folder


def image_environment(tmp: Path, path: Path, port: int) -> dict[str, str]:
    """Return the variables of the image, with this machine's places."""
    text = DOCKERFILE.read_text().split("ENV ")[1].split("\nUSER")[0].replace("\\\n", " ")
    found = dict(each.split("=", 1) for each in text.split())
    found = {name: value.replace("/tmp", str(tmp)) for name, value in found.items() if name != "PATH"}
    return {
        **found,
        "PATH": os.defpath,
        "TMPDIR": str(tmp),
        "PYTHONPATH": f"{path}{os.pathsep}{ROOT}",
        "COURSE_SERVICE_HOST": "127.0.0.1",  # tests open nothing to others
        "COURSE_SERVICE_PORT": str(port),
        **SETTINGS,
    }


@pytest.fixture
def reachable(
    own_redis: Server, postgres: Server, service_url: str, short_folder: Path
) -> Iterator[dict[str, str]]:
    """The addresses of a Redis, a database and a queue; where root runs them, others reach them too."""
    line = postgres.folder / postgres.socket
    data, mode = line.parent, line.parent.stat().st_mode
    data.chmod(mode | 0o001)
    line.chmod(0o777)
    with running_queue(short_folder / "queue", kind="nats") as queue:
        yield {"REDIS_URL": own_redis.url, "DATABASE_URL": service_url, "AMQP_URL": queue.url}
    data.chmod(mode)  # with others in it, PostgreSQL would not start again


@contextmanager
def container(
    folder: Path, command: str, secrets: dict[str, str], port: int = 0
) -> Iterator[subprocess.Popen]:
    """Run a command of the image until the end of the block."""
    tmp, kept = folder / f"{command}-tmp", folder / f"{command}-secrets"
    tmp.mkdir()
    kept.mkdir()
    for name, text in secrets.items():
        (kept / name).write_text(f"{text}\n")
    apart = [*APART, str(tmp)] if is_apart(tmp) else []
    process = subprocess.Popen(
        [*apart, sys.executable, "-m", "course_lib.cli", command, "--secrets", str(kept)],
        env=image_environment(tmp, folder / "hides", port),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()


def answers(client: httpx.Client, process: subprocess.Popen) -> None:
    give_up_at, told = time.monotonic() + 60, "nothing"
    while True:
        assert process.poll() is None, process.stderr.read()[-2000:]
        assert time.monotonic() < give_up_at, f"it is not ready, and told {told}"
        try:
            ready = client.get("/health/ready")
            told = ready.text
            if ready.status_code == 200 and ready.json()["status"] == "ok":
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)


def ended_s(process: subprocess.Popen) -> float:
    begun_s = time.monotonic()
    process.terminate()
    process.wait(longest_end_s(DeploymentConfig()))
    return time.monotonic() - begun_s


# Some ten seconds: two processes of the service import all of it, and say for NOTICE_S that they end.
def test_a_replica_and_a_worker_run_as_a_user_that_can_write_to_one_folder_and_end_on_sigterm(
    reachable: dict[str, str], without_the_rest: Path, tmp_path: Path
):
    key, entry = make_key("caller", "lantern", ["ask"])
    secrets = {
        "COURSE_SERVICE_JWT_SECRET": JWT_SECRET,
        "COURSE_SERVICE_SIGNING_KEY": SIGNING_KEY,
        "COURSE_SERVICE_API_KEYS": json.dumps([entry.model_dump(mode="json")]),
        **reachable,
    }
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        container(tmp_path, "replica", secrets, port) as replica,
        container(tmp_path, "worker", secrets) as worker,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": key}, timeout=20) as client,
    ):
        answers(client, replica)
        said = client.post("/v1/answers", json={"question": "What does shipping cost?"})
        job = client.post("/v1/jobs", json={"program": "answer", "inputs": ["How long is the warranty?"]})
        give_up_at = time.monotonic() + 60
        while client.get(job.headers["location"]).json()["status"] != "done":
            assert worker.poll() is None, worker.stderr.read()[-2000:]
            assert time.monotonic() < give_up_at, "the job is not done"
            time.sleep(0.05)
        written = said.json()["answer"]
        worker.terminate()
        took_s = ended_s(replica)
        worker.wait(longest_end_s(DeploymentConfig()))

    assert written.startswith("Standard shipping")
    assert took_s < longest_end_s(DeploymentConfig())
    assert worker.returncode == 0
    assert replica.returncode in (0, -signal.SIGTERM)
