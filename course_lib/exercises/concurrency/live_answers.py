"""Exercise 3.6, answers from documents that arrive meanwhile: a handler of events, and a stream of an answer.

Main path: EXERCISE -> engine.registry; each check hands events over as a Consumer does, with texts and a
model of its own, and counts at the model's endpoint.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from copy import deepcopy
from dataclasses import replace
from typing import Any

import dspy
from pydantic import TypeAdapter

from course_lib import desk
from course_lib.concurrency.events import Event, EventError
from course_lib.exercises.concurrency.watched import Watched, expect_left
from course_lib.exercises.engine.checks import CheckFailed, expect, expect_equal
from course_lib.exercises.engine.registry import Exercise

_PATIENCE_S = 15.0
_THINGS = "tent", "stove", "kayak", "lantern", "rucksack"
_BAD: Any = {"body": None}, {"updated": "soon"}, {"title": 5}, {"id": ["a"]}, {"keywords": 7}
_OTHER: Any = {"id": "hours", "title": "Opening hours", "body": "We open at nine.", "keywords": []}


class _Shop:
    """A rag, the model that it asks, and articles on renting a thing."""

    def __init__(self, live_rag: Any, **faults: Any) -> None:
        self.rag, self.model = live_rag(), Watched(**faults)
        self.thing, self.euros = random.choice(_THINGS), random.sample(range(11, 99), 6)
        self.question = f"What does it cost to rent a {self.thing} for a weekend?"

    def document(self, day: int = 1, tenant: str = "", **changes: Any) -> Event:
        """Return an event with an article on renting, as it was on this day."""
        body = f"Renting a {self.thing} for a weekend costs EUR {self.euros[day - 1]}."
        fields = {"id": f"rent-{self.thing}", "title": f"Renting a {self.thing}", "body": body}
        dated = {"updated": f"2026-03-{day:02}", "keywords": ["rental"]}
        return Event("document", {**fields, **dated, **changes}, tenant)

    async def publish(self, *events: Event) -> None:
        """Hand copies of events over, one after another, the first one once more at the end."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                for event in deepcopy((*events, events[0])):
                    await self.rag.ingest(event)
        except TimeoutError:
            what, hint = "documents are taken in, whatever else is under way", "Hold no lock over a yield."
            raise CheckFailed(what, observed="they wait", expected="each is handled", hint=hint) from None

    async def ask(self, tenant: str = "") -> tuple[Any, str]:
        """Return what is yielded first, and the text of all that comes then."""
        with dspy.context(lm=self.model.lm):
            async with asyncio.timeout(_PATIENCE_S):
                self.got = list[Any]()
                async for each in self.rag.answer(self.question, tenant):
                    self.got.append(each)
        first, *pieces = self.got
        return first, "".join(pieces)


async def answers_from_arrived(live_rag: Any) -> None:
    """An answer comes from what has arrived by now; without an article no model is asked."""
    shop = _Shop(live_rag)
    first, text = await shop.ask()
    hint = "No hit: yield [], then one honest sentence, and return."
    expect_equal(first, [], "what is yielded first when nothing has arrived", hint=hint)
    expect_equal(len(shop.model.calls()), 0, "requests when nothing has arrived", hint=hint)
    expect(text.strip(), "the text without an article", observed=text, expected="a sentence", hint=hint)
    bodies = [f"{'Rent it. ' * 200 * n}{n}." for n in range(1, 5)]
    others: Any = [{"id": f"o-{each[-2]}", "title": "Renting", "body": each} for each in bodies]
    events = [shop.document(), *(shop.document(**each) for each in others)]
    random.shuffle(events)
    await shop.publish(*events)
    first, text = await shop.ask()
    index = desk.Index(TypeAdapter(desk.Article).validate_python(event.data) for event in events)
    hint = "desk.Index(articles).search(question, 3): best first; their chunks are the context."
    wanted = [hit.article.id for hit in index.search(shop.question, 3)]
    expect_equal(first, wanted, "the ids, yielded first", hint=hint)
    await shop.model.is_quiet()
    sent = str([call.messages for call in shop.model.calls()])
    told = [event.data["id"] for event in events if f"[{event.data['id']}]" in sent]
    whole = [event.data["id"] for event in events if event.data["body"][-20:] in sent]
    what = "the articles that are in the model's context, and those that are whole there"
    expect_equal([sorted(told), sorted(whole)], [sorted(wanted)] * 2, what, hint=hint)
    answer = f"EUR {shop.euros[0]}"
    expect(answer in text, "the answer's text", observed=text, expected=answer, hint=hint)


async def keeps_the_newest(live_rag: Any) -> None:
    """Of an article the newest version counts, in whatever order and however often its events come."""
    for order in ((1, 2, 1), (3, 1, 2), (2, 2, 1)):
        shop = _Shop(live_rag)
        await shop.publish(shop.document(6, **_OTHER), *(shop.document(day) for day in order))
        first, text = await shop.ask()
        hint = "Compare `updated` with that of the version you have, and keep one version for each id."
        what = f"ids and text after versions of March {order}"
        newest = f"EUR {shop.euros[max(order) - 1]}"
        is_newest = first == [f"rent-{shop.thing}"] and newest in text
        expect(is_newest, what, observed=f"{first}, {text}", expected=f"one id, and {newest}", hint=hint)


async def refuses_others(live_rag: Any) -> None:
    """An event that is no article is refused with an EventError, so that it is a dead letter at once."""
    shop = _Shop(live_rag)
    bad = [shop.document(2, **changes) for changes in _BAD]
    del bad[0].data["body"]
    await shop.publish(shop.document())
    hint = "TypeAdapter(desk.Article) reads it, or says why not; what it raises becomes an EventError."
    for event in bad:
        (error,) = await asyncio.gather(shop.publish(event), return_exceptions=True)
        if not isinstance(error, EventError):
            observed = f"again and again, after {error!r:.200}" if error else "once: it was taken in"
            what, wanted = f"how often such an event is delivered: {event.data}", "once, as a dead letter"
            raise CheckFailed(what, observed=observed, expected=wanted, hint=hint) from error
    text, was = (await shop.ask())[1], f"EUR {shop.euros[0]}"
    what = "the answer from the article that was there"
    expect(was in text, what, observed=text, expected=f"... {was} ...", hint=hint)


async def keeps_tenants(live_rag: Any) -> None:
    """A tenant's question is answered from that tenant's articles alone."""
    shop = _Shop(live_rag)
    tenants = "ada", "bob", "Ada", "ada2", ""
    events = [replace(shop.document(day, tenant), id="1") for day, tenant in enumerate(tenants, 1)]
    await shop.publish(*reversed(events), shop.document(6, "eve", **_OTHER))
    hint = "event.tenant says whose article it is: an index for each."
    for tenant, euros in zip(tenants, shop.euros, strict=False):
        first, text = await shop.ask(tenant)
        is_own = len(first) == 1 and f"EUR {euros}" in text
        observed, wanted = f"{first}, {text}", f"one id, and EUR {euros}, for tenant {tenant!r}"
        expect(is_own, observed=observed, expected=wanted, hint=hint)
    got = [(await shop.ask(tenant))[0] for tenant in ("eve", "zoe")]
    what = "the ids for a tenant without articles about it, and for one without any"
    expect_equal(got, [[], []], what, hint=hint)
    await shop.model.is_quiet()
    expect_equal(len(shop.model.calls()), len(tenants), "requests for tenants with and without", hint=hint)


async def streams(live_rag: Any) -> None:
    """The ids come before the model has answered, and pieces as it writes; documents do not wait for it."""
    shop = _Shop(live_rag, speed_p50_tokens_per_s=10)
    await shop.publish(shop.document(1))
    with dspy.context(lm=shop.model.lm):
        answer = shop.rag.answer(shop.question, "")
        async with aclosing(answer) as pieces:
            hint = "concurrency.stream(program, ...) yields a Token for each piece: pass its text on at once."
            await anext(pieces)
            expect_equal(len(shop.model.calls()), 0, "requests that had ended before the ids", hint=hint)
            await shop.publish(shop.document(2))
            some = [await anext(pieces) for _ in range(2)]
            expect_equal(len(shop.model.calls()), 0, "requests that had ended before two pieces", hint=hint)
            await shop.publish(shop.document(3))
            slow, shop.model = shop.model, Watched()
            _, later = await shop.ask()
            text = "".join([*some, *[each async for each in pieces]])
    what = "whether an answer under way is from its own articles, and a later one from the new ones"
    got = f"EUR {shop.euros[0]}" in text, f"EUR {shop.euros[2]}" in later
    expect_equal(got, (True, True), what, hint="Search once, at the beginning, and keep what was found.")
    await slow.is_quiet()
    reply = str(slow.calls()[0].reply)
    is_all = f"]\n{text.strip()}\n" in reply
    expect(is_all, "the pieces make up the answer", observed=text, expected=reply)


async def ends_with_reader(live_rag: Any) -> None:
    """A reader who leaves ends the request; if the model's answer breaks off, its error comes out."""
    shop = _Shop(live_rag, speed_p50_tokens_per_s=5)
    await shop.publish(shop.document(1))
    with dspy.context(lm=shop.model.lm):
        pieces = shop.rag.answer(shop.question, "")
        for _ in range(2):
            await anext(pieces)
        await pieces.aclose()
    hint = "`async with stream(...) as events` inside the generator: its end is then the stream's end."
    await expect_left(shop.model, 1, "what the model's server saw", hint=hint)
    shop = _Shop(live_rag, cut_midway_rate=1.0)
    await shop.publish(shop.document(1))
    try:
        observed = f"it yielded {await shop.ask()}"
    except dspy.LMError:  # the first cut of a new profile, always the same, comes after the whole text
        got, wanted = "".join(shop.got[1:]), f"... EUR {shop.euros[0]}."
        what, hint = "the pieces that came before the break", "Yield a piece when it comes; hold none back."
        expect(got.endswith(wanted[4:]), what, observed=got, expected=wanted, hint=hint)
        return
    except Exception as error:  # border: the learner's own
        observed = repr(error)
    hint = "An Error event has the exception in `cause`: raise it, or half an answer looks whole."
    expect(False, "an answer that broke off", observed=observed, expected="the model's error", hint=hint)


EXERCISE = Exercise(
    title="Answers from documents that arrive meanwhile",
    minutes=18,
    difficulty="hard",
    hints=(
        "Keep {tenant: {id: article}}, and beside it {tenant: desk.Index}: `ingest` changes the first and "
        "puts a new index in the place of the old one. `answer` takes the index once, at its beginning.",
        "pydantic.TypeAdapter(desk.Article).validate_python(event.data) raises ValidationError: make it an "
        "EventError. Compare `updated` before you replace a version.",
        "`async with stream(self.program, question=..., context=[hit.article.chunk for hit in hits]) as "
        "events: async for event in events:`; a Token has `text`, an Error has `cause`.",
    ),
    checks=(answers_from_arrived, keeps_the_newest, refuses_others, keeps_tenants, streams, ends_with_reader),
    deadline_s=60.0,
    why="An index is built anew and put in place in one step, so a search never waits and never sees half a "
    "change. LiveIndex adds Effects, so that documents outlive the process, and one rebuild for many.",
)
