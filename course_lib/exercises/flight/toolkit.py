"""Project 4, a debugging toolkit: spans of what a program does, a profile of them, and advice.

Main path: TRACER, PROFILE, REPORT -> engine.registry, by their names in EXERCISES.
A profile and advice are judged on spans of the check's own, whose times lie on a grid of milliseconds.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import asyncio
import copy
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import dspy

from course_lib.exercises.concurrency.watched import Watched, until
from course_lib.exercises.engine.checks import expect, expect_equal, show
from course_lib.exercises.engine.registry import Exercise

Span = dict[str, Any]
_FIELDS = ("name", "trace", "id", "parent", "key", "begun_s", "took_s", "error")
_VARIABLE = "A ContextVar holds the open span: a task and a thread of asyncio get a copy of it."
_AROUND = "try, except BaseException, finally: note the class, raise again, and reset the variable."


def _named(tracer: Any, name: str) -> Span:
    """Return the one span of this name; fail the check if there is none, or a second one."""
    found = [span for span in tracer.spans if span["name"] == name]
    names = [span["name"] for span in tracer.spans]
    expect(len(found) == 1, f"spans named {name!r}", observed=f"{len(found)} among {names}", expected="1")
    missing = [field for field in _FIELDS if field not in found[0]]
    expect_equal(missing, [], f"fields that the span {name!r} does not have")
    return dict(found[0])


def _paths(spans: Iterable[Span]) -> list[str]:
    """Return the path to each span, from the first one above it."""
    known = {(span["trace"], span["id"]): span for span in spans}

    def path(span: Span) -> str:
        if span["parent"] is None:
            return str(span["name"])
        parent = known.get((span["trace"], span["parent"]))
        return f"{path(parent) if parent else '(a span that is not there)'} > {span['name']}"

    return sorted(map(path, known.values()))


def notes_a_block(tracer_class: Any) -> None:
    """A span is there when its block has ended, with name, trace, id, parent, key, begun_s, took_s, error."""
    tracer, before_s = tracer_class(), time.time()
    with tracer.span("request"):
        with tracer.span("search"):
            time.sleep(0.03)
        early = [span["name"] for span in tracer.spans]
    with tracer.span("next"):
        pass
    expect_equal(early, ["search"], "spans while the block 'request' goes on", hint="Append it in `finally`.")
    outer, inner, other = (_named(tracer, name) for name in ("request", "search", "next"))
    places = [
        outer["parent"],
        inner["parent"] == outer["id"],
        other["parent"],
        inner["trace"] == outer["trace"],
    ]
    what = "parent of request; whether search is below it; parent of the next; whether search is of its trace"
    expect_equal(places, [None, True, None, True], what, hint=_VARIABLE)
    apart = len({outer["id"], inner["id"], other["id"]}), outer["trace"] != other["trace"]
    expect_equal(apart, (3, True), "ids of three spans, and whether the next block begins a trace of its own")
    expect_equal([outer["error"], outer["key"]], [None, None], "error and key of a block of one's own")
    fits = before_s - 0.1 <= outer["begun_s"] <= inner["begun_s"] + 0.01 <= time.time() + 0.1
    expect(
        fits, "begun_s", observed=f"{outer['begun_s']}, {inner['begun_s']}", expected="times by time.time()"
    )
    fits = 0.02 < inner["took_s"] <= outer["took_s"] + 0.01 < 5
    observed = f"{outer['took_s']}, {inner['took_s']}"
    expect(
        fits, "took_s of a block of 0.03 s, and of the one around it", observed=observed, expected="seconds"
    )


async def parents_are_right(tracer_class: Any) -> None:
    """A span's parent is the one in which it begins, also in tasks and threads; two tracers share nothing."""
    tracer, other = tracer_class(), tracer_class()

    def in_thread(number: int) -> None:
        with tracer.span(f"thread {number}"):
            time.sleep(0.002)

    async def request(number: int) -> asyncio.Task[None]:
        with tracer.span(f"request {number}"), other.span("other"):
            await asyncio.sleep(random.random() / 200)
            later = asyncio.create_task(step(number))
            await asyncio.gather(asyncio.to_thread(in_thread, number), asyncio.sleep(random.random() / 200))
        return later

    async def step(number: int) -> None:
        await asyncio.sleep(random.random() / 50)
        with tracer.span(f"later {number}"):
            await asyncio.sleep(0)

    await asyncio.gather(*await asyncio.gather(*(request(number) for number in range(10))))
    roots = [f"request {number}" for number in range(10)]
    below = [f"request {number} > {name} {number}" for number in range(10) for name in ("thread", "later")]
    expect_equal(_paths(tracer.spans), sorted(roots + below), "spans of 10 requests at once", hint=_VARIABLE)
    traces = len({span["trace"] for span in tracer.spans})
    expect_equal(traces, 10, "traces of 10 requests at once", hint=_VARIABLE)
    expect_equal(
        set(_paths(other.spans)), {"other"}, "spans of a second tracer", hint="Keep all in the object."
    )


async def notes_errors(tracer_class: Any) -> None:
    """The error has the class that leaves the block, which goes through; a cancellation is noted, too."""
    tracer = tracer_class()
    errors: tuple[BaseException, ...] = ValueError("secret"), KeyError("secret"), asyncio.CancelledError()
    for error in errors:
        name = type(error).__name__
        got: BaseException | None = None
        try:
            with tracer.span(name):
                raise error
        except BaseException as caught:
            got = caught
        expect(got is error, f"what comes out of a block that raises {name}", observed=show(got),
               expected="the error itself", hint=_AROUND)  # fmt: skip
        expect_equal(
            _named(tracer, name)["error"], name, f"error of a block that raises {name}", hint=_AROUND
        )
    with tracer.span("after"):
        pass
    expect_equal(
        _named(tracer, "after")["parent"], None, "parent of a block after one that raised", hint=_AROUND
    )


def _gone(item: str) -> str:
    raise LookupError(item)


def _in_stock(item: str) -> str:
    return f"3 of {item}"


class Desk(dspy.Module):
    """A program with two predictors and a tool."""

    def __init__(self) -> None:
        super().__init__()
        self.sort, self.reply = dspy.Predict("ticket -> category"), dspy.Predict("ticket, category -> reply")
        self.stock = dspy.Tool(_in_stock, name="stock")

    async def aforward(self, ticket: str) -> Any:
        """Sort a ticket, look up the stock, and reply."""
        category = (await self.sort.acall(ticket=ticket)).category
        await self.stock.acall(item=ticket)
        return await self.reply.acall(ticket=ticket, category=category)


_CALLS = ("", " > Desk", " > Desk > Predict", " > Desk > Predict", " > Desk > Predict > LM",
          " > Desk > Predict > LM", " > Desk > stock")  # fmt: skip
_PAIR = "on_module_start opens a span under call_id, on_module_end closes it; so for lm and tool."


async def _served(tracer: Any, model: Watched, tickets: Sequence[str]) -> list[Any]:
    async def serve(number: int, ticket: str) -> Any:
        with tracer.span(f"request {number}"):
            return await Desk().acall(ticket=ticket)

    with dspy.context(lm=model.lm, callbacks=[tracer]):
        requests = (serve(number, ticket) for number, ticket in enumerate(tickets))
        return await asyncio.gather(*requests, return_exceptions=True)


async def listens_to_dspy(tracer_class: Any) -> None:
    """As a callback it has a span for each call of a module, a model and a tool, below what called it."""
    tracer, tickets = tracer_class(), [f"Ticket {secrets.token_hex(3)}" for _ in range(4)]
    results = await _served(tracer, Watched(), tickets)
    for result in results:
        error = isinstance(result, BaseException)
        expect(not error, "the program under a tracer", observed=show(result), expected="its answer")
    wanted = sorted(f"request {number}{each}" for number in range(4) for each in _CALLS)
    expect_equal(_paths(tracer.spans), wanted, "spans of 4 requests to a program at once", hint=_PAIR)
    failing = tracer_class()
    await _served(failing, Watched(error_rate=1.0), tickets[:1])
    errors = Counter((span["name"], span["error"]) for span in failing.spans)
    names = ("request 0", "Desk", "Predict", "LM")
    expect_equal(
        errors, Counter((name, "LMServerError") for name in names), "errors of a model that fails", hint=_PAIR
    )
    broken = tracer_class()
    with suppress(LookupError), dspy.context(callbacks=[broken]):
        await dspy.Tool(_gone, name="gone").acall(item="tent")
    expect_equal(_named(broken, "gone")["error"], "LookupError", "error of a tool that raises", hint=_PAIR)
    left, model = tracer_class(), Watched(hang_rate=1.0)
    task = asyncio.ensure_future(_served(left, model, tickets[:1]))
    await until(model.under_way)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    errors = Counter((span["name"], span["error"]) for span in left.spans)
    expect_equal(
        errors,
        Counter((name, "CancelledError") for name in names),
        "errors of a request that is cancelled",
        hint=_PAIR,
    )


async def keeps_no_content(tracer_class: Any) -> None:
    """Nothing of questions, answers and messages of errors is kept."""
    word, tracer = f"ann-{secrets.token_hex(4)}", tracer_class()
    await _served(tracer, Watched(), [f"Where is the parcel of {word}?"])
    await _served(tracer, Watched(error_rate=1.0), [f"Where is the parcel of {word}?"])
    with suppress(ValueError), tracer.span("read"):
        raise ValueError(f"no parcel of {word}")
    kept = [span["name"] for span in tracer.spans if word in repr(span)]
    expect_equal(kept, [], "spans with a word of the question", hint="Names, times and classes only.")
    kept = [name for name, value in vars(tracer).items() if word in repr(value)]
    expect_equal(
        kept, [], "attributes of the tracer with a word of the question", hint="Forget it at the end."
    )


async def knows_equal_calls(tracer_class: Any) -> None:
    """The key of a call of DSPy is the same for the same inputs, another for others, and of this tracer."""
    keys = []
    for _ in range(2):
        tracer = tracer_class()
        for ticket in ("tent", "tent", "stove"):
            await _served(tracer, Watched(), [ticket])
        for name in ("Desk", "stock"):
            each = [span["key"] for span in tracer.spans if span["name"] == name]
            same = len(each) == 3 and each[0] == each[1] != each[2] and None not in each
            what = f"keys of 3 calls of {name}, the first two alike"
            expect(same, what, observed=show(each), expected="a, a, b")
            keys += each[:1]
        each = [span["key"] for span in tracer.spans if span["name"] == "LM"]
        different = len({*each} - {None})
        expect_equal(different, 4, "different keys of 6 calls of a model, of which two are repeated")
    hint = "hmac.new(secret, repr(inputs).encode(), 'sha256'), with a secret of the tracer's own."
    expect(not set(keys[:2]) & set(keys[2:]), "keys of the same call in two tracers", observed="the same",
           expected="others: who has a list of tickets could find out which it was", hint=hint)  # fmt: skip


TRACER = Exercise(
    title="Spans of what a program does",
    minutes=12,
    difficulty="medium",
    hints=(
        f"{_VARIABLE} span() reads it for the parent, sets itself, and resets it in a `finally`.",
        "`@contextmanager def span(self, name, key=None)`: a dict that is filled in and appended at the end. "
        "except BaseException notes type(error).__name__ and raises.",
        f"{_PAIR} Enter self.span(...) by hand and keep it in a dict; at the end call its "
        "__exit__(type(exception), exception, exception.__traceback__), or with three times None.",
    ),
    checks=(
        notes_a_block,
        parents_are_right,
        notes_errors,
        listens_to_dspy,
        keeps_no_content,
        knows_equal_calls,
    ),
    deadline_s=20.0,
    why="A context variable goes where the call goes, so nothing has to be handed on. A keyed digest tells "
    "equal calls without keeping what they were about.",
)


def _span(name: str, begun_ms: int, took_ms: int, parent: Span | None = None, **more: Any) -> Span:
    """Return a span as a tracer keeps it; times in milliseconds after an arbitrary moment."""
    trace = parent["trace"] if parent else secrets.token_hex(4)
    given = {
        "trace": trace,
        "id": secrets.token_hex(4),
        "parent": parent and parent["id"],
        "key": None,
        "error": None,
    }
    return {"name": name, "begun_s": 1000 + begun_ms / 1000, "took_s": took_ms / 1000, **given, **more}


def _ms(spans: Iterable[Span]) -> set[int]:
    """Return the milliseconds in which at least one of these was open."""
    return {
        each
        for span in spans
        for each in range(round(1000 * span["begun_s"]), round(1000 * (span["begun_s"] + span["took_s"])))
    }


def _expected(spans: list[Span]) -> tuple[dict[str, list[float]], dict[tuple[str | None, str], int]]:
    """Return calls, total and self seconds by name, and the calls from name to name."""
    known = {(span["trace"], span["id"]): span for span in spans}
    rows: dict[str, list[float]] = {}
    for name in {span["name"] for span in spans}:
        own = [span for span in spans if span["name"] == name]
        alone = [
            _ms([span])
            - _ms(each for each in spans if (each["trace"], each["parent"]) == (span["trace"], span["id"]))
            for span in own
        ]
        rows[name] = [len(own), len(_ms(own)) / 1000, sum(map(len, alone)) / 1000]
    callers = (known.get((span["trace"], span["parent"]), {}).get("name") for span in spans)
    return rows, dict(Counter(zip(callers, (span["name"] for span in spans), strict=True)))


def _profiled(profile: Callable[..., Any], spans: list[Span], what: str, hint: str, *, part: int) -> None:
    """Fail the check unless rows (part 0) or edges (part 1) of these spans are right."""
    given = copy.deepcopy(spans)
    rows, edges = profile(given)
    wanted = _expected(spans)
    if part:
        expect_equal(dict(edges), wanted[1], f"edges: calls from name to name, {what}", hint=hint)
        expect_equal(
            given, spans, "the spans after profile()", hint="They are others' as well: copy before you sort."
        )
    expect_equal(sorted(rows), sorted(wanted[0]), f"names in the rows, {what}")
    got = {
        name: [round(float(row[each]), 6) for each in ("calls", "total_s", "self_s")]
        for name, row in rows.items()
    }
    shown = {name: [round(each, 6) for each in row] for name, row in wanted[0].items()}
    expect_equal(got, shown, f"calls, total_s and self_s, {what}", hint=hint)


def _shuffled(*spans: Span) -> list[Span]:
    return random.sample(spans, len(spans))


_UNION = "Sort the intervals and walk: only what lies beyond the end so far is new."


def profiles_what_nests(profile: Any) -> None:
    """A row a name: calls, total_s, self_s, from spans in any order; nothing from nothing."""
    root = _span("request", 0, 900)
    steps = [_span("Predict", 100 * each, random.randint(40, 90), root) for each in range(1, 5)]
    calls = [_span("LM", 100 * each + 5, 30, step) for each, step in enumerate(steps, 1)]
    _profiled(profile, _shuffled(root, *steps, *calls), "calls one after the other", _UNION, part=0)
    expect_equal(tuple(map(dict, profile([]))), ({}, {}), "rows and edges of no spans")


def counts_time_once(profile: Any) -> None:
    """Children at the same time count once; total_s is the time in which at least one of a name is open."""
    root = _span("request", 0, 1000)
    together = [_span("LM", random.randint(50, 300), random.randint(100, 400), root) for _ in range(8)]
    _profiled(profile, _shuffled(root, *together), "8 children at the same time", _UNION, part=0)
    apart = [
        _span("LM", 100, 500, root),
        _span("LM", 150, 50, root),
        _span("LM", 550, 200, root),
        _span("LM", 900, 50, root),
    ]
    _profiled(profile, _shuffled(root, *apart), "a short child beside a long one", _UNION, part=0)
    inner = _span("ask", 100, 700, outer := _span("ask", 0, 900))
    _profiled(
        profile,
        _shuffled(outer, inner, _span("ask", 200, 100, inner)),
        "a name within itself",
        _UNION,
        part=0,
    )


def clips_to_the_parent(profile: Any) -> None:
    """What a child does after its parent has ended takes nothing from the parent."""
    root = _span("request", 0, 300)
    late = [_span("log", 250, 400, root), _span("mail", 400, 100, root)]
    hint = "Cut a child's interval at the parent's begin and end."
    _profiled(profile, _shuffled(root, *late), "children that go on after their parent", hint, part=0)


def draws_edges(profile: Any) -> None:
    """An edge (caller, called) counts calls; None calls a root, and one whose parent is not there."""
    root = _span("request", 0, 500)
    steps = [_span("Predict", 100 * each, 90, root) for each in range(3)]
    lost = [{**_span("LM", 100, 50), "parent": "gone"}, _span("LM", 300, 50, steps[0])]
    hint = "Look a parent up by (trace, id); .get() of one that is not there."
    _profiled(profile, _shuffled(root, *steps, *lost), "with a span whose parent is not there", hint, part=1)


def tells_traces_apart(profile: Any) -> None:
    """An id is unique within its trace only."""
    spans = []
    for trace, name in (("one", "search"), ("two", "answer")):
        root = _span(name, 0, 400, trace=trace, id="a")
        spans += [root, _span(f"{name} step", 100, 100, root, id="b")]
    hint = "The key of a span is (trace, id)."
    _profiled(profile, _shuffled(*spans), "two traces with the same ids", hint, part=1)
    spans = []
    for trace, begun_ms in (("one", 100), ("two", 250)):
        root = _span("request", 0, 400, trace=trace, id="a")
        spans += [root, _span("LM", begun_ms, 100, root, id="b")]
    _profiled(profile, _shuffled(*spans), "two traces at the same time", hint, part=0)


PROFILE = Exercise(
    title="A profile and an execution graph",
    minutes=10,
    difficulty="medium",
    hints=(
        f"One function does both times: the seconds covered by a list of intervals (begin, end). {_UNION}",
        "total_s is what all spans of a name cover; self_s is took_s less what the children cover, each cut "
        "to its parent: max of the begins, min of the ends.",
        "Index spans and children by (trace, id). edges[caller, name] += 1, where the caller is the name of "
        "the parent found there, or None.",
    ),
    checks=(profiles_what_nests, counts_time_once, clips_to_the_parent, draws_edges, tells_traces_apart),
    why="Times of calls at the same time cannot be added; what their intervals cover can. So "
    "self times never exceed the time that went by for one task, and the largest of them is where to look.",
)

Advice = set[tuple[str, str, float]]
_BELOW = "Walk from the first begin on, and note the ids of what is repeated and of what is below it."


def _expect_advice(advise: Any, spans: list[Span], wanted: Advice, what: str, hint: str) -> None:
    """Fail the check unless this advice is given, and no other."""
    got = sorted(
        (str(kind), str(name), round(float(saves), 6)) for kind, name, saves in advise(_shuffled(*spans))
    )
    expect_equal(
        got,
        sorted((kind, name, round(saves, 6)) for kind, name, saves in wanted),
        f"advice for {what}",
        hint=hint,
    )


def _line(name: str, keys: Sequence[Any], took_ms: int, parent: Span, begun_ms: int = 0) -> list[Span]:
    """Return calls one after the other."""
    return [
        _span(name, begun_ms + each * (took_ms + 5), took_ms, parent, key=key)
        for each, key in enumerate(keys)
    ]


def leaves_the_healthy_alone(advise: Any) -> None:
    """A healthy trace gets no advice."""
    one, three = _span("request", 0, 500), _span("request", 0, 900)
    single = [one, call := _span("Predict", 5, 490, one, key="a"), _span("LM", 10, 480, call, key="b")]
    hint = "Only what the numbers show, and what is worth it."
    _expect_advice(advise, single, set(), "one question to a model", hint)
    together = [three, *(_span("LM", 10 + each, 800, three, key=f"{each}") for each in range(6))]
    _expect_advice(advise, together, set(), "6 calls at the same time", hint)
    agent = [
        three,
        *(_span(("LM", "stock")[each % 2], 100 * each, 99, three, key=f"{each}") for each in range(8)),
    ]
    _expect_advice(
        advise,
        agent,
        set(),
        "an agent: model, tool, model, tool",
        "Another call between two may be what the second needs.",
    )
    own = [three, *_line("step", [None] * 5, 150, three)]
    _expect_advice(advise, own, set(), "blocks of one's own, without a key", hint)
    mixed = [three, *_line("LM", [None, "a"], 300, three)]
    _expect_advice(advise, mixed, set(), "a block of one's own, then a call with a key", hint)
    _expect_advice(advise, [], set(), "no spans", hint)


def advises_a_cache(advise: Any) -> None:
    """Same name, same key, no error: all but the first are saved, and what is below them counts no more."""
    root, took_ms = _span("request", 0, 2000), random.randint(200, 300)
    calls = _line("Predict", ["same"] * 4, took_ms, root)
    below = [_span("LM", 0, took_ms - 10, call, key="other", begun_s=call["begun_s"]) for call in calls]
    saved = {("cache", "Predict", 3 * took_ms / 1000)}
    deep = [_span("Embedder", 0, 150, call, key="deep", begun_s=call["begun_s"]) for call in below]
    _expect_advice(advise, [root, *calls, *below, *deep], saved, "a call that is made 4 times", _BELOW)
    failed = _line("LM", ["same"] * 3, 300, root)
    failed[0]["error"] = "ValueError"
    hint = "A cache keeps no failure: the call after it is no repetition, and needs what failed."
    _expect_advice(
        advise, [root, *failed], {("cache", "LM", 0.3)}, "a call that fails, and is made twice again", hint
    )
    late = _line("LM", ["same"] * 3, 300, root)
    late[1]["error"] = "ValueError"
    _expect_advice(advise, [root, *late], {("cache", "LM", 0.3)}, "a call that fails when made again", hint)
    other = [*_line("LM", "a", 300, root), *_line("Embedder", "a", 300, root, 400)]
    _expect_advice(
        advise, [root, *other], set(), "two calls of other names with the same key", "A key is one name's."
    )


def advises_together(advise: Any) -> None:
    """Calls of one name, directly after one another, with other keys: all but the longest is saved."""
    root = _span("request", 0, 3000)
    calls = [_span("Predict", 400 * each, 300 + 10 * each, root, key=f"{each}") for each in range(5)]
    below = [_span("LM", 400 * each + 5, 290, call, key=f"{each}") for each, call in enumerate(calls)]
    hint = "Children of one parent, by their begin: sum less the longest of each unbroken row."
    _expect_advice(
        advise, [root, *calls, *below], {("together", "Predict", 1.26)}, "5 calls one after the other", hint
    )
    repeated = _line("LM", ["a", "b", "a", "b"], 300, root)
    saved = {("cache", "LM", 0.6), ("together", "LM", 0.3)}
    _expect_advice(
        advise,
        [root, *repeated],
        saved,
        "2 calls one after the other, then both again",
        "Repetitions are the cache's.",
    )
    between, saved = _line("LM", "abac", 300, root), {("cache", "LM", 0.3), ("together", "LM", 0.6)}
    what = "3 calls one after the other, of which one is repeated between them"
    _expect_advice(advise, [root, *between], saved, what, "A repetition ends no row.")
    agents = [_span("Agent", 1500 * each, 1000, root) for each in range(2)]
    rows = [_line("LM", f"{each}x", 400, agent, 1500 * each) for each, agent in enumerate(agents)]
    rows[1][1]["key"] = "y"
    what, hint_of = "2 calls one after the other under each of two parents", "Add up what all rows save."
    _expect_advice(advise, [root, *agents, *rows[0], *rows[1]], {("together", "LM", 0.8)}, what, hint_of)
    parents = [_span("Agent", 0, 600, root), _span("Other", 700, 600, root)]
    apart = [_span("LM", 700 * each, 500, parent, key=f"{each}") for each, parent in enumerate(parents)]
    _expect_advice(advise, [root, *parents, *apart], set(), "calls under two parents", hint)


def finds_the_slow_one(advise: Any) -> None:
    """Of 5 or more calls without children, one over 5 times the median: it could take the median."""
    root, slow_ms = _span("request", 0, 4000), random.randint(1200, 2000)
    took_ms = [slow_ms, 100, 120, 100, 110, 100]
    calls = [_span("LM", 2 * each, took, root, key=f"{each}") for each, took in enumerate(took_ms)]
    hint = "statistics.median of took_s; the saving is what lies above it."
    _expect_advice(
        advise, [root, *calls], {("slow", "LM", slow_ms / 1000 - 0.105)}, "one slow call of 6", hint
    )
    _expect_advice(
        advise, [root, *calls[:4]], set(), "one slow call of 4", "Four calls make no median to trust."
    )
    short = _span("request", 0, 1000)
    fast = [_span("LM", 2 * each, 100 + 380 * (each == 0), short, key=f"{each}") for each in range(6)]
    _expect_advice(advise, [short, *fast], set(), "one call of 0.48 s among 0.1 s", hint)
    above = [_span("Predict", 2 * each, took + 10, root, key=f"{each}") for each, took in enumerate(took_ms)]
    within = [
        _span("LM", 2 * each, took, call, key=f"{each}")
        for each, (took, call) in enumerate(zip(took_ms, above, strict=True))
    ]
    _expect_advice(
        advise,
        [root, *above, *within],
        {("slow", "LM", slow_ms / 1000 - 0.105)},
        "one slow call within another",
        "Only calls without children.",
    )


def advises_a_retry(advise: Any) -> None:
    """Two failures and a tenth or more, of errors that pass, where they began: a retry answers so many."""
    root = _span("request", 0, 3000)

    def failing(*errors: str) -> list[Span]:
        calls = [_span("Predict", each, 900, root, key=f"{each}") for each in range(10)]
        below = [_span("LM", each, 890, call, key=f"{each}") for each, call in enumerate(calls)]
        for each, error in enumerate(errors):
            calls[each]["error"] = below[each]["error"] = error
        return [root, *calls, *below]

    hint = "n failures of share p: one retry answers n * (1 - p) of them."
    _expect_advice(
        advise,
        failing(*["LMServerError"] * 3),
        {("retry", "LM", 2.1)},
        "3 of 10 calls with LMServerError",
        hint,
    )
    mixed = failing("LMRateLimitError", "TimeoutError", "ValueError", "CancelledError")
    _expect_advice(
        advise,
        mixed,
        {("retry", "LM", 1.6)},
        "2 errors that pass, one that does not, a cancellation",
        "PASSING has those that pass.",
    )
    _expect_advice(advise, failing("LMServerError"), set(), "a single failure", hint)
    _expect_advice(
        advise,
        failing(*["LMServerError"] * 10),
        set(),
        "10 failures of 10",
        "What always fails, fails again.",
    )
    many = [_span("LM", each, 900, root, key=f"{each}") for each in range(30)]
    many[3]["error"] = many[4]["error"] = "LMTimeoutError"
    _expect_advice(advise, [root, *many], set(), "2 failures of 30", hint)
    many[5]["error"] = "LMServerError"
    _expect_advice(advise, [root, *many], {("retry", "LM", 2.7)}, "3 failures of 30", hint)


def weighs_what_it_saves(advise: Any) -> None:
    """What saves less than a tenth of the time is no advice."""
    root, hint = _span("request", 0, 2000), "Compare with the time from the first begin to the last end."
    small = [_span("Tool", 10 * each, 90 if each == 0 else 5, root, key=f"{each}") for each in range(6)]
    little = [root, *small, *_line("LM", "ab", 150, root, 200), *_line("Cheap", "aa", 80, root, 700)]
    _expect_advice(advise, little, set(), "what saves 150 ms and 80 ms of 2 s", hint)
    one, two = _span("request", 0, 1000), _span("request", 1000, 1000)
    both = [one, two, *_line("LM", "ab", 150, one)]
    _expect_advice(advise, both, set(), "what saves 150 ms of two requests, 2 s together", hint)


REPORT = Exercise(
    title="Advice that follows from the numbers",
    minutes=12,
    difficulty="hard",
    hints=(
        f"Begin with cache: sort by begun_s. {_BELOW} Add up savings in a Counter under (kind, name).",
        "together: for each parent, walk over its children that are no repetition. A row goes on while name "
        "is the same, key another one, and the begin not before the end of the last one.",
        "slow and retry: group by name. At the end leave out what saves less than a tenth of the time from "
        "the first begin to the last end; for a retry, what saves nothing.",
    ),
    checks=(
        *(leaves_the_healthy_alone, advises_a_cache, advises_together),
        *(finds_the_slow_one, advises_a_retry, weighs_what_it_saves),
    ),
    why="Each advice has its cause in the spans and a figure in seconds or answers, so it can be "
    "weighed, and measured after it was followed. A report that always finds something is soon not read.",
)
