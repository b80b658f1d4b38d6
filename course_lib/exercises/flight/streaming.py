"""Project 3, streaming answers from documents: a bounded runner, a stream of events, and what is left of it.

Main path: RUNNER, STREAM, DEGRADED -> engine.registry, by their names in EXERCISES.
What became of a request to the model is read in the endpoint's ledger.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import dspy

from course_lib.exercises.concurrency.watched import Watched, expect_end, expect_left, turns, until
from course_lib.exercises.engine.checks import expect, expect_equal, show
from course_lib.exercises.engine.registry import Exercise
from course_lib.flight import Busy

_LONG_S = 600.0


class _Calls:
    """Calls that go on until they may end; it counts those that began, are under way and were cancelled."""

    def __init__(self, *, may_end: bool = False) -> None:
        self.begun = self.now = self.most = self.cancelled = 0
        self.may_end = asyncio.Event()
        self.seen = Counter[object]()
        if may_end:
            self.may_end.set()

    async def __call__(self, item: object = None) -> object:
        """Begin a call; it returns its item."""
        self.begun += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.001)
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1
        self.seen[item] += 1
        return item


_Tasks = list[asyncio.Future[Any]]


def _begun(runner: Any, call: Any, count: int) -> _Tasks:
    return [asyncio.ensure_future(runner.run(call, _LONG_S)) for _ in range(count)]


async def _after(seconds: float) -> None:
    """Wait by the clock of the loop, then let everything happen that is due, and nothing that is not."""
    is_over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, is_over.set)
    await is_over.wait()
    for _ in range(50):
        await asyncio.sleep(0)


async def _left(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=5.0)


async def _expect_free(runner: Any, at_once: int, waiting: int, when: str) -> None:
    """Fail the check unless this runner begins so many calls, lets so many wait, and refuses the rest."""
    calls, too_many = _Calls(), 3
    tasks = _begun(runner, calls, at_once + waiting + too_many)
    await until(lambda: calls.begun >= at_once and sum(task.done() for task in tasks) >= too_many)
    await turns()
    ended = Counter(type(task.exception()).__name__ for task in tasks if task.done())
    what = f"BoundedRunner({at_once}, {waiting}), {len(tasks)} calls {when}"
    hint = "Count those inside run, waiting or calling; one too many raises Busy before it waits."
    expect_equal(calls.begun, at_once, f"{what}: those under way", hint=_FREE)
    expect_equal(dict(ended), {"Busy": too_many}, f"{what}: those refused at once", hint=hint)
    calls.may_end.set()
    await asyncio.wait(tasks, timeout=5.0)
    expect_equal(calls.begun, at_once + waiting, f"{what}: those that were made in the end", hint=hint)


async def refuses_the_rest(runner_class: Any) -> None:
    """So many calls are under way, so many wait, and Busy is raised at once for the rest."""
    for at_once, waiting in ((1, 0), (3, 2), (random.randint(4, 9), random.randint(3, 9))):
        runner = runner_class(at_once, waiting)
        await _expect_free(runner, at_once, waiting, "at once")
        await _expect_free(runner, at_once, waiting, "when these had ended")


async def hands_through(runner_class: Any) -> None:
    """What a call returns, and the very error that it raises, comes out of run; its place is free then."""
    runner, made = runner_class(1, 0), list[object]()
    empty: tuple[object, ...] = (None, "", 0, [])
    errors = LookupError("gone"), TimeoutError("own"), Busy("own")
    ends: list[object] = [f"answer {random.random()}", *empty, *errors]
    for end in ends:

        async def call(end: object = end) -> object:
            made.append(end)
            await asyncio.sleep(0)
            if isinstance(end, Exception):
                raise end
            return end

        task = asyncio.ensure_future(runner.run(call, _LONG_S))
        await asyncio.wait([task], timeout=5.0)
        got = (task.exception() or task.result()) if task.done() else "it still waits"
        itself = f"{end!r} itself"
        expect(got is end, "what comes out of run", observed=show(got), expected=itself, hint=_FREE)
    expect_equal(len(made), 8, "calls made in eight runs, of which three raised")


async def ends_in_time(runner_class: Any) -> None:
    """The time counts from run, waiting included; then TimeoutError, the call cancelled or not begun."""
    hint = "asyncio.timeout(within_s) goes around the wait for a place, not only around the call."
    runner, held, late, rest = runner_class(1, 1), _Calls(), _Calls(), _Calls()
    first = asyncio.ensure_future(runner.run(held, _LONG_S))
    await until(lambda: held.begun)
    waited = asyncio.ensure_future(runner.run(late, 0.1))
    await expect_end(waited, "TimeoutError", "a call that got no place within_s=0.1", hint=hint)
    await _left(first)
    expect_equal(late.begun, 0, "calls begun though their time was over", hint=hint)
    held, what = _Calls(), "a call that goes on, within_s=0.2"
    await expect_end(asyncio.ensure_future(runner.run(held, 0.2)), "TimeoutError", what, hint=hint)
    expect_equal((held.begun, held.cancelled), (1, 1), f"{what}: begun, and cancelled", hint=_TASK)
    freed = _Calls()
    tasks = [asyncio.ensure_future(runner.run(freed, _LONG_S))]
    await turns()
    tasks.append(asyncio.ensure_future(runner.run(rest, 0.5)))
    asyncio.get_running_loop().call_later(0.4, freed.may_end.set)
    await _after(0.6)
    observed = "ended" if tasks[1].done() else f"goes on, {rest.begun} begun"
    await _left(*tasks)
    what = "a call with within_s=0.5 that got its place after 0.4 s, after 0.6 s"
    expect_equal(observed, "ended", what, hint=hint)
    await _expect_free(runner, 1, 1, "after some ran out of time")


async def ends_with_its_caller(runner_class: Any) -> None:
    """A caller that is cancelled, calling or waiting, cancels its call, and its place is free."""
    runner, calls = runner_class(2, 2), _Calls()
    tasks = _begun(runner, calls, 4)
    await until(lambda: calls.begun == 2)
    await _left(*tasks)
    await turns()
    seen = f"{calls.cancelled} cancelled, {calls.begun} begun, {calls.now} under way"
    what = "2 calls under way and 2 that wait, when their callers are cancelled"
    expect_equal(seen, "2 cancelled, 2 begun, 0 under way", what, hint=_TASK)
    await _expect_free(runner, 2, 2, "after all callers were cancelled")


class _Source:
    """Documents that are there at once; it counts those that were taken."""

    def __init__(self, count: int) -> None:
        self.names, self.taken = [f"doc-{secrets.token_hex(3)}" for _ in range(count)], 0

    async def __aiter__(self) -> AsyncIterator[str]:
        for name in self.names:
            self.taken += 1
            yield name


async def takes_what_it_can_hold(runner_class: Any) -> None:
    """An ingest has at_once documents under way, takes at most `waiting` more, and indexes each once."""
    hint = "Wait for a place before you take the next document from the source."
    for at_once, waiting in ((2, 1), (random.randint(3, 6), 2)):
        source, calls, runner = _Source(40), _Calls(), runner_class(at_once, waiting)
        task = asyncio.ensure_future(runner.ingest(source, calls, _LONG_S))
        await until(lambda: task.done() or calls.now >= at_once)  # noqa: B023
        await turns()
        what = f"BoundedRunner({at_once}, {waiting}).ingest of 40 documents"
        expect_equal(calls.now, at_once, f"{what}: those that are indexed at the same time", hint=hint)
        expected, most = f"at most {at_once + waiting}", source.taken <= at_once + waiting
        expect(most, f"{what}: taken while none is done", observed=source.taken, expected=expected, hint=hint)
        other = _Calls(may_end=True)
        beside = _begun(runner, other, 1)
        await turns()
        expect_equal(other.begun, 0, f"{what}: calls of run() begun beside it", hint="It goes through run.")
        await _left(*beside)
        calls.may_end.set()
        await expect_end(task, "returned []", f"{what}: what it returns when none failed")
        expect(calls.seen == Counter(source.names), f"{what}: how often each was indexed",
               observed=show(Counter(calls.seen.values())), expected="each of 40 once")  # fmt: skip
    for count in (0, 1):
        task = asyncio.ensure_future(runner_class(3, 0).ingest(_Source(count), _Calls(may_end=True), _LONG_S))
        await expect_end(task, "returned []", f"what ingest of {count} documents returns")


async def tells_of_failures(runner_class: Any) -> None:
    """An ingest returns (document, error) for each that failed or ran out of time; it loses no other."""
    source, calls, late = _Source(20), _Calls(may_end=True), _Calls()
    bad, slow = source.names[3], source.names[8]
    error = ValueError("no text in it")

    tried = Counter[str]()

    async def index(name: str) -> None:
        tried[name] += 1
        if name == bad:
            raise error
        await (late if name == slow else calls)(name)

    task = asyncio.ensure_future(runner_class(2, 2).ingest(source, index, 0.8))
    await expect_end(task, "returned", "ingest of 20 documents, of which one fails and one hangs", hint=_LOST)
    told = sorted((each[0], type(each[1]).__name__) for each in task.result() or ())
    wanted = sorted([(bad, "ValueError"), (slow, "TimeoutError")])
    expect_equal(told, wanted, "documents that ingest returns", hint=_LOST)
    others = sum(calls.seen[name] == 1 for name in source.names)
    expect_equal(others, 18, "documents indexed of the 18 others", hint=_LOST)
    expect_equal((tried[bad], tried[slow]), (1, 1), "tries of the two that failed", hint=_LOST)


async def fills_each_place(runner_class: Any) -> None:
    """A document that takes long holds its own place alone; equal documents are each indexed."""
    source, calls, slow = _Source(12), _Calls(may_end=True), _Calls()
    source.names[5:7] = source.names[3:5]

    async def index(name: str) -> None:
        await (slow if name == source.names[0] else calls)(name)

    task = asyncio.ensure_future(runner_class(3, 1).ingest(source, index, _LONG_S))
    wanted = Counter(source.names[1:])
    await until(lambda: task.done() or calls.seen == wanted)
    seen, what = (
        sum(calls.seen.values()),
        "documents indexed beside one that goes on, of 11, two of them twice",
    )
    is_so = calls.seen == wanted
    await _left(task)
    expect(is_so, what, observed=seen, expected="11", hint="A place that is free takes the next document.")


async def stops_ingesting(runner_class: Any) -> None:
    """When ingest is cancelled, so are its calls, and no further document is taken."""
    source, calls = _Source(30), _Calls()
    task = asyncio.ensure_future(runner_class(3, 1).ingest(source, calls, _LONG_S))
    await until(lambda: calls.begun == 3)
    await _left(task)
    await turns()
    taken = source.taken
    await turns()
    seen = f"{calls.cancelled} cancelled, {calls.now} under way, {source.taken - taken} taken since"
    what = "3 calls of an ingest that was cancelled"
    expect_equal(seen, "3 cancelled, 0 under way, 0 taken since", what, hint=_TASK)


_FREE = "A place is free however its call ends: `async with`, or `finally`."
_TASK = "What is awaited is cancelled with you; a task of its own needs a TaskGroup, or your cancel()."
_LOST = "An error is a document's own: catch it where that document is indexed."

RUNNER = Exercise(
    title="Ingestion with backpressure",
    minutes=10,
    difficulty="medium",
    hints=(
        "Two bounds: an asyncio.Semaphore(at_once) for the calls, and a plain number of those inside run, "
        "waiting or calling. At at_once + waiting, raise Busy.",
        "`async with asyncio.timeout(within_s), self.slots: return await call()`, and the number goes "
        "down in a `finally`.",
        "ingest: a second semaphore and a TaskGroup. Acquire before you take the next document; its task "
        "calls run, keeps (document, error) of an Exception, and releases.",
    ),
    checks=(
        *(refuses_the_rest, hands_through, ends_in_time, ends_with_its_caller),
        *(takes_what_it_can_hold, tells_of_failures, fills_each_place, stops_ingesting),
    ),
    deadline_s=15.0,
    why="Two numbers bound the memory and the wait: how many work, and how many may wait. Who meets Busy can "
    "do something about it; a queue without an end only hides that nobody keeps up.",
)


_FACTS = {
    "mill": "The mill\nThe mill grinds rye on Tuesdays and oats on the second Friday of each month.",
    "ferry": "The ferry\nThe ferry to the island leaves the south pier at nine, and in winter at ten.",
    "shed": "Skis and sledges\nThe shed lends skis, poles and sledges to everybody until seven in the "
    f"evening on the days {', '.join(map(str, range(1, 121)))}.",
}
_QUESTIONS = {
    "mill": "When does the mill grind rye?",
    "ferry": "When does the ferry to the island leave?",
    "shed": "Until when does the shed lend skis and sledges?",
}
_KINDS = {"Passages": "texts", "Token": "text", "Citations": "ids", "End": "missing"}


class _Seen(list[tuple[str, Any]]):
    """The events of a stream: kind and content of each."""

    async def read(self, events: Any, last: str = "") -> _Seen:
        """Add events up to the first of a kind."""
        async for event in events:
            kind = type(event).__name__
            is_one = kind in _KINDS and hasattr(event, _KINDS[kind])
            expect(
                is_one, "an event of the stream", observed=show(event), expected=f"one of {', '.join(_KINDS)}"
            )
            content = getattr(event, _KINDS[kind])
            self.append((kind, content if isinstance(content, str) else list(content)))
            if kind == last:
                break
        return self

    def of(self, kind: str) -> list[Any]:
        """Return the content of each event of a kind."""
        return [content for each, content in self if each == kind]

    @property
    def kinds(self) -> str:
        """The kinds, each once for those that follow one another."""
        kinds = [kind for kind, _ in self]
        each = [kind for kind, before in zip(kinds, ["", *kinds], strict=False) if kind != before]
        return ", ".join(each) or "nothing"


def _asked(about: str) -> tuple[str, Callable[[str], Any], list[str]]:
    """Return a question, a search that finds three articles under new ids, and these."""
    texts = [f"[{name}-{secrets.token_hex(2)}] {text}" for name, text in _FACTS.items()]
    random.shuffle(texts)

    async def search(_: str) -> list[str]:
        await asyncio.sleep(0)
        return list(texts)

    return _QUESTIONS[about], search, texts


def _expect_written(seen: _Seen, reply: str, texts: list[str]) -> None:
    """Compare the tokens and citations with what the model wrote."""
    answer, ids = "".join(seen.of("Token")).strip(), [text[1 : text.index("]")] for text in texts]
    before, found, after = reply.rpartition(answer)
    is_whole = before.rstrip(' \n"')[-1:] in "]>:" and (
        not after.strip(' \n"') or after.strip(' \n"')[0] in "[<,}"
    )
    expect(answer and found and is_whole, "the tokens of an answer, joined", observed=show(answer),
           expected=f"what the model wrote into its field, of {reply!r}")  # fmt: skip
    listed = [each for each in ids if f'"{each}"' in before + after or f">{each}<" in before + after]
    cited = seen.of("Citations")[-1] if seen.of("Citations") else None
    hint = "The model's own list says what it cites; what was searched for is another matter."
    expect_equal(sorted(cited or []), sorted(listed), "the ids that it cites", hint=hint)


async def passages_tokens_citations(stream_answer: Any) -> None:
    """Passages, tokens as written, then once the ids that the model cites; one answer is one request."""
    for about in _QUESTIONS:
        (question, search, texts), model = _asked(about), Watched()
        with dspy.context(lm=model.lm):
            seen = await _Seen().read(stream_answer(question, search))
        await model.is_quiet()
        hint = "Listen to the field of the answer only; the Prediction that comes last has the citations."
        expect_equal(seen.kinds, "Passages, Token, Citations", "kinds of events, in their order", hint=hint)
        expect_equal(seen[0][1], texts, "texts of Passages, which search found")
        expect_equal(len(model.calls()), 1, "requests for one answer")
        pieces = len(seen.of("Token"))
        expect(pieces > 3, "pieces of the answer", observed=pieces, expected="more than 3")
        _expect_written(seen, str(model.calls()[0].reply), texts)


async def shows_at_once(stream_answer: Any) -> None:
    """Passages come before the model has written anything, and tokens while it still writes."""
    for fault, wanted in (("hang_rate", "Passages"), ("stall_rate", "Passages, Token")):
        (question, search, _), model, seen = _asked("shed"), Watched(**{fault: 1.0}), _Seen()
        with dspy.context(lm=model.lm):
            reading = asyncio.create_task(seen.read(stream_answer(question, search)))
        await until(lambda: reading.done() or seen.kinds == wanted)  # noqa: B023
        came = seen.kinds
        reading.cancel()
        await asyncio.wait([reading])
        await model.is_quiet()
        hint = "Yield the passages before you ask, and each chunk when it comes."
        expect_equal(came, wanted, f"what came while the model was silent, {fault}=1", hint=hint)


async def streams_each(stream_answer: Any) -> None:
    """Several streams at the same time have their own events each."""
    asked, model = [_asked(about) for about in [*_QUESTIONS] * 3], Watched(ttft_p50_ms=50)
    with dspy.context(lm=model.lm):
        reading = [_Seen().read(stream_answer(question, search)) for question, search, _ in asked]
        all_seen = await asyncio.gather(*reading)
    await model.is_quiet()
    hint = "A listener has a state: listeners and streamify's function are made for each request."
    for (question, _, texts), seen in zip(asked, all_seen, strict=True):
        what = "kinds of events of one of 9 streams"
        expect_equal(seen.kinds, "Passages, Token, Citations", what, hint=hint)
        reply = next(str(call.reply) for call in model.calls() if question in str(call.messages)
                     and texts[0][: texts[0].index("]")] in str(call.messages))  # fmt: skip
        _expect_written(seen, reply, texts)


async def tells_of_errors(stream_answer: Any) -> None:
    """An error of model or search comes out after what came, without Citations or a second request."""
    for fault, came, wanted, requests in (
        ("cut_midway_rate", "Passages, Token", dspy.LMError, 1),
        ("error_rate", "Passages", dspy.LMError, 1),
        ("search", "nothing", OSError, 0),
    ):
        (question, search, _), seen, ended = _asked("ferry"), _Seen(), "no error"
        model = Watched(**{} if fault == "search" else {fault: 1.0})

        async def gone(_: str) -> list[str]:
            raise OSError("no database")

        with dspy.context(lm=model.lm):
            try:
                await seen.read(stream_answer(question, gone if fault == "search" else search))
            except wanted:
                ended = wanted.__name__
        await model.is_quiet()
        got = seen.kinds, ended, len(model.calls())
        hint = "What half an answer is worth is decided elsewhere: let the error through."
        what = f"what came, {fault}: events, error, and requests to the model"
        expect_equal(got, (came, wanted.__name__, requests), what, hint=hint)


async def may_be_left(stream_answer: Any) -> None:
    """A reader leaves by aclose(), or is cancelled: the request to the model ends, and the reader goes on."""
    hint = "Run the program in a task of its own, with a queue, and cancel the task in a `finally`."
    for how, fault in (
        ("by aclose()", "stall_rate"),
        ("cancelled", "stall_rate"),
        ("cancelled", "hang_rate"),
    ):
        (question, search, _), model, seen = _asked("shed"), Watched(**{fault: 1.0}), _Seen()

        async def leave(events: Any, seen: _Seen = seen, how: str = how, model: Watched = model) -> None:
            await seen.read(events, "Token" if how == "by aclose()" else "")
            await events.aclose()
            await model.is_quiet()

        with dspy.context(lm=model.lm):
            reading = asyncio.create_task(leave(stream_answer(question, search)))
        ready = "Passages, Token" if fault == "stall_rate" else "Passages"
        await until(lambda: reading.done() or (model.under_way() and seen.kinds == ready))  # noqa: B023
        if how == "cancelled":
            reading.cancel()
        await asyncio.wait([reading], timeout=10.0)
        if how != "cancelled":
            expect(not reading.cancelled(), "what a reader does after aclose()", observed="it is cancelled",
                   expected="it goes on", hint=hint)  # fmt: skip
            reading.result()
        await expect_left(model, 1, f"statuses of the request after its reader left {how}", hint=hint)


STREAM = Exercise(
    title="An answer as a stream of events",
    minutes=12,
    difficulty="hard",
    hints=(
        "dspy.streamify(program, stream_listeners=[StreamListener('answer')], is_async_program=True), made "
        "anew for each request; it yields StreamResponse with .chunk, and at last the Prediction.",
        "Do not yield from within streamify's loop: a reader who leaves would be cancelled by DSPy's task "
        "group. A task reads it and puts what comes into an asyncio.Queue.",
        "try: yield what the queue gives until the task has put None; then `await task`, which raises its "
        "error. finally: task.cancel().",
    ),
    checks=(passages_tokens_citations, shows_at_once, streams_each, tells_of_errors, may_be_left),
    deadline_s=30.0,
    why="What is known early is shown early: the passages do not wait for the model. A task owns the run, so "
    "a reader may leave at any time, and what nobody reads is not written.",
)


class _Search:
    """A search, scripted: it finds these texts, or fails, or goes on for ever."""

    def __init__(self, texts: list[str] | Exception | None) -> None:
        self.texts, self.cancelled = texts, False

    async def __call__(self, _: str) -> list[str]:
        try:
            await (asyncio.sleep(0) if self.texts is not None else asyncio.Event().wait())
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if isinstance(self.texts, Exception):
            raise self.texts
        return list(self.texts or [])


class _Write:
    """An answer, scripted: pieces, then an end, an error or silence; it notes what it was asked."""

    def __init__(self, count: int = 5, end: Exception | str = "", pause_s: float = 0.0) -> None:
        self.pieces = [f"{secrets.token_hex(2)} " for _ in range(count)]
        self.end, self.pause_s = end, pause_s
        self.asked, self.open = list[Any](), 0

    async def __call__(self, question: str, texts: list[str]) -> AsyncIterator[str]:
        self.asked.append((question, list(texts)))
        self.open += 1
        try:
            for piece in self.pieces:
                await asyncio.sleep(self.pause_s)
                yield piece
            if isinstance(self.end, Exception):
                raise self.end
            if self.end:
                await asyncio.Event().wait()
        finally:
            self.open -= 1


_TEXTS, _KEPT = ["[a] one", "[b] two"], ["[k] kept"]


async def _expect_got(
    answer: Any,
    search: _Search,
    write: _Write,
    missing: list[str],
    what: str,
    *,
    kept: list[str] = _KEPT,
    within_s: float = 30.0,
) -> None:
    """Fail the check unless a reader gets the passages, all pieces, and an End that says what is missing."""
    question, seen = f"Question {secrets.token_hex(2)}?", _Seen()
    reading = asyncio.create_task(seen.read(answer(question, search, lambda _: list(kept), write, within_s)))
    await expect_end(reading, "returned", what, hint=_ENDS)
    texts = search.texts if isinstance(search.texts, list) else kept
    tokens = [("Token", piece) for piece in write.pieces if texts]
    got = [(kind, sorted(each) if kind == "End" else each) for kind, each in seen]
    expect_equal(got, [("Passages", texts), *tokens, ("End", sorted(missing))], what, hint=_ENDS)
    asked = [(question, texts)] if texts else []
    expect_equal(write.asked, asked, f"{what}: what write was asked for", hint="No passages, no question.")
    expect_equal(write.open, 0, f"{what}: answers that are still written", hint=_CLOSE)


async def is_whole_when_all_works(answer: Any) -> None:
    """Passages, each piece as a Token at once, then End with nothing missing."""
    for count in (1, 7):
        await _expect_got(answer, _Search(_TEXTS), _Write(count), [], "events when all works")
    write, seen = _Write(3, "silence"), _Seen()
    events = answer("Question?", _Search(_TEXTS), lambda _: _KEPT, write, 30.0)
    reading = asyncio.create_task(seen.read(events))
    await until(lambda: reading.done() or len(seen) >= 4)
    came = f"{len(seen.of('Passages'))} Passages, {len(seen.of('Token'))} Token, {len(seen.of('End'))} End"
    await _left(reading)
    expect_equal(
        came,
        "1 Passages, 3 Token, 0 End",
        "what came while write is silent after 3 pieces",
        hint="Yield as you read.",
    )


async def searches_elsewhere(answer: Any) -> None:
    """If the search fails, or takes a third of the time, the passages are kept's, and "search" is missing."""
    for error in (OSError("no database"), RuntimeError("pool closed"), TimeoutError("too slow")):
        what = f"events when search raises {error!r}"
        await _expect_got(answer, _Search(error), _Write(), ["search"], what)
    search, what = _Search(None), "events when search hangs, within_s=0.6"
    await _expect_got(answer, search, _Write(), ["search"], what, within_s=0.6)
    expect_equal(search.cancelled, True, "whether a search that hangs is cancelled", hint=_THIRD)
    seen = _Seen()
    reading = asyncio.create_task(seen.read(answer("?", _Search(None), lambda _: _KEPT, _Write(), 0.9)))
    await _after(0.37)
    came = seen.kinds
    await _left(reading)
    expect(came != "nothing", "a search that hangs, within_s=0.9, after 0.37 s", observed=came,
           expected="Passages", hint=_THIRD)  # fmt: skip


async def tells_what_is_missing(answer: Any) -> None:
    """What is missing is "answer" if no token came, "rest" if it broke off; no error comes out."""
    found = _Search(_TEXTS)
    for error in (RuntimeError("500"), dspy.LMTransportError("cut"), TimeoutError("no bytes")):
        what = f"events when write raises {type(error).__name__}"
        await _expect_got(answer, found, _Write(0, error), ["answer"], f"{what} at once")
        await _expect_got(answer, found, _Write(4, error), ["rest"], f"{what} after 4 pieces")
    await _expect_got(answer, found, _Write(0), ["answer"], "events when write ends without a piece")
    both, gone = ["search", "answer"], OSError("gone")
    await _expect_got(answer, _Search(gone), _Write(0, gone), both, "events when both fail")


async def asks_only_with_passages(answer: Any) -> None:
    """Without passages the model is not asked, and "answer" is missing."""
    await _expect_got(answer, _Search([]), _Write(), ["answer"], "events when nothing is found")
    what, both = "events when search fails and nothing is kept", ["search", "answer"]
    await _expect_got(answer, _Search(OSError("gone")), _Write(), both, what, kept=[])


async def keeps_the_deadline(answer: Any) -> None:
    """End comes within within_s, the search and all pieces included, and what goes on is ended."""

    async def ended(search: _Search, write: _Write, what: str) -> None:
        seen = _Seen()
        reading = asyncio.create_task(seen.read(answer("Question?", search, lambda _: _KEPT, write, 0.9)))
        await _after(1.0)
        state = "ended" if reading.done() else "goes on"
        await _left(reading)
        hint = "One end for all: a time by the loop's clock, and asyncio.timeout_at."
        expect_equal(state, "ended", f"a stream with within_s=0.9 after 1 s, where {what}", hint=hint)
        expect_equal(seen[-1][0], "End", f"the last event where {what}", hint=_ENDS)

    silent, falls_silent = _Write(0, "silence"), _Write(2, "silence")
    what = "events when write is silent after {} pieces, within_s=0.5"
    await asyncio.gather(
        _expect_got(answer, _Search(_TEXTS), silent, ["answer"], what.format(0), within_s=0.5),
        _expect_got(answer, _Search(_TEXTS), falls_silent, ["rest"], what.format(2), within_s=0.5),
        ended(_Search(None), _Write(0, "silence"), "search and write hang"),
        ended(_Search(_TEXTS), _Write(400, pause_s=0.05), "write goes on, a piece every 0.05 s"),
    )


async def spares_a_slow_reader(answer: Any) -> None:
    """A reader who pauses for longer than within_s is not interrupted, and gets an End that is right."""
    write, seen = _Write(3), _Seen()

    async def read() -> None:
        events = answer("Question?", _Search(_TEXTS), lambda _: _KEPT, write, 0.6)
        await seen.read(events, "Token")
        await asyncio.sleep(0.9)
        await seen.read(events)

    reading = asyncio.create_task(read())
    hint = "A `yield` inside asyncio.timeout puts the reader's pauses under it. Time each step only."
    await expect_end(reading, "returned", "a reader who pauses 0.9 s, within_s=0.6", hint=hint)
    tokens, ends = len(seen.of("Token")), seen.of("End")
    allowed = [["rest"], []][: 1 + (tokens == 3)]
    expect(ends and ends[0] in allowed, f"End after {tokens} of 3 tokens", observed=show(ends),
           expected=f"one of {allowed}")  # fmt: skip


async def stops_when_left(answer: Any) -> None:
    """A reader who leaves, by aclose() or cancelled, ends search and answer, and nothing more comes."""
    for what, search, write, last in (
        ("searches", _Search(None), _Write(), ""),
        ("writes", _Search(_TEXTS), _Write(2, "silence"), "Token"),
    ):
        seen = _Seen()
        reading = asyncio.create_task(seen.read(answer("Question?", search, lambda _: _KEPT, write, 30.0)))
        await until(lambda: reading.done() or not last or seen.of("Token")[1:])  # noqa: B023
        await turns()
        reading.cancel()
        await expect_end(
            reading,
            "CancelledError",
            f"a reader who is cancelled while it {what}",
            hint="Catch Exception; a cancellation is none.",
        )
        observed = f"search cancelled: {search.cancelled}, answers open: {write.open}"
        wanted = f"search cancelled: {what == 'searches'}, answers open: 0"
        expect_equal(observed, wanted, f"after its reader was cancelled while it {what}", hint=_CLOSE)
    write, seen = _Write(5), _Seen()
    events = answer("Question?", _Search(_TEXTS), lambda _: _KEPT, write, 30.0)
    await seen.read(events, "Token")
    with suppress(asyncio.CancelledError):
        await events.aclose()
    await turns()
    expect_equal(write.open, 0, "answers open after aclose()", hint=_CLOSE)


_ENDS = "Errors of search and write are caught, and the one End says what the reader does not have."
_THIRD = "`async with asyncio.timeout(within_s / 3):` around the search alone."
_CLOSE = "`finally: await pieces.aclose()` ends what is still being written."

DEGRADED = Exercise(
    title="What the reader gets when parts fail",
    minutes=12,
    difficulty="hard",
    hints=(
        "end_s = loop.time() + within_s at the beginning. The search: `async with asyncio.timeout(within_s "
        "/ 3)` in a try; `except Exception` takes what is kept.",
        "Read piece by piece: `async with asyncio.timeout_at(end_s): piece = await anext(pieces)`, and "
        "yield after the block. StopAsyncIteration is the end.",
        "Count the tokens. An Exception means 'rest', or 'answer' where the count is 0; so does an end "
        "without a token. `finally: await pieces.aclose()`, and End comes last.",
    ),
    checks=(
        *(is_whole_when_all_works, searches_elsewhere, tells_what_is_missing, asks_only_with_passages),
        *(keeps_the_deadline, spares_a_slow_reader, stops_when_left),
    ),
    deadline_s=30.0,
    why="Each part has its own way to fail, and the reader has one end: a label that says what is missing. A "
    "page can then show passages without an answer, or half an answer as half.",
)
