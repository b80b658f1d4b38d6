"""Exercise 4.1, what each module costs: a callback that finds whose call it was, in threads as well.

Main path: EXERCISE -> engine.registry; programs of the check's own ask a model that takes what they name.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import dspy
from dspy.clients.cache import Cache
from dspy.lm15 import Message, RateLimitError, Request, Response, TextPart, Usage
from dspy.utils.callback import ACTIVE_CALL_ID, BaseCallback

from course_lib.exercises.concurrency.watched import until
from course_lib.exercises.engine.checks import expect, expect_equal, expect_nothing_kept, without_error
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import under_dspy

_FEE = 1_000
_RATES = {"paid/large": 7, "paid/small": 3}
_ANSWER = "[[ ## answer ## ]]\nspend 5\n\n[[ ## completed ## ]]"


def _price(model: str, usage: Mapping[str, Any]) -> int:
    """Return a fee for each request, and a rate for what it spent."""
    return _FEE + _RATES[model] * int(usage.get("prompt_tokens", 0))


def _slow_price(model: str, usage: Mapping[str, Any]) -> int:
    time.sleep(0.01)
    return _price(model, usage)


class _Engine:
    """Takes so many tokens as a request says, `spend 17`; `spend ?` takes more each time; `fail` fails."""

    def __init__(self) -> None:
        self.asked, self.wanted = 0, 0

    def complete(self, request: Request) -> Response:
        self.asked += 1
        asked = re.findall(r"spend (\d+|\?)|(fail)|(garble)", repr(request.messages[-1]))[-1]
        if asked[1]:
            raise RateLimitError("busy")
        spent = 10 * self.asked if asked[0] == "?" else int(asked[0] or 2)
        parts, usage = [TextPart(text="" if asked[2] else _ANSWER)], Usage(spent, 1, spent + 1)
        made = Message.assistant(parts)
        return Response(id="1", model=request.model, message=made, finish_reason="stop", usage=usage)


class _Async:
    """The same engine for `acall`; an answer comes when so many have asked as are wanted."""

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine

    async def complete(self, request: Request) -> Response:
        response = self._engine.complete(request)
        await until(lambda: self._engine.asked >= self._engine.wanted)
        return response


def _model(name: str = "large", *, wanted: int = 0, cache: bool = False) -> dspy.LM:
    engine = _Engine()
    engine.wanted = wanted
    return dspy.LM(f"paid/{name}", engine=engine, async_engine=_Async(engine), cache=cache, num_retries=0)


class _Node(dspy.Module):  # type: ignore[misc]
    """Asks for each amount, then calls what is below; `model` is asked, else the one that is set."""

    def __init__(self, asks: tuple[object, ...], below: tuple[Any, ...]) -> None:
        super().__init__()
        self.ask, self.asks, self.below = dspy.Predict("question -> answer"), asks, below

    def forward(self) -> dspy.Prediction:
        for each in self.asks:
            self.ask(question=each if isinstance(each, str) else f"spend {each}")
        for part in self.below:
            part()
        return dspy.Prediction()

    async def aforward(self) -> dspy.Prediction:
        for each in self.asks:
            await self.ask.acall(question=each if isinstance(each, str) else f"spend {each}")
        for part in self.below:
            await part.acall()
        return dspy.Prediction()


async def _called(program: Any, how: str) -> None:
    await program.acall() if how == "acall" else program()


def _node(name: str, *asks: object, below: tuple[Any, ...] = ()) -> Any:
    """Return a program of a class of this name."""
    return type(name, (_Node,), {})(asks, below)


def _costs(*spent: int, model: str = "paid/large") -> int:
    return sum(_price(model, {"prompt_tokens": each}) for each in spent)


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts = list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def _no_handler_raises(what: str) -> Iterator[None]:
    """Fail the check if DSPy tells in this block that a callback raised."""
    warnings, log = _Warnings(), logging.getLogger("dspy.utils.callback")
    log.addHandler(warnings)
    try:
        yield
    finally:
        log.removeHandler(warnings)
    hint = "DSPy logs what a handler raises, and goes on without what it would have counted."
    expect_equal(warnings.texts[:1], [], f"what handlers raised, {what}", hint=hint)


@contextmanager
def _counting(
    cost_of: Any, what: str, *before: Any, price: Any = _price, model: Any = None, **settings: Any
) -> Iterator[Any]:
    """Let a new CostOf listen in this block, and yield it."""
    counter = cost_of(price)
    is_one = isinstance(counter, BaseCallback)
    expect(is_one, "what CostOf is", observed=type(counter).__mro__[1].__name__, expected="a BaseCallback")
    settings |= {"callbacks": [*before, counter], "lm": model or _model()}
    with _no_handler_raises(what), dspy.context(**settings):
        yield counter


def _expect_cost(counter: Any, wanted: Mapping[str, int], what: str, *, hint: str = "") -> None:
    """Fail the check unless these are the costs; a module without any may be there with 0, or not."""
    cost = counter.cost
    expect(isinstance(cost, dict), f"`cost` {what}", observed=cost, expected="a dict", hint=hint)
    got = {name: round(dollars, 6) for name, dollars in sorted(cost.items(), key=str) if dollars}
    expect_equal(got, dict(sorted(wanted.items())), f"`cost` {what}", hint=hint)


def _amounts(count: int) -> list[int]:
    return random.sample(range(10, 90), count)


async def adds_up(cost_of: Any) -> None:
    """Each class gets the price of all model calls within calls of it, at any depth, each call once."""
    a, b, c = _amounts(3)
    names = [f"{name}{random.randint(10, 99)}" for name in ("Top", "Middle", "Leaf")]
    for how in ("__call__", "acall"):
        what = (
            f"of {names[0]} that asks, and calls {names[1]}, which asks twice and calls {names[2]}, by {how}"
        )
        with _counting(cost_of, what) as counter:
            leaf = _node(names[2], c)
            top = _node(names[0], a, below=(_node(names[1], b, b, below=(leaf,)),))
            await _called(top, how)
            wanted = {names[0]: (a, b, b, c), names[1]: (b, b, c), names[2]: (c,), "Predict": (a, b, b, c)}
            _expect_cost(counter, {name: _costs(*each) for name, each in wanted.items()}, what)
            with dspy.context(lm=_model("small")):
                _node(names[2], c)()
            more = _costs(c, model="paid/small")
            wanted_now = {name: _costs(*each) for name, each in wanted.items()}
            wanted_now |= {names[2]: _costs(c) + more, "Predict": _costs(a, b, b, c) + more}
            _expect_cost(counter, wanted_now, f"after {names[2]} has asked another model as well")


async def counts_once(cost_of: Any) -> None:
    """Below two nested modules of one class a call counts once; outside of every module, nowhere."""
    a, b = _amounts(2)
    model, what = _model(), "of Same that asks, and calls another Same, which asks"
    with _counting(cost_of, what, model=model) as counter:
        inner = _node("Same", b)
        outer = type(inner)((a,), (inner,))
        outer()
        wanted = {"Same": _costs(a, b), "Predict": _costs(a, b)}
        _expect_cost(counter, wanted, what, hint="A set of the names above has each of them once.")
        model("spend 50")
        await model.acall("spend 50")
        _expect_cost(
            counter, wanted, f"{what}, and of two calls of the model itself", hint="No module: no one."
        )


async def sees_through_others(cost_of: Any) -> None:
    """What stands below a tool or an adapter of a module stands below the module."""
    a, b = _amounts(2)
    hint = "Its parent is the call of a tool or an adapter, which has a parent of its own."
    for how in ("__call__", "acall"):
        what = f"of Agent that asks, and uses a tool which calls Leaf, by {how}"
        with _counting(cost_of, what) as counter:
            agent = _node("Agent", a, below=(dspy.Tool(_node("Leaf", b), name="leaf"),))
            await _called(agent, how)
            wanted = {"Agent": _costs(a, b), "Leaf": _costs(b), "Predict": _costs(a, b)}
            _expect_cost(counter, wanted, what, hint=hint)
    what = "of Reader, whose adapter asks a second model to read what the first one wrote"
    with _counting(cost_of, what, adapter=dspy.TwoStepAdapter(_model("small"))) as counter:
        _node("Reader", a)()
        both = _costs(a) + _costs(5, model="paid/small")
        _expect_cost(counter, {"Reader": both, "Predict": both}, what, hint=hint)


async def finds_its_entry(cost_of: Any) -> None:
    """The entry of the call counts, not the last one, nor another one that asked the same."""
    is_first = contextvars.ContextVar("is_first", default=False)
    ended, may_go = threading.Event(), threading.Event()

    class Slow(BaseCallback):  # type: ignore[misc]
        def on_lm_end(self, *_: Any, **__: Any) -> None:
            if is_first.get():
                ended.set()
                may_go.wait(5.0)

    hint = "The list that on_lm_end gets is the very list that stands in the entry as `outputs`."
    for asks in ((41, 43), ("spend ?", "spend ?")):
        ended.clear()
        may_go.clear()
        spent = asks if isinstance(asks[0], int) else (10, 20)
        what = f"of One and Two that ask {asks} in threads, where One's call is heard after Two's"
        with _counting(cost_of, what, Slow()) as counter:
            is_first.set(True)
            first = asyncio.ensure_future(asyncio.to_thread(_node("One", asks[0])))
            is_first.set(False)
            await until(ended.is_set)
            await asyncio.to_thread(_node("Two", asks[1]))
            may_go.set()
            await first
            wanted = {"One": _costs(spent[0]), "Two": _costs(spent[1]), "Predict": _costs(*spent)}
            _expect_cost(counter, wanted, what, hint=hint)


async def counts_what_was_paid(cost_of: Any) -> None:
    """What fails costs nothing, nor does a hit of the cache; an answer that could not be read is paid."""
    (a,) = _amounts(1)
    memory = Cache(enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir=None)
    for how in ("__call__", "acall"):
        what = f"of Top that asks, and asks again and fails, by {how}"
        with _counting(cost_of, what) as counter:
            top = _node("Top", a, "fail")
            with suppress(dspy.LMError):
                await _called(top, how)
            wanted = {"Top": _costs(a), "Predict": _costs(a)}
            _expect_cost(counter, wanted, what, hint="on_lm_end tells of a failure in `exception`.")
        what = f"of Top that asks the same three times, and is answered by the cache, by {how}"
        with under_dspy(memory), _counting(cost_of, what, model=_model(cache=True)) as counter:
            top = _node("Top", *[f"spend {a}, {how}"] * 3)
            await _called(top, how)
            _expect_cost(counter, wanted, what, hint="The entry of a hit has an empty usage.")
    what = "of Top whose model answers with nothing, so that DSPy asks again and gives up"
    model = _model()
    with _counting(cost_of, what, model=model) as counter:
        with suppress(dspy.DSPyError):
            _node("Top", "garble")()
        paid = model.engine.asked * _costs(2)
        _expect_cost(counter, {"Top": paid, "Predict": paid}, what)


async def is_right_in_tasks(cost_of: Any) -> None:
    """Programs that run side by side in tasks stay apart, and so do two calls of one program."""
    a, b = _amounts(2)
    hint = "A handler learns from ACTIVE_CALL_ID where it stands; what it keeps in `self` is everybody's."
    what = "of One and Two that ask at the same time, in tasks"
    with _counting(cost_of, what, model=_model(wanted=2)) as counter:
        await asyncio.gather(_node("One", a).acall(), _node("Two", b).acall())
        wanted = {"One": _costs(a), "Two": _costs(b), "Predict": _costs(a, b)}
        _expect_cost(counter, wanted, what, hint=hint)
    what = "of one Top that is called three times at once, in tasks"
    with _counting(cost_of, what, model=_model(wanted=3)) as counter:
        top = _node("Top", a)
        await asyncio.gather(*(top.acall() for _ in range(3)))
        _expect_cost(counter, {"Top": _costs(a, a, a), "Predict": _costs(a, a, a)}, what, hint=hint)


async def is_right_in_threads(cost_of: Any) -> None:
    """It is right in the threads of dspy.Parallel; two that listen share nothing."""
    amounts = _amounts(12)
    hint = "dspy.Parallel carries DSPy's settings and ACTIVE_CALL_ID to its threads, and no other variable."

    class Many(dspy.Module):  # type: ignore[misc]
        def forward(self) -> Any:
            pairs: list[Any] = [(_node("Leaf", each), {}) for each in amounts]
            return dspy.Parallel(num_threads=6, disable_progress_bar=True)(pairs)

    what = "of Many that calls 12 Leaf in the threads of dspy.Parallel"
    with _counting(cost_of, what, price=_slow_price) as counter:
        await asyncio.to_thread(Many())
        wanted = {name: _costs(*amounts) for name in ("Many", "Leaf", "Predict")}
        _expect_cost(counter, wanted, what, hint=hint)
        with _counting(cost_of, what) as other:
            _node("Leaf", 10)()
            _expect_cost(
                other, {"Leaf": _costs(10), "Predict": _costs(10)}, "of a second CostOf, for one Leaf"
            )
        _expect_cost(counter, wanted, "of the first one, while a second one listens", hint="In __init__.")


async def raises_nothing(cost_of: Any) -> None:
    """No handler raises where listening begins within a program, or where there is no history."""
    a, b = _amounts(2)
    counters, model = list[Any](), _model()

    class Late(dspy.Module):  # type: ignore[misc]
        def forward(self) -> Any:
            with _counting(cost_of, "where listening begins within a program", model=model) as counter:
                counters.append(counter)
                model(f"spend {a}")
                return _node("Leaf", b)()

    with dspy.context(callbacks=[BaseCallback()]):
        Late()()
    what = "of what is heard within Late: a call of the model, and Leaf"
    _expect_cost(counters[0], {"Leaf": _costs(b), "Predict": _costs(b)}, what)
    with _counting(cost_of, "where DSPy keeps no history", disable_history=True):
        _node("Leaf", a)()


def keeps_the_sum_alone(cost_of: Any) -> None:
    """Of calls that have ended nothing is kept but the sums."""
    counter, model = cost_of(_price), _model()
    kinds = ("module", _node("Top")), ("tool", dspy.Tool(len)), ("lm", model)
    told = [
        (kind, instance, getattr(counter, f"on_{kind}_start"), getattr(counter, f"on_{kind}_end"))
        for kind, instance in kinds
    ]

    def call(number: int, above: str | None = None, depth: int = 0) -> None:
        """Tell of a module, of a tool in it and of a call of the model in that, as DSPy does."""
        kind, instance, start, end = told[depth]
        call_id, error = f"{kind}-{number}", ValueError("busy") if number % 3 == 0 else None
        start(call_id=call_id, instance=instance, inputs={"prompt": "a", "messages": None})
        ACTIVE_CALL_ID.set(call_id)
        if kind != "lm":
            call(number, call_id, depth + 1)
        ACTIVE_CALL_ID.set(above)
        outputs = None if error else model.history[0]["outputs"]
        end(call_id=call_id, outputs=outputs, exception=error)

    def use(numbers: range) -> None:
        for number in numbers:
            paid = {"usage": {"prompt_tokens": 3}, "model": model.model, "messages": None, "prompt": "a"}
            model.history = [{"outputs": ["answer"], "uuid": str(number), "cost": None, **paid}]
            without_error(partial(call, number), "handlers that are called as DSPy calls them")

    hint = "What a start put into a dict its end takes out again, for a call that failed as well."
    expect_nothing_kept(use, "calls that have ended", hint=hint)


EXERCISE = Exercise(
    title="What does each module cost?",
    minutes=15,
    difficulty="medium",
    hints=(
        "When a call begins, ACTIVE_CALL_ID.get() is the id of the call around it. Keep for each call under "
        "way the set of classes that it stands in: those of its parent, and its own if it is a module.",
        "Tools and adapters stand between, so they inherit the set and add nothing: on_tool_start = "
        "on_adapter_parse_start = ... on_lm_start keeps the set and the model; the end takes both out.",
        'The entry is the one where entry["outputs"] is the list that on_lm_end gets: '
        '`next((each for each in reversed(model.history) if each["outputs"] is outputs), None)`.',
    ),
    checks=(
        *(adds_up, counts_once, sees_through_others, counts_what_was_paid, is_right_in_tasks),
        *(finds_its_entry, is_right_in_threads, raises_nothing, keeps_the_sum_alone),
    ),
    deadline_s=20.0,
    why="Where a call stands is known when it begins, so the set of classes is found in one step. What came "
    "out says which entry it is; what was asked does not. MetricsCollector hears the usage as it is "
    "reported, and needs no history.",
)
