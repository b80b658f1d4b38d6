"""Exercise 3.3, the sources first: citations, then the answer while it is written, for readers who may leave.

Main path: EXERCISE -> engine.registry; each check reads streams of the endpoint's, whose ledger is the judge.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import dspy
from dspy.clients import Cache

from course_lib import lm
from course_lib.exercises.engine.checks import expect, expect_equal, show
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import under_dspy

_PATIENCE_S = 6.0
Event = tuple[str, str]

_SHED = (
    "The shed lends skis, poles and sledges to everybody who leaves a deposit of 40 crowns at the desk beside "
    "the door, and takes them back until seven in the evening on each day of the winter season."
)
_ORDER_HINT = (
    "A model writes the fields in the order of the signature, so that order decides what can come first."
)
_TASK_HINT = "Run the program in a task of its own, hand its values over in a queue, and cancel the task in "
_TASK_HINT += "a `finally`: that is what small_stream does."


def _asked() -> list[tuple[str, list[str]]]:
    """Return questions with their articles, whose ids are new each time."""
    ids = [f"{word}-{secrets.token_hex(2)}" for word in ("heron", "otter", "shed", "mill")]
    heron, otter, shed, mill = (f"[{each}] " for each in ids)
    boats = [
        f"{heron}The ferry in summer\nThe ferry to the island leaves the north pier at nine.",
        f"{otter}The ferry in winter\nThe ferry to the island leaves the south pier at ten.",
    ]
    others = [f"{shed}Skis and sledges\n{_SHED}", f"{mill}The mill\nThe mill grinds rye on Tuesdays."]
    return [
        ("When does the ferry to the island leave the pier?", [*boats, others[1]]),
        ("Who lends skis, poles and sledges, and until when are they taken back?", [*boats, *others]),
        ("On which day does the mill grind rye?", [*others, boats[0]]),
        ("Which composer wrote the anthem of Peru?", boats),
    ]


def _model(**faults: Any) -> dspy.LM:
    name = f"check-{secrets.token_hex(4)}"
    lm.profile(name, **faults)
    return lm.connect(f"sim-large@{name}", cache=False, num_retries=0)


async def _ledger(since: int) -> lm.Ledger:
    return await asyncio.to_thread(lm.ledger, since)


async def _read(stream_answer: Callable[..., Any], asked: tuple[str, list[str]]) -> list[Event]:
    question, context = asked
    return [tuple(event) async for event in stream_answer(question, list(context))]


def _expect_whole(events: list[Event], reply: str, context: list[str]) -> None:
    """Compare events with what the model wrote: it cites no id but in its list of sources."""
    kinds = "".join(f"{kind[:1]}" for kind, _ in events)
    expect(
        re.fullmatch("c*t+a", kinds),
        "the order of events",
        observed=", ".join(dict.fromkeys(kind for kind, _ in events)) + f" ({show(kinds)})",
        expected="each citation, then tokens, then one answer",
        hint=_ORDER_HINT,
    )
    answer = events[-1][1]
    text = "".join(text for kind, text in events if kind == "token")
    expect_equal(
        text, answer, "the tokens of an answer, joined", hint="Each field has a listener of its own."
    )
    before, found, after = reply.partition(answer)
    rest = re.sub(r"\[\[ ## \w+ ## \]\]|</?\w+>", "", after).strip(' \n"}')
    expect(found and not rest, "the answer is the model's", observed=answer, expected=reply)
    ids = [article[1 : article.index("]")] for article in context]
    cited = [word for word in re.findall(r"[\w-]+", before) if word in ids]
    hint = "The model's own list says what it cites; what you searched for is another matter."
    expect_equal([text for kind, text in events if kind == "citation"], cited, "the citations", hint=hint)


async def sources_come_first(stream_answer: Any) -> None:
    """Citations, tokens, the answer, in this order, as the model wrote them; one answer is one request."""
    with dspy.context(lm=_model()):
        for asked in _asked():
            before = (await _ledger(0)).requests
            events = await _read(stream_answer, asked)
            calls = (await _ledger(before)).calls
            hint = "One request can bring both fields, in the order in which the signature has them."
            expect_equal(len(calls), 1, "requests for one answer", hint=hint)
            _expect_whole(events, str(calls[0].reply), asked[1])


async def streams_for_every_request(stream_answer: Any) -> None:
    """It streams for every request, also for several at the same time."""
    hint = "A listener has a state: make listeners, and the function of streamify, for each request anew."
    asked = _asked()[:3] * 2
    with dspy.context(lm=_model(ttft_p50_ms=50)):
        for many in (asked[:1], asked):
            for events in await asyncio.gather(*(_read(stream_answer, one) for one in many)):
                tokens = [text for kind, text in events if kind == "token"]
                expect(len(tokens) > 3, observed=f"{len(tokens)} tokens", expected="more than 3", hint=hint)
                expect_equal("".join(tokens), events[-1][1], "the tokens of one of many requests", hint=hint)


async def _until_silent(events: Any, seen: list[Event]) -> None:
    async for event in events:
        seen.append(tuple(event))
        if event[0] == "token":
            return


async def shows_what_is_written(stream_answer: Any) -> None:
    """Each piece comes as soon as the model has written it: this one goes silent in the middle of its answer."""
    question, context = _asked()[1]
    seen: list[Event] = []
    with dspy.context(lm=_model(stall_rate=1.0)):
        reading = asyncio.create_task(_until_silent(stream_answer(question, context), seen))
        await asyncio.wait([reading], timeout=_PATIENCE_S)
    kinds = list(dict.fromkeys(kind for kind, _ in seen))
    reading.cancel()
    await asyncio.wait([reading])
    expected, hint = "citation, then token", f"Yield while you read. {_ORDER_HINT}"
    observed = ", ".join(kinds) or "nothing"
    what = "what came while the model was silent in the middle of its answer"
    expect(kinds == ["citation", "token"], what, observed=observed, expected=expected, hint=hint)


async def may_be_left(stream_answer: Any) -> None:
    """When a reader leaves, by aclose() or cancelled, the request to the model ends, and the reader goes on."""
    question, context = _asked()[1]

    async def closes() -> None:
        events = stream_answer(question, context)
        await _until_silent(events, [])
        await events.aclose()
        await _ends("aclose()")

    async def _ends(how: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                while (await _ledger(before)).requests == 0:  # noqa: ASYNC110  the endpoint sets no event
                    await asyncio.sleep(0.02)
        statuses = (await _ledger(before)).statuses
        what = f"statuses of the request after the reader left by {how}"
        expect_equal(statuses, {499: 1}, what, hint=_TASK_HINT)

    with dspy.context(lm=_model(stall_rate=1.0)):
        before = (await _ledger(0)).requests
        leaving = asyncio.create_task(closes())
        await asyncio.wait([leaving])
        goes_on = "a reader goes on after aclose()"
        expect(
            not leaving.cancelled(),
            goes_on,
            observed="it was cancelled",
            expected="it goes on",
            hint=_TASK_HINT,
        )
        leaving.result()

        before, waiting = (await _ledger(0)).requests, asyncio.Event()

        async def waits() -> None:
            async for kind, _ in stream_answer(question, context):
                if kind == "token":
                    waiting.set()

        reading = asyncio.create_task(waits())
        await asyncio.wait([asyncio.create_task(waiting.wait()), reading], return_when="FIRST_COMPLETED")
        reading.cancel()
        await asyncio.wait([reading])
        await _ends("being cancelled")


async def tells_of_half_answers(stream_answer: Any) -> None:
    """If the model's answer breaks off, its LMError is raised after what came, and no answer is yielded."""
    question, context = _asked()[1]
    seen: list[Event] = []
    error: Exception | None = None
    with dspy.context(lm=_model(cut_midway_rate=1.0)):
        try:
            async for event in stream_answer(question, context):
                seen.append(tuple(event))
        except dspy.LMError as raised:
            error = raised
    kinds = [*dict.fromkeys(kind for kind, _ in seen), *([type(error).__name__] if error else [])]
    wanted = error is not None and kinds[:-1] == ["citation", "token"]
    hint = "Half an answer is no answer: let the model's error through, after what was shown."
    observed, expected = ", ".join(kinds), "citation, token, an LMError"
    expect(wanted, "what came of an answer that broke off", observed=observed, expected=expected, hint=hint)


async def serves_from_the_cache(stream_answer: Any) -> None:
    """An answer from DSPy's cache brings citations and tokens as well."""
    memory = Cache(enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir=None)
    hint = "No listener hears a hit. What was not shown when the Prediction comes is taken from it."
    with under_dspy(memory), dspy.context(lm=_model().copy(cache=True)):
        for asked in _asked()[:2]:
            before = (await _ledger(0)).requests
            first, again = [await _read(stream_answer, asked) for _ in range(2)]
            expect_equal((await _ledger(before)).requests, 1, "requests for an answer and its repetition")
            joined = [
                {kind: [text for each, text in events if each == kind] for kind in ("citation", "answer")}
                | {"text": "".join(text for kind, text in events if kind == "token")}
                for events in (first, again)
            ]
            expect_equal(joined[1], joined[0], "what comes of an answer from the cache", hint=hint)
            kinds = "".join(kind[:1] for kind, _ in again)
            order = "the order of events from the cache"
            expect(re.fullmatch("c*t+a", kinds), order, observed=kinds, expected="c, t, a", hint=hint)


EXERCISE = Exercise(
    title="The sources first",
    minutes=15,
    difficulty="hard",
    hints=(
        f"{_ORDER_HINT} Write a signature with citations before answer, and give each field a listener.",
        f"{_TASK_HINT} Listeners and streamify are made inside of stream_answer.",
        "Join the chunks of `citations`; json.loads reads them when the first chunk of `answer` comes. When the "
        "Prediction comes and no token did, it was a hit: yield its citations, and its answer as one token.",
    ),
    checks=(
        sources_come_first,
        streams_for_every_request,
        shows_what_is_written,
        tells_of_half_answers,
        serves_from_the_cache,
        may_be_left,
    ),
    deadline_s=40.0,
    why="What can be shown first is decided by the signature, so it costs no second request. One task owns the "
    "run, so a reader may leave at any time; one set of listeners belongs to one request.",
)
