"""Isolation for every test: own caches, own progress, no network beyond loopback."""

from __future__ import annotations

import ipaddress
import multiprocessing.util
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from course_lib.authoring.kernel import CHOICES
from course_lib.paths import ROOT
from course_lib.services.server import close_all
from tests import leftovers
from tests.servers import (  # noqa: F401  # fixtures
    _redis_of_this_run,
    database_url,
    own_redis,
    postgres,
    redis_url,
    short_folder,
)

# Read by DSPy and LiteLLM at import or first use, so set before any test module is imported.
_RUN = leftovers.begin()
_WORKER = os.environ.get("PYTEST_XDIST_WORKER")
_SCRATCH = _RUN / f"scratch-{_WORKER}"
os.environ["DSPY_CACHEDIR"] = str(_SCRATCH / "dspy_cache")
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["COURSE_WORK"] = str(_SCRATCH / "work")
os.environ["COURSE_CACHE"] = str(ROOT / "build" / "cache")  # vectors of texts, for the next run too
for name in CHOICES:
    os.environ.pop(name, None)

TESTS = Path(__file__).parent
FIRST = (
    *("notebooks/test_exercises", "notebooks/test_running", "browser/", "exercises/"),
    *("deployment/test_stack", "flight/test_launch", "services/", "lm/"),
)
"""Long files, begun first and in this order, so that at the end of a run no worker waits for another's."""
NOT_QUICK = (
    *("browser/", "deploy/", "notebooks/", "services/", "traps/"),
    *("adapters/data/", "adapters/tools/test_injections", "adapters/tools/test_over_mcp"),
    *("authoring/test_execution", "authoring/test_proof", "test_cli", "desk/test_act"),
    *("deployment/test_kills", "deployment/test_worker", "deployment/test_stack", "deployment/test_fuzz"),
    *("caching/batch/", "caching/semantic/", "caching/test_faults", "caching/test_lease"),
    *("deployment/test_gateway", "deployment/test_quotas"),
    *("deployment/test_audit", "deployment/test_customers", "deployment/test_database"),
    *("concurrency/test_events", "exercises/test_", "exercises/engine/test_in_ipython"),
    *("flight/", "labs/test_flight_view"),
    *(
        "labs/test_mission_control_view",
        "labs/test_usage_meter",
        "lm/endpoint/",
        "lm/simulator/",
        "lm/test_connection",
        "lm/test_encoder",
        "lm/test_process",
    ),
)
"""Files and folders that `make quick` leaves out: long ones, and those in which servers are killed."""


def _is_local(address: object) -> bool:
    if not isinstance(address, tuple):
        return True  # a unix socket
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return address[0] == "localhost"


@pytest.fixture(autouse=True, scope="session")
def _loopback_only() -> Iterator[None]:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        assert _is_local(address), f"a test tried to reach {address!r}; only loopback is allowed"
        connect(self, address)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="leave out what takes long: see NOT_QUICK")


def _is_among(path: Path, prefixes: tuple[str, ...]) -> bool:
    return path.is_relative_to(TESTS) and f"{path.relative_to(TESTS)}/".startswith(prefixes)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out long files when --quick asks for it."""
    return True if config.getoption("--quick") and _is_among(collection_path, NOT_QUICK) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files; the order within a file stays.

    An id that holds an address differs from process to process, and the workers would refuse to run anything.
    """
    if named := [item.nodeid for item in items if re.search(r" at 0x[0-9a-f]{6}", item.nodeid)]:
        raise pytest.UsageError(f"{named[0]} has an address in its id; give its parameters ids=[...]")
    order = {path: [_is_among(path, (each,)) for each in FIRST] for path in {item.path for item in items}}
    items.sort(key=lambda item: order[item.path], reverse=True)


class ByFile(LoadFileScheduling):
    """The tests of a file run in one worker, one after the other; each notebook in any."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if "test_running" in nodeid else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """Use it in place of `--dist loadfile`."""
    return ByFile(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """Two workers more than cores: notebooks and proofs wait most of the time, for processes and answers."""
    return (os.cpu_count() or 1) + 2


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Keep the folders of `tmp_path` in the run's own, unless --basetemp says where."""
    config.option.basetemp = config.option.basetemp or _RUN / "tmp_path"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Fail a run that leaves files or processes; they are looked for when its workers have ended."""
    yield
    multiprocessing.util._run_finalizers()  # the forking server's folder; xdist waits 10 s for all
    close_all()
    if _WORKER is None and (left := leftovers.end(_RUN)):
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter.section("left behind by this run", red=True)
        reporter.write_line("\n".join(left))
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of every async test."""
    return "asyncio"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty learner's folder of this test's own."""
    folder = tmp_path / "work"
    monkeypatch.setenv("COURSE_WORK", str(folder))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))  # where Jupyter notes whom it trusts
    return folder
