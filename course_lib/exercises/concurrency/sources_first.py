"""Exercise 3.3, the sources first: citations, then the answer while it is written, for readers who may leave.

Main path: EXERCISE -> engine.registry; each check reads streams of the endpoint's, whose ledger is the judge.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import Any
from unittest.mock import patch

import dspy
from dspy.clients import execution

from course_lib.exercises.concurrency.watched import Watched, expect_left, until
from course_lib.exercises.engine.checks import expect, expect_equal, show
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import memory_cache, under_dspy

_ORDER_HINT = "A model writes the fields in the order of the signature: that decides what can come first."
_STATE_HINT = "A listener has a state: make listeners and streamify's function for each request; no lock."
_TASK_HINT = "Run the program in a task and cancel it in a `finally`: small_stream, above, does it."
_ARTICLES = {
    "heron": "The ferry from the pier\nThe ferry to the island leaves at nine.",
    "otter": "The ferry in winter\nThe ferry to the island leaves the south pier at ten.",
    "crane": "Skis and sledges\nThe shed lends skis, poles and sledges to everybody, and takes them back "
    f"until seven in the evening on the days {', '.join(map(str, range(1, 121)))}.",
    "mill": "The mill\nThe mill grinds rye on Tuesdays.",
}
Event = tuple[str, str]


def _asked() -> list[tuple[str, list[str]]]:
    """Return questions with their articles, whose ids are new each time; the second has a long answer."""
    north, south, shed, mill = (f"[{word}-{secrets.token_hex(2)}] {text}" for word, text in _ARTICLES.items())
    return [
        ("When does the mill grind rye, and when does the ferry leave?", [north, south, mill]),  # mill first
        ("Who lends skis, poles and sledges, and until when are they taken back?", [north, shed, mill]),
        ("On which day does the mill grind rye?", [shed, mill, north]),
        ("Which composer wrote the anthem of Peru?", [north, south]),
    ]


async def _read(events: Any, seen: list[Event], last: str = "") -> list[Event]:
    """Add the events of a stream to those seen, up to the first of a kind; returns them."""
    async for event in events:
        is_pair = isinstance(event, tuple) and list(map(type, event)) == [str, str]
        expect(is_pair, "each event is a pair of texts", observed=show(event), expected="(kind, text)")
        seen.append(event)
        if event[0] == last:
            break
    return seen


def _kinds(events: list[Event]) -> str:
    return ", ".join(dict.fromkeys(kind for kind, _ in events)) or "nothing"


def _texts(events: list[Event], kind: str) -> list[str]:
    return [text for each, text in events if each == kind]


def _expect_order(events: list[Event]) -> None:
    letters = "".join(kind[:1] for kind, _ in events)
    observed, expected = f"{_kinds(events)} ({show(letters)})", "each citation, then tokens, then one answer"
    holds = re.fullmatch("c*t+a", letters)
    expect(holds, "the order of events", observed=observed, expected=expected, hint=_ORDER_HINT)


def _expect_written(events: list[Event], reply: str, context: list[str]) -> None:
    """Compare events with what the model wrote."""
    answer, hint = events[-1][1], "Each field has a listener of its own."
    expect_equal("".join(_texts(events, "token")), answer, "the tokens of an answer, joined", hint=hint)
    before, found, after = reply.rpartition(answer)
    rest = re.sub(r"\[\[ ## \w+ ## \]\]|</?\w+>", "", after).strip(' \n"}')
    expect(found and not rest, "the answer is the model's", observed=answer, expected=reply)
    ids = [article[1 : article.index("]")] for article in context]
    listed = re.findall(r'\["[^]]*"\]|(?:<item>[^<]*</item>)+|\[\]', before)[-1:]  # reasoning names some, too
    cited = [word for word in re.findall(r"[\w-]+", *listed or [before]) if word in ids]
    hint = "The model's own list says what it cites; what you searched for is another matter."
    expect_equal(_texts(events, "citation"), cited, "the citations", hint=hint)


async def sources_first(stream_answer: Any) -> None:
    """Citations, tokens, the answer, in this order, as the model wrote them; one answer is one request."""
    hint = "One request can bring both fields, in the order in which the signature has them."
    for question, context in _asked():
        model = Watched()
        with dspy.context(lm=model.lm):
            events = await _read(stream_answer(question, list(context)), [])
        await model.is_quiet()
        calls = model.calls()
        expect_equal(len(calls), 1, "requests for one answer", hint=hint)
        _expect_order(events)
        _expect_written(events, str(calls[0].reply), context)


async def streams_each(stream_answer: Any) -> None:
    """It streams for every request, also for several at the same time."""
    asked = _asked()[:3] * 4

    async def read(question: str, context: list[str], is_begun: asyncio.Event) -> list[Event]:
        try:
            events = stream_answer(question, list(context))
            seen = await _read(events, [], "token")
        finally:
            is_begun.set()
        await may_go_on.wait()
        return await _read(events, seen)

    with dspy.context(lm=Watched(ttft_p50_ms=50).lm):
        for many in (asked[:1], asked[1:2], asked):
            may_go_on, begun = asyncio.Event(), [asyncio.Event() for _ in many]
            reading = asyncio.gather(*(read(*each, one) for each, one in zip(many, begun, strict=True)))
            for count, one in enumerate(begun):
                what, observed = "readers that have a token, while these pause", f"{count} of {len(many)}"
                expect(await until(one.is_set), what, observed=observed, expected="all", hint=_STATE_HINT)
            may_go_on.set()
            for events in await reading:
                tokens = _texts(events, "token")
                what = f"the tokens of {'one of many at the same time' if len(many) > 1 else 'a request'}"
                expect(len(tokens) > 3, what, observed=len(tokens), expected="more than 3", hint=_STATE_HINT)
                expect_equal("".join(tokens), events[-1][1], f"{what}, joined", hint=_STATE_HINT)


async def shows_at_once(stream_answer: Any) -> None:
    """Each piece comes as soon as the model has written it; this one goes silent in its answer."""
    seen, written, to_chunk = list[Event](), list[str](), execution.ListenerBridge.chunk

    def heard(bridge: Any, event: Any) -> Any:
        chunk = to_chunk(bridge, event)
        written.append("" if chunk is None else chunk.choices[0].delta.content or "")
        return chunk

    def missing() -> str:
        shown = "".join(_texts(seen, "token")).strip()
        return "".join(written).rstrip().rpartition(shown)[2] if shown else ""

    with dspy.context(lm=Watched(stall_rate=1.0).lm), patch.object(execution.ListenerBridge, "chunk", heard):
        reading = asyncio.create_task(_read(stream_answer(*_asked()[1]), seen))
        await until(lambda: reading.done() or _texts(seen, "token"))
        heard_before = -1
        while heard_before < (heard_before := len(written)):  # noqa: ASYNC110  (nothing tells of silence)
            await asyncio.sleep(0.3)
        await until(lambda: reading.done() or (_texts(seen, "token") and not missing()))
        came, what = f"{_kinds(seen)}; not shown: {missing()!r}", "what came while the model was silent"
        reading.cancel()
        await asyncio.wait([reading])
    hint = f"Yield while you read. {_ORDER_HINT}"
    expect_equal(came, "citation, token; not shown: ''", f"{what} in the middle of its answer", hint=hint)


async def tells_of_errors(stream_answer: Any) -> None:
    """If the model fails, or its answer breaks off, its LMError is raised after what came, with no answer."""
    hint = "Let the model's error through, after what was shown; to ask again is another request."
    for fault, came in (("cut_midway_rate", "citation, token"), ("error_rate", "nothing")):
        seen, ended, model = list[Event](), "no error", Watched(**{fault: 1.0})
        with dspy.context(lm=model.lm):
            try:
                await _read(stream_answer(*_asked()[1]), seen)
            except dspy.LMError:
                ended = "LMError"
        await model.is_quiet()
        observed = f"{_kinds(seen)}, {ended}, requests: {len(model.calls())}"
        what = f"what came of an answer that broke off, {fault}=1"
        expect_equal(observed, f"{came}, LMError, requests: 1", what, hint=hint)


async def serves_hits(stream_answer: Any) -> None:
    """An answer from DSPy's cache brings citations and tokens as well."""
    memory = memory_cache()
    hint = "No listener hears a hit. What was not shown when the Prediction comes is taken from it."
    for question, context in _asked()[:2]:
        model = Watched()
        with under_dspy(memory), dspy.context(lm=model.lm.copy(cache=True)):
            live, hit = [await _read(stream_answer(question, list(context)), []) for _ in range(2)]
        await model.is_quiet()
        expect_equal(len(model.calls()), 1, "requests for an answer and its repetition")
        shown, again = [(_texts(each, "citation"), "".join(_texts(each, "token"))) for each in (live, hit)]
        expect_equal(again, shown, "citations and joined tokens of an answer from the cache", hint=hint)
        _expect_order(hit)


async def _expect_left(stream_answer: Any, how: str, last: str, fault: str) -> None:
    """Fail the check unless a reader may leave in this way."""
    seen, model = list[Event](), Watched(**{fault: 1.0})

    async def leave() -> None:
        events = stream_answer(*_asked()[1])
        await _read(events, seen, last)
        await events.aclose()
        await model.is_quiet()  # the reader goes on with something else

    with dspy.context(lm=model.lm):
        reading = asyncio.create_task(leave())
    await until(
        lambda: reading.done() or (model.under_way() if fault == "hang_rate" else _texts(seen, "token"))
    )
    if not last:
        reading.cancel()
    await asyncio.wait([reading])
    if not reading.cancelled():
        reading.result()  # an error of the learner's own is shown with its line
    elif last:
        expect_equal("is cancelled", "goes on", "what a reader does after aclose()", hint=_TASK_HINT)
    await expect_left(model, 1, f"statuses of the request after the reader left {how}", hint=_TASK_HINT)


async def may_be_left(stream_answer: Any) -> None:
    """When a reader leaves, by aclose() or cancelled, the request to the model ends; the reader goes on."""
    await _expect_left(stream_answer, "by aclose()", "token", "stall_rate")
    await _expect_left(stream_answer, "by being cancelled", "", "stall_rate")
    await _expect_left(stream_answer, "by being cancelled before the first event", "", "hang_rate")


EXERCISE = Exercise(
    title="The sources first",
    minutes=12,
    difficulty="medium",
    hints=(
        f"{_ORDER_HINT} Write a signature with citations before answer, and give each field a listener.",
        "Read small_stream(program, [the fields], ...): values of both fields come in the model's order, and "
        "it may be left. Each value says in signature_field_name which field it belongs to.",
        "Join the chunks of `citations`; json.loads reads them when the first chunk of `answer` comes. When "
        "the Prediction comes and no token did, it was a hit: yield its citations, and its answer whole.",
    ),
    checks=(sources_first, streams_each, shows_at_once, tells_of_errors, serves_hits, may_be_left),
    deadline_s=40.0,
    why="What can be shown first is decided by the signature, so it costs no second request. One task owns "
    "the run, so a reader may leave at any time; one set of listeners belongs to one request.",
)
