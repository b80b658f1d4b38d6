"""The event-driven support desk: a ticket in, a reply out, once; plainer under load, and it says so."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, closing

import dspy
import pytest

from course_lib import desk, lm
from course_lib.concurrency.events import Effects, Event, EventError, LiveIndex, SupportDesk
from tests.concurrency.events import consuming, drained, numbered, stream_of
from tests.concurrency.test_events_effects import document
from tests.concurrency.waiting import until

pytestmark = pytest.mark.anyio
TICKETS = desk.tickets("dev")[:6]


@pytest.fixture
def models():
    """The large and the small model, each call of which can be counted."""
    large, small = (lm.connect(name, cache=False) for name in ("sim-large", "sim-small"))
    lm.reset()
    return {"large": large, "small": small}


@pytest.fixture
def effects(tmp_path):
    with closing(Effects(tmp_path / "effects")) as effects:
        yield effects


@asynccontextmanager
async def streams(url):
    async with stream_of(url) as tickets, stream_of(url) as replies:
        yield tickets, replies


def ticket(text="How many days do I have to return an item?", id="T-1", tenant="") -> Event:  # noqa: A002
    return Event("ticket", {"text": text}, tenant, id)


async def sent(replies) -> list[Event]:
    """Return the replies that were sent so far; they are handled by this."""
    seen = []

    async def take(event: Event) -> None:
        seen.append(event)

    async with consuming(replies, take, limit=1):
        await drained(replies)
    return seen


def calls() -> Counter:
    return Counter(call.model for call in lm.ledger().calls)


async def test_each_ticket_is_sorted_and_answered_and_its_reply_names_it(redis_url, effects, models):
    async with streams(redis_url) as (tickets, replies):
        support = SupportDesk(tickets, replies, effects, **models)
        async with consuming(tickets, support.answer, limit=3):
            await tickets.publish(*(ticket(one.text, one.id, one.customer_id) for one in TICKETS))
            await drained(tickets)
        seen = {event.data["ticket"]: event for event in await sent(replies)}

    assert {(name, event.tenant) for name, event in seen.items()} == {
        (one.id, one.customer_id) for one in TICKETS
    }
    for event in seen.values():
        assert event.data["category"] in desk.CATEGORIES
        assert event.data["urgency"] in desk.URGENCIES
        assert event.data["how"] == "large model"
        assert event.data["answer"]
    assert any(event.data["citations"] for event in seen.values())
    assert calls() == {"sim-large": 2 * len(TICKETS)}
    assert lm.ledger().most_at_once <= 3


async def test_a_ticket_that_is_delivered_again_gets_the_same_reply_and_costs_nothing(
    redis_url, effects, models
):
    async with streams(redis_url) as (tickets, replies):
        support = SupportDesk(tickets, replies, effects, **models)
        await support.answer(ticket())
        await SupportDesk(tickets, replies, effects, **models).answer(ticket())  # after a crash, say
        first, second = await sent(replies)

    assert first == second
    assert first.id == "T-1.reply"
    assert lm.ledger().requests == 2


async def test_a_reply_that_could_not_be_sent_is_sent_when_the_ticket_comes_again(redis_url, effects, models):
    async with stream_of(redis_url) as tickets, stream_of(redis_url, bound=1) as replies:
        support = SupportDesk(tickets, replies, effects, **models)
        await replies.publish(Event("other", {}))  # nobody reads replies, so the desk waits
        answering = asyncio.create_task(support.answer(ticket()))
        await until(lambda: effects_of(effects))
        answering.cancel()  # at its deadline, or with its consumer
        await asyncio.wait([answering])
        others = await sent(replies)
        await support.answer(ticket())
        replied = await sent(replies)

    assert answering.cancelled()
    assert [[event.kind for event in each] for each in (others, replied)] == [["other"], ["reply"]]
    assert lm.ledger().requests == 2


async def effects_of(effects) -> list:
    return await effects.transact(lambda connection: connection.execute("select id from effects").fetchall())


@pytest.mark.parametrize(
    ("backlog", "how", "asked"),
    [
        (19, "large model", {"sim-large": 2}),
        (20, "small model", {"sim-small": 2}),
        (99, "small model", {"sim-small": 2}),
        (100, "refused", {}),
    ],
)
async def test_the_backlog_decides_who_answers_and_the_reply_says_it(
    redis_url, effects, models, backlog, how, asked
):
    async with streams(redis_url) as (tickets, replies):
        await tickets.publish(*numbered(backlog))
        await SupportDesk(tickets, replies, effects, **models).answer(ticket())
        (reply,) = await sent(replies)

    assert reply.data["how"] == how
    assert calls() == asked
    assert ("has not been read" in reply.data["answer"]) is (how == "refused")


async def test_under_load_an_earlier_answer_to_the_same_question_serves_its_tenant_only(
    redis_url, effects, models
):
    again = "  how many days do I have to\nRETURN an item?"
    async with streams(redis_url) as (tickets, replies):
        support = SupportDesk(tickets, replies, effects, small_at=1, refuse_at=1, **models)
        await support.answer(ticket(tenant="ada"))
        await tickets.publish(*numbered(1))
        for id, tenant in (("T-2", "ada"), ("T-3", "bob")):  # noqa: A001
            await support.answer(ticket(again, id, tenant))
        first, second, third = (event.data for event in await sent(replies))

    assert second == {**first, "ticket": "T-2", "how": "earlier answer", "of": "T-1"}
    assert third["how"] == "refused"
    assert calls() == {"sim-large": 2}


async def test_a_small_models_answer_is_not_kept_for_later(redis_url, effects, models):
    async with streams(redis_url) as (tickets, replies):
        support = SupportDesk(tickets, replies, effects, small_at=1, **models)
        await tickets.publish(*numbered(1))
        for id in ("T-1", "T-2"):  # noqa: A001
            await support.answer(ticket(id=id))

        assert [event.data["how"] for event in await sent(replies)] == ["small model"] * 2


async def test_a_burst_is_answered_by_all_means_and_every_ticket_gets_one_reply(redis_url, effects, models):
    async with streams(redis_url) as (tickets, replies):
        support = SupportDesk(tickets, replies, effects, small_at=8, refuse_at=16, **models)
        await tickets.publish(*(ticket(id=f"T-{n}") for n in range(30)))
        async with consuming(tickets, support.answer, limit=1):
            await drained(tickets)
        seen = await sent(replies)

    assert len({event.data["ticket"] for event in seen}) == len(seen) == 30
    hows = [event.data["how"] for event in seen]
    assert hows == ["refused"] * 15 + ["small model"] * 8 + ["large model"] * 7, "at 30 to 16, to 8, to 1"


async def test_while_the_model_is_down_tickets_come_again_and_are_given_up_with_the_reason(
    redis_url, effects, models
):
    lm.profile("down", unavailable_rate=1.0)
    down = lm.connect("sim-large@down", cache=False, num_retries=0)
    async with streams(redis_url) as (tickets, replies):
        broken = SupportDesk(tickets, replies, effects, large=down, small=down)
        async with consuming(tickets, broken.answer, most_deliveries=2):
            await tickets.publish(ticket())
            await drained(tickets)
        (letter,) = await tickets.dead_letters()
        assert letter.reason.startswith("LMServerError: ")
        assert await replies.backlog() == 0

        await tickets.revive(letter)
        async with consuming(tickets, SupportDesk(tickets, replies, effects, **models).answer):
            await drained(tickets)
        assert [event.data["ticket"] for event in await sent(replies)] == ["T-1"]


@pytest.mark.parametrize("data", [{}, {"text": "  "}, {"text": 5}], ids=repr)
async def test_a_ticket_without_a_text_is_refused_for_good(redis_url, effects, models, data):
    async with streams(redis_url) as (tickets, replies):
        with pytest.raises(EventError, match=r"ticket 'x' has no text; its data needs a `text`"):
            await SupportDesk(tickets, replies, effects, **models).answer(Event("ticket", data, id="x"))


@pytest.mark.parametrize("kind", ["document", "mail"])
async def test_another_kind_whose_id_a_ticket_may_have_is_refused_and_nothing_of_it_is_kept(
    redis_url, effects, models, kind
):
    async with streams(redis_url) as (tickets, replies):
        support = SupportDesk(tickets, replies, effects, **models)
        with pytest.raises(EventError, match=f"event 'T-1' is no ticket: its kind is '{kind}'"):
            await support.answer(Event(kind, ticket().data, id="T-1"))

    assert (await effects_of(effects), lm.ledger().requests) == ([], 0)


async def test_questions_are_answered_while_documents_arrive_and_from_what_has_arrived(
    redis_url, effects, models
):
    index = LiveIndex(effects)
    question = "What does it cost to rent the Halden tent for a weekend?"
    async with streams(redis_url) as (tickets, replies), stream_of(redis_url) as documents:
        support = SupportDesk(tickets, replies, effects, index=index, **models)
        async with consuming(tickets, support.answer), consuming(documents, index.ingest):
            await tickets.publish(ticket(question, "before"))
            await drained(tickets)
            await documents.publish(document(body="Renting the Halden tent for a weekend costs EUR 45."))
            await asyncio.gather(drained(documents), tickets.publish(ticket("Who are you?", "meanwhile")))
            await tickets.publish(ticket(question, "after"))
            await drained(tickets)
        seen = {event.data["ticket"]: event.data for event in await sent(replies)}

    assert seen["before"]["citations"] == []
    assert seen["after"]["citations"] == ["tent-rental"]
    assert "EUR 45" in seen["after"]["answer"]
    assert "meanwhile" in seen


async def test_the_desk_uses_its_own_models_and_leaves_those_around_alone(redis_url, effects, models):
    async with streams(redis_url) as (tickets, replies):
        with dspy.context(lm=models["small"]):
            await SupportDesk(tickets, replies, effects, **models).answer(ticket())
            assert dspy.settings.lm is models["small"]

    assert calls() == {"sim-large": 2}
