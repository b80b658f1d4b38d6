"""Requests drawn from the service's own OpenAPI document: no 5xx, no undocumented status, no way in."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from course_lib.deployment.config import DeploymentConfig
from course_lib.deployment.guard import OPEN
from course_lib.deployment.stack import Process
from course_lib.services import running_queue
from course_lib.services.child import CLOSE
from tests.deployment.serving import callers
from tests.deployment.settings import SIGNING_KEY
from tests.models import model  # noqa: F401  # fixture

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
QUICK, SOAK = 500, 5_000


@pytest.fixture
def address(redis_url: str, service_url: str) -> Iterator[tuple[str, str]]:
    """The address of a service with all its parts, and a key with every role."""
    keys, entries = callers()
    config = DeploymentConfig(
        redis_url=redis_url,
        database_url=service_url,
        queue_url=running_queue(kind="nats").url,
        api_keys=entries,
        signing_key=SIGNING_KEY,
        requests_per_minute=1_000_000,
        max_question_chars=200,
    )
    replica = Process("the replica", config, listens=True)
    try:
        replica.start()
        replica.wait()
        yield replica.url, keys["lantern"]
    finally:
        replica.stop(CLOSE)


Seen = list[tuple[str, int]]


def fuzz(url: str, key: str, count: int) -> tuple[Seen, Seen]:
    """Send at least so many requests, valid and not, to all operations; return path and status of each.

    All with the key, and each fourth also with a wrong one: to draw a request costs more than to send it.
    """
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    known: Seen = []
    unknown: Seen = []

    def ask(case, used: str, seen: Seen) -> None:
        reply = case.call(headers={"X-API-Key": used}, timeout=30)
        seen.append((case.operation.path, reply.status_code))
        case.validate_response(reply, checks=CHECKS)

    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(
                max_examples=math.ceil(count / len(operations) / 2),
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def send(case):
                ask(case, key, known)
                if len(known) % 4 == 0 or case.operation.path not in dict(unknown):
                    ask(case, "sk_lantern_0", unknown)

            try:
                send()
            except Exception as error:
                if "Unsatisfiable" not in type(error).__name__ and "skip" not in type(error).__name__.lower():
                    raise
    return known, unknown


@pytest.mark.parametrize("count", [QUICK, pytest.param(SOAK, marks=pytest.mark.soak)])
def test_drawn_requests_get_documented_answers_and_none_without_a_key(address, count):
    # 500 requests to a real server take some ten seconds.
    url, key = address
    known, unknown = fuzz(url, key, count)

    assert not [each for each in known if each[1] >= 500]
    assert {status for path, status in unknown if path not in OPEN} <= {401, 405}
    assert 200 in {status for path, status in known if path == "/v1/answers"}
    assert {path for path, _ in unknown} >= {path for path, _ in known} - OPEN
    assert len(known) + len(unknown) >= count
