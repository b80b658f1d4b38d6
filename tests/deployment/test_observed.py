"""Of a version's answers the scores are what a judge says, each tenant with one voice, each answer once.

What its metrics say is seen in test_stack.py, where there are replicas.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from course_lib.deployment import stored_scores


async def answered(store, tenant: str, version: str, *citations: str) -> str:
    answer = {"answer": "yes", "citations": list(citations)}
    return await store.save_answer(tenant, program="answer", version=version, question="?", answer=answer)


def cites(_question, answer) -> float:
    return float(bool(answer["citations"]))


@pytest.mark.anyio
async def test_scores_are_what_a_judge_says_of_stored_answers_each_tenant_with_one_voice(store, service_url):
    begun = datetime.now(UTC) - timedelta(minutes=1)
    for tenant, version, *citations in (("a", "1", "x"), *[("a", "2")] * 9, ("b", "2", "x")):
        await store.feedback(tenant, await answered(store, tenant, version, *citations), 1)

    scores = stored_scores(service_url, "answer", begun, cites)

    assert (scores("1"), sorted(scores("2"))) == ([1.0], [0.0, 1.0])
    assert stored_scores(service_url, "answer", datetime.now(UTC), cites)("2") == []


@pytest.mark.anyio
async def test_an_answer_counts_once_whatever_becomes_of_the_others(store, service_url):
    scores = stored_scores(service_url, "answer", datetime.now(UTC) - timedelta(minutes=1), cites)
    subject = await store.subject("a", "mia")
    told = {"program": "answer", "version": "2", "question": "?", "answer": {"citations": []}}
    await store.save_answer("a", **told, subject=subject)
    first = scores("2")

    with psycopg.connect(service_url) as connection:
        connection.execute("DELETE FROM answers")
    await answered(store, "a", "2", "x")

    assert (first, scores("2")) == ([0.0], [0.0, 1.0])
