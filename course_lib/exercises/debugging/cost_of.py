"""Exercise 4.1, what each module costs: a callback that finds whose call it was, in threads as well.

Main path: EXERCISE -> engine.registry; programs of the check's own ask a model that takes what they name.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import dspy
from dspy.clients.cache import Cache
from dspy.utils.callback import ACTIVE_CALL_ID, BaseCallback

from course_lib.exercises.concurrency.watched import until
from course_lib.exercises.debugging.spending import spending_model
from course_lib.exercises.engine.checks import (
    expect,
    expect_equal,
    expect_nothing_kept,
    show,
    without_error,
)
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import under_dspy

_HOWS = "__call__", "acall"
_FEE_USD = 0.001
_RATES_USD = {"paid/large": 0.000_007, "paid/small": 0.000_003}


def _price(model: str, usage: Mapping[str, Any]) -> float:
    """Return a fee for each request, and a rate for what it spent."""
    return _FEE_USD + _RATES_USD[model] * int(usage.get("prompt_tokens", 0))


def _slow_price(model: str, usage: Mapping[str, Any]) -> float:
    time.sleep(0.01)
    return _price(model, usage)


class _Node(dspy.Module):  # type: ignore[misc]
    """Asks its questions one after the other, then calls what is below."""

    def __init__(self, questions: list[str], below: tuple[Any, ...]) -> None:
        super().__init__()
        self.ask, self.questions, self.below = dspy.Predict("question -> answer"), questions, below

    def forward(self) -> dspy.Prediction:
        for question in self.questions:
            self.ask(question=question)
        for part in self.below:
            part()
        return dspy.Prediction()

    async def aforward(self) -> dspy.Prediction:
        for question in self.questions:
            await self.ask.acall(question=question)
        for part in self.below:
            await part.acall()
        return dspy.Prediction()


def _node(name: str, *asks: int | str, below: tuple[Any, ...] = ()) -> Any:
    """Return a program of a class of this name; a number that it asks is what the answer takes."""
    questions = [ask if isinstance(ask, str) else f"spend {ask}" for ask in asks]
    return type(name, (_Node,), {"__qualname__": f"programs.{name}"})(questions, below)


def _costs(*spent: int, model: str = "paid/large") -> float:
    return sum(_price(model, {"prompt_tokens": each}) for each in spent)


@contextmanager
def _no_handler_raises(what: str) -> Iterator[None]:
    """Fail the check if DSPy tells in this block that a callback raised."""
    told, log = list[str](), logging.getLogger("dspy.utils.callback")

    def keep(record: logging.LogRecord) -> bool:
        told.append(record.getMessage())
        return False

    log.addFilter(keep)
    try:
        yield
    finally:
        log.removeFilter(keep)
        hint = "DSPy logs what a handler raises, and goes on without what it would have counted."
        expect_equal(told[:1], [], f"handlers that raised, for the cost {what}", hint=hint)


@contextmanager
def _counting(cost_of: Any, what: str, *, price: Any = _price, **settings: Any) -> Iterator[Any]:
    """Let a new CostOf listen in this block, behind other callbacks, and yield it."""
    counter = cost_of(price)
    is_one = isinstance(counter, BaseCallback)
    expect(is_one, "what CostOf(price) is", observed=show(counter), expected="a BaseCallback")
    settings = {"lm": spending_model(), **settings, "callbacks": [*settings.get("callbacks", ()), counter]}
    with _no_handler_raises(what), dspy.context(**settings):
        yield counter


def _expect_cost(counter: Any, wanted: Mapping[str, float], what: str, hint: str = "") -> None:
    """Fail the check unless these are the costs; a module without any may be there with 0, or not."""
    cost = counter.cost
    expect(isinstance(cost, dict), f"`cost` {what}", observed=show(cost), expected="a dict")
    got, want = (
        {name: round(dollars, 9) for name, dollars in sorted(each.items(), key=str) if dollars}
        for each in (cost, wanted)
    )
    expect_equal(got, want, f"`cost` {what}", hint=hint)


async def _expect(
    cost_of: Any, programs: Sequence[Any], wanted: Mapping[str, float], what: str, hint: str, **settings: Any
) -> None:
    """Fail the check unless these are the costs of programs that run by `acall`, beside each other."""
    with _counting(cost_of, what, **settings) as counter:
        ends = await asyncio.gather(*(program.acall() for program in programs), return_exceptions=True)
        unexpected = [
            end for end in ends if isinstance(end, Exception) and not isinstance(end, dspy.DSPyError)
        ]
        expect_equal(unexpected, [], f"errors {what}")
        _expect_cost(counter, wanted, what, hint)


def _amounts(count: int) -> list[int]:
    return random.sample(range(10, 90), count)


async def adds_up(cost_of: Any) -> None:
    """Each class gets the price of all model calls within calls of it, at any depth, each call once."""
    a, b, c = _amounts(3)
    one, two, three = (f"{name}{random.randint(10, 99)}" for name in ("Top", "Middle", "Leaf"))
    for how in _HOWS:
        what = f"of {one} that asks, and calls {two}, which asks twice and calls {three}, by {how}"
        with _counting(cost_of, what) as counter:
            leaf = _node(three, c)
            top = _node(one, a, below=(_node(two, b, b, below=(leaf,)),))
            await top.acall() if how == "acall" else top()
            wanted = {one: _costs(a, b, b, c), two: _costs(b, b, c), three: _costs(c)}
            _expect_cost(counter, {**wanted, "Predict": wanted[one]}, what)
            with dspy.context(lm=spending_model("small")):
                leaf()
            more = _costs(c, model="paid/small")
            wanted |= {three: wanted[three] + more, "Predict": wanted[one] + more}
            _expect_cost(counter, wanted, f"after {three} has asked another model as well")


async def counts_once(cost_of: Any) -> None:
    """Below two nested modules of one class a call counts once; outside of every module, nowhere."""
    a, b = _amounts(2)
    model, what = spending_model(), "of Same that asks, and calls another Same, which asks"
    with _counting(cost_of, what, lm=model) as counter:
        inner = _node("Same", b)
        type(inner)([f"spend {a}"], (inner,))()
        wanted = {"Same": _costs(a, b), "Predict": _costs(a, b)}
        _expect_cost(counter, wanted, what, "A set of the names above has each of them once.")
        model("spend 50")
        await model.acall("spend 50")
        _expect_cost(counter, wanted, f"{what}, and of two calls of the model itself")


async def sees_through_others(cost_of: Any) -> None:
    """What stands below a tool or an adapter of a module stands below the module."""
    a, b = _amounts(2)
    hint = "Its parent is the call of a tool or an adapter, which has a parent of its own."
    what = "of Agent that asks, and uses a tool which calls Leaf"
    agent = _node("Agent", a, below=(dspy.Tool(_node("Leaf", b), name="leaf"),))
    wanted = {"Agent": _costs(a, b), "Leaf": _costs(b), "Predict": _costs(a, b)}
    await _expect(cost_of, [agent], wanted, what, hint)
    what = "of Reader, whose adapter asks a second model to read what the first one wrote"
    with _counting(cost_of, what, adapter=dspy.TwoStepAdapter(spending_model("small"))) as counter:
        _node("Reader", a)()
        both = _costs(a) + _costs(5, model="paid/small")
        _expect_cost(counter, {"Reader": both, "Predict": both}, what, hint)


async def counts_what_was_paid(cost_of: Any) -> None:
    """What fails costs nothing, nor does a hit of the cache; an answer that could not be read is paid."""
    (a,) = _amounts(1)
    wanted = {"Top": _costs(a), "Predict": _costs(a)}
    hint = "on_lm_end tells of a failure in `exception`."
    what = "of Top that asks, and asks again and fails"
    await _expect(cost_of, [_node("Top", a, "fail")], wanted, what, hint)
    with under_dspy(Cache(enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir=None)):
        what, hint = (
            "of Top that asks the same three times, of a cache",
            "The entry of a hit has an empty usage.",
        )
        await _expect(cost_of, [_node("Top", a, a, a)], wanted, what, hint, lm=spending_model(cache=True))
    what, model = "of Top whose model answers with nothing, so that DSPy asks again", spending_model()
    with _counting(cost_of, what, lm=model) as counter:
        with suppress(dspy.DSPyError):
            _node("Top", "garble")()
        paid = model.engine.asked * _costs(2)
        _expect_cost(counter, {"Top": paid, "Predict": paid}, what)


async def is_right_in_tasks(cost_of: Any) -> None:
    """Programs that run side by side in tasks stay apart, and so do calls of one program."""
    a, b = _amounts(2)
    hint = "A handler learns from ACTIVE_CALL_ID where it stands; what it keeps in `self` is everybody's."
    wanted = {"One": _costs(a), "Two": _costs(b), "Predict": _costs(a, b)}
    what, programs = "of One and Two that ask at the same time, in tasks", [_node("One", a), _node("Two", b)]
    await _expect(cost_of, programs, wanted, what, hint, lm=spending_model(wanted=2))
    what, programs = "of one Top that is called three times at once, in tasks", [_node("Top", a)] * 3
    wanted = {"Top": _costs(a, a, a), "Predict": _costs(a, a, a)}
    await _expect(cost_of, programs, wanted, what, hint, lm=spending_model(wanted=3))


class _Slow(BaseCallback):  # type: ignore[misc]
    """Another one who listens, and who holds up the call that is the first."""

    def __init__(self) -> None:
        self.is_first = contextvars.ContextVar("is_first", default=False)
        self.ended, self.may_go = threading.Event(), threading.Event()

    def on_lm_end(self, *_: Any, **__: Any) -> None:
        if self.is_first.get():
            self.ended.set()
            self.may_go.wait(5.0)


async def finds_its_entry(cost_of: Any) -> None:
    """The entry of the call counts, not the last one, nor another one that asked the same."""
    hint = "The list that on_lm_end gets is the very list that stands in the entry as `outputs`."
    cases: list[tuple[tuple[int | str, int | str], tuple[int, int]]] = [
        ((41, 43), (41, 43)),
        (("spend ?", "spend ?"), (10, 20)),
    ]
    for asks, spent in cases:
        what = f"of One and Two that ask {asks} in threads, where One's call is heard after Two's"
        slow, one, two = _Slow(), _node("One", asks[0]), _node("Two", asks[1])
        with _counting(cost_of, what, callbacks=[slow]) as counter:
            slow.is_first.set(True)
            first = asyncio.ensure_future(asyncio.to_thread(one))
            slow.is_first.set(False)
            await until(slow.ended.is_set)
            await asyncio.to_thread(two)
            slow.may_go.set()
            await first
            wanted = {"One": _costs(spent[0]), "Two": _costs(spent[1]), "Predict": _costs(*spent)}
            _expect_cost(counter, wanted, what, hint)


class Many(dspy.Module):  # type: ignore[misc]
    """Calls programs in threads."""

    def forward(self, programs: Sequence[Any]) -> Any:
        """Call them."""
        pairs: list[Any] = [(each, {}) for each in programs]
        return dspy.Parallel(num_threads=6, disable_progress_bar=True)(pairs)


async def is_right_in_threads(cost_of: Any) -> None:
    """It is right in the threads of dspy.Parallel; two that listen share nothing."""
    amounts = _amounts(12)
    hint = "dspy.Parallel carries DSPy's settings and ACTIVE_CALL_ID to its threads, and no other variable."
    what = "of Many that calls 12 Leaf in the threads of dspy.Parallel"
    with _counting(cost_of, what, price=_slow_price) as counter:
        await asyncio.to_thread(Many(), [_node("Leaf", each) for each in amounts])
        wanted = {name: _costs(*amounts) for name in ("Many", "Leaf", "Predict")}
        _expect_cost(counter, wanted, what, hint)
        paid, what = {"Leaf": _costs(10), "Predict": _costs(10)}, "of one Leaf, by a second CostOf"
        await _expect(cost_of, [_node("Leaf", 10)], paid, what, "What is summed up is made in __init__.")
        _expect_cost(counter, wanted, "of the first CostOf, which did not listen meanwhile")


class Late(dspy.Module):  # type: ignore[misc]
    """Listens to what it does itself."""

    async def aforward(self, cost_of: Any, asks: int) -> None:
        """Ask the model, then have a module ask it."""
        what, model = (
            "of Leaf and of a call of the model, where listening begins within a program",
            spending_model(),
        )
        with _counting(cost_of, what, lm=model) as counter:
            await model.acall("spend 50")
            await _node("Leaf", asks).acall()
            _expect_cost(counter, {"Leaf": _costs(asks), "Predict": _costs(asks)}, what)


async def raises_nothing(cost_of: Any) -> None:
    """No handler raises where listening begins within a program, or where there is no history."""
    (a,) = _amounts(1)
    with dspy.context(callbacks=[BaseCallback()]):
        await Late().acall(cost_of, a)
    with _counting(cost_of, "of Leaf, where DSPy keeps no history", disable_history=True):
        _node("Leaf", a)()
        await _node("Leaf", a).acall()


def keeps_the_sum_alone(cost_of: Any) -> None:
    """Of calls that have ended nothing is kept but the sums."""
    counter, model = cost_of(_price), spending_model()
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
