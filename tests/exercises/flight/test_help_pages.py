"""The documents of a flight: ours pass the learners' checks, and a learner's own parts take their place."""

from __future__ import annotations

import time
import uuid

import psycopg
import pytest

from course_lib.exercises.engine import registry
from course_lib.exercises.engine.checking import judge
from course_lib.exercises.flight import HelpPages, Line, fresh
from course_lib.exercises.flight.help_pages import Pool, Search, Watched
from course_lib.services import running_postgres

pytestmark = pytest.mark.anyio
OURS = {"6.1.1": Pool, "6.1.2": Search, "6.1.3": Watched}


@pytest.mark.parametrize("stage", OURS)
def test_ours_pass(stage):  # that of the pool waits for limits, and for queries that are cancelled: 2.5 s
    result = judge(registry.get(stage), OURS[stage])

    assert result.outcome == "passed", result.text


@pytest.fixture
def url():
    schema = f"test_{uuid.uuid4().hex}"
    yield fresh(running_postgres().url, schema)
    with psycopg.connect(running_postgres().url, autocommit=True) as owner:
        owner.execute(f"SET client_min_messages = warning; DROP SCHEMA {schema} CASCADE")


class Own(Search):
    async def search(self, text, limit=3):
        return ["mine", *await super().search(text, limit)]


class Stub:
    async def search(self, text, limit=3): ...

    async def health(self): ...


async def test_a_learner_s_part_takes_its_place_and_ours_that_of_a_stub(url):
    async with HelpPages(url, Pool, Own, Stub) as pages:
        found = await pages.search("How do I dry a wet tent?", limit=1)

        assert found[0] == "mine"
        assert found[1].startswith("[tent-care] Looking after your tent\n")
        assert (await pages.health())["ok"]
        assert pages.metrics()["found"]["count"] == 1


async def test_two_copies_of_a_service_may_make_the_tables_and_neither_makes_them_twice(url):
    async with HelpPages(url), HelpPages(url) as pages:
        texts = await pages.search("tent", limit=99)

        assert len(texts) == len(set(texts)) > 3


async def test_health_answers_while_the_line_hangs_and_says_ok_when_it_is_mended(url):
    async with Line(url) as line, HelpPages(url):
        pages = HelpPages(line.url)
        assert (await pages.health())["ok"]
        line.hang()
        began_s = time.monotonic()

        assert await pages.health() == {"ok": False, "error": "TimeoutError"}
        assert time.monotonic() - began_s < 5  # psycopg alone takes ten

        line.mend()
        assert (await pages.health())["ok"]
        await pages.__aexit__(None, None, None)
