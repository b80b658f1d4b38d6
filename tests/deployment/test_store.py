"""The store: one tenant never sees another's row, nothing is there twice, an erasure leaves nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from course_lib.deployment.database import StoreError
from course_lib.deployment.store import Begun, Job, Store, TooManyJobs, new_id

pytestmark = pytest.mark.anyio

INPUTS = [{"question": "Where is my parcel?"}, {"question": "Is the Petzl lamp waterproof?"}]


async def saved(store: Store, tenant: str = "lantern", customer: str | None = "ada", **changes: Any) -> str:
    subject = customer and await store.subject(tenant, customer)
    fields = {"program": "answer", "version": "1", "question": "Where?", "answer": {"answer": "There."}}
    answer_id = await store.save_answer(tenant, subject=subject, **(fields | changes))
    assert answer_id
    return answer_id


async def job_of(store: Store, tenant: str = "lantern", **options: Any) -> Job:
    return await store.create_job(tenant, "answer", "1", INPUTS, **options)


# Subjects


async def test_a_customer_has_one_pseudonym_in_each_tenant(store):
    many = await asyncio.gather(*(store.subject("lantern", "ada") for _ in range(8)))

    assert len({*many}) == 1
    assert many[0] != await store.subject("other", "ada") != await store.subject("other", "ad")


@pytest.mark.parametrize("name", ["", "a b", "a\0", "*", "x" * 65, "ada\n"])
async def test_a_name_of_another_form_is_refused(store, name):
    with pytest.raises(StoreError, match="name of a customer"):
        await store.subject("lantern", name)


# Answers and feedback


async def test_an_answer_comes_back_with_its_feedback(store):
    first, second = await saved(store), await saved(store, question="zero \0 and half \ud800")

    assert await store.feedback("lantern", second, 2)
    assert await store.feedback("lantern", second, 4, "better")
    newest, oldest = await store.history("lantern", customer="ada")

    assert (newest.id, newest.score, newest.comment) == (second, 4, "better")
    assert (oldest.id, oldest.question, oldest.answer, oldest.score) == (
        first,
        "Where?",
        {"answer": "There."},
        None,
    )


async def test_an_answer_saved_again_is_there_once(store):
    first = await saved(store, answer_id="answer_1")

    assert await saved(store, answer_id="answer_1") == first
    assert len(await store.history("lantern")) == 1


@pytest.mark.parametrize("score", [0, 6, 100_000])
async def test_a_score_that_is_none_is_refused(store, score):
    with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.NumericValueOutOfRange)):
        await store.feedback("lantern", await saved(store), score)


# Jobs


async def test_a_job_goes_from_queued_to_done(store):
    job = await job_of(store, customer="ada")
    claimed = await store.claim_job(job.id)

    assert claimed
    assert (job.status, claimed.status, claimed.attempts, claimed.inputs) == ("queued", "running", 1, INPUTS)
    assert await store.save_result("lantern", job.id, 1, {"answer": "yes"})
    assert await store.save_result("lantern", job.id, 0, {"answer": "here"})
    assert [each.result["answer"] for each in await store.results("lantern", job.id)] == ["here", "yes"]
    assert await store.end_job("lantern", job.id, "done")
    assert await store.claim_job(job.id) is None


async def test_the_result_of_an_input_is_kept_once(store):
    job = await job_of(store)

    new = await asyncio.gather(*(store.save_result("lantern", job.id, 0, {"by": n}) for n in range(8)))

    assert sorted(new) == [False] * 7 + [True]
    assert len(await store.results("lantern", job.id)) == 1


async def test_an_input_that_is_not_there_has_no_result(store):
    job = await job_of(store)

    assert not await store.save_result("lantern", job.id, len(INPUTS), {})


async def test_a_job_whose_worker_was_killed_is_claimed_again_and_a_dead_one_is_not(store):
    job = await job_of(store)
    await store.claim_job(job.id)
    again = await store.claim_job(job.id)
    await store.end_job("lantern", job.id, "failed", "the model is away")
    third = await store.claim_job(job.id)
    await store.end_job("lantern", job.id, "dead", "the model is away")

    assert again
    assert third
    assert (again.attempts, third.attempts, third.error) == (2, 3, "the model is away")
    assert await store.claim_job(job.id) is None
    assert not await store.end_job("lantern", job.id, "done")


async def test_a_job_that_nobody_claimed_can_be_withdrawn_and_sent_anew_under_its_key(store):
    refused, begun = await job_of(store, idempotency_key="k"), await job_of(store)
    await store.claim_job(begun.id)

    assert await store.withdraw_job("lantern", refused.id)
    assert await store.job("lantern", refused.id) is None
    assert (await job_of(store, idempotency_key="k")).id != refused.id
    assert not await store.withdraw_job("lantern", begun.id)
    assert await store.job("lantern", begun.id)


async def test_the_same_idempotency_key_makes_one_job_a_tenant(store):
    jobs = await asyncio.gather(*(job_of(store, idempotency_key="k") for _ in range(6)))

    assert len({job.id for job in jobs}) == 1
    assert (await job_of(store, "other", idempotency_key="k")).id != jobs[0].id


# Idempotency keys


async def test_a_key_is_fresh_for_one_then_running_then_done(store):
    begun = await asyncio.gather(*(store.begin("lantern", "k", "sha") for _ in range(6)))

    assert sorted(each.state for each in begun) == ["fresh"] + ["running"] * 5
    assert await store.begin("lantern", "k", "another") == Begun("conflict")
    assert await store.begin("other", "k", "another") == Begun("fresh")
    await store.complete("lantern", "k", 200, {"answer": "yes"})
    assert await store.begin("lantern", "k", "sha") == Begun("done", 200, {"answer": "yes"})


async def test_a_key_is_fresh_again_when_its_request_failed_or_was_lost(store):
    await store.begin("lantern", "k", "sha")

    assert await store.begin("lantern", "k", "sha", stale_s=0) == Begun("fresh")
    assert await store.begin("lantern", "k", "sha") == Begun("running")
    await store.forget_key("lantern", "k")
    assert await store.begin("lantern", "k", "sha") == Begun("fresh")


# One tenant, and another


async def test_a_tenant_sees_and_changes_nothing_of_another(store):
    answer, job = await saved(store), await job_of(store, customer="ada")
    await store.save_result("lantern", job.id, 0, {"answer": "yes"})

    assert await store.history("other") == await store.history("other", customer="ada") == []
    assert not await store.feedback("other", answer, 5)
    assert await store.job("other", job.id) is None
    assert await store.results("other", job.id) == []
    assert not await store.save_result("other", job.id, 1, {})
    assert not await store.end_job("other", job.id, "done")
    assert await store.begin_erasure("other", "ada") == ([], 0)
    assert (await store.job("lantern", job.id) or job).status == "queued"


async def test_a_query_that_forgets_the_tenant_sees_this_tenants_rows_alone(store):
    await saved(store)
    await saved(store, "other")

    for tenant in ("lantern", "other"):
        assert await store.rows(tenant, "SELECT DISTINCT tenant FROM answers", {}) == [(tenant,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await store.rows("lantern", "UPDATE answers SET tenant = 'other'", {})


# Erasing


async def test_an_erasure_leaves_nothing_of_the_customer_and_all_of_others(store):
    await saved(store)
    job = await job_of(store, customer="ada", idempotency_key="k")
    await store.save_result("lantern", job.id, 0, {"answer": "yes"})
    await store.begin("lantern", "key", "sha", subject=await store.subject("lantern", "ada"))
    others = [
        await saved(store, "other"),
        await saved(store, customer="ad"),
        await saved(store, customer=None),
    ]

    subjects, rows = await store.begin_erasure("lantern", "ada")
    await store.finish_erasure("lantern", subjects)

    assert rows == 4
    erased = await store.job("lantern", job.id)
    assert erased
    assert (erased.status, erased.inputs, erased.subject) == ("erased", [], None)
    assert await store.results("lantern", job.id) == []
    assert await store.claim_job(job.id) is None
    assert await store.begin("lantern", "key", "another body") == Begun("fresh")
    left = [*await store.history("lantern"), *await store.history("other")]
    assert {each.id for each in left} == {*others}
    assert await store.subject("lantern", "ada") not in subjects


async def test_what_is_under_way_while_a_customer_is_erased_is_not_kept(store):
    subject = await store.subject("lantern", "ada")
    job = await job_of(store, customer="ada")
    await store.claim_job(job.id)
    await store.begin_erasure("lantern", "ada")

    assert (
        await store.save_answer(
            "lantern", program="answer", version="1", question="?", answer={}, subject=subject
        )
        is None
    )
    assert not await store.save_result("lantern", job.id, 0, {"answer": "yes"})
    await store.finish_erasure("lantern", [subject])
    with pytest.raises(StoreError, match="was erased"):
        await store.begin("lantern", "k", "sha", subject=subject)


async def test_no_answer_stays_when_answers_are_saved_while_their_customer_is_erased(store):
    async def ask() -> None:
        for _ in range(20):
            subject = await store.subject("lantern", "ada")
            await store.save_answer(
                "lantern", program="answer", version="1", question="?", answer={}, subject=subject
            )

    async def erase() -> list[str]:
        subjects, _ = await store.begin_erasure("lantern", "ada")
        await store.finish_erasure("lantern", subjects)
        return subjects

    _, _, *erased = await asyncio.gather(ask(), ask(), *(erase() for _ in range(5)))

    left = {answer.subject for answer in await store.history("lantern", limit=1_000)}
    assert not left & {subject for subjects in erased for subject in subjects}
    assert await store.unfinished_erasures() == []


async def test_an_erasure_that_was_cut_off_is_known_and_goes_on(store):
    first = await store.subject("lantern", "ada")
    await store.begin_erasure("lantern", "ada")
    second = await store.subject("lantern", "ada")

    assert await store.unfinished_erasures() == [("lantern", "ada")]
    subjects, _ = await store.begin_erasure("lantern", "ada")
    assert sorted(subjects) == sorted([first, second])


async def test_what_is_old_is_dropped_and_what_is_new_stays(store, service_url):
    old, job = await saved(store, customer="bob"), await job_of(store, customer="ada")
    await store.feedback("lantern", old, 1)
    with psycopg.connect(service_url) as owner:
        owner.execute("UPDATE answers SET created = now() - interval '31 days'")
        owner.execute("UPDATE subjects SET created = now() - interval '31 days'")
    new = await saved(store, "other")

    gone = await store.drop_older_than(30)

    assert gone == {"answers": 1, "jobs": 0, "idempotency_keys": 0, "subjects": 1}
    assert [each.id for each in await store.history("other")] == [new]
    assert await store.job("lantern", job.id)
    with pytest.raises(StoreError, match="nothing was deleted"):
        await store.drop_older_than(0)


def test_ids_cannot_be_guessed():
    assert len({new_id("job") for _ in range(1_000)}) == 1_000


async def test_a_tenant_has_no_more_jobs_waiting_than_it_may(store):
    made = (job_of(store, most_waiting=3, idempotency_key=f"k-{number}") for number in range(8))
    found = await asyncio.gather(*made, return_exceptions=True)
    jobs = [each for each in found if isinstance(each, Job)]

    assert len(jobs) == 3
    assert all(isinstance(each, Job | TooManyJobs) for each in found)
    await job_of(store, "other", most_waiting=3)
    await store.end_job("lantern", jobs[0].id, "done")
    await job_of(store, most_waiting=3, idempotency_key="k-new")
    again = await job_of(store, most_waiting=3, idempotency_key="k-new")  # was made before
    assert again.status == "queued"


async def test_a_job_of_which_nothing_was_heard_is_lost_once_until_it_is_quiet_again(store):
    job, done = await job_of(store), await job_of(store)
    await store.end_job("lantern", done.id, "done")

    assert await store.lost_jobs(600.0) == []
    assert await store.lost_jobs(0.0) == [job.id]
    await store.claim_job(job.id)
    await store.save_result("lantern", job.id, 0, {})
    assert await store.lost_jobs(600.0) == []
