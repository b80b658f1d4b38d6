"""Exercise 4.1, what each module costs: a callback that finds whose call it was, in threads as well.

Main path: EXERCISE -> engine.registry; programs of the check's own ask a model that takes what they name.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from unittest.mock import patch

import dspy
from dspy.utils.callback import BaseCallback

from course_lib.exercises.debugging.spending import cached, spending_model
from course_lib.exercises.engine.checks import expect, expect_equal, show
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import memory_cache, under_dspy

_Costs = Mapping[str, float]
_FEE_USD = 0.001
_RATES_USD = {"paid/large": 0.000_007_31, "paid/small": 0.000_003_17}
_MANY = 25
_LOGGED = "DSPy logs what a handler raises, and goes on without what it would have counted."


def _price(model: str, usage: Mapping[str, Any]) -> float:
    """Return a fee for each request, and a rate for its tokens, of which cached ones count half.

    Others have their turn meanwhile.
    """
    time.sleep(0.001)
    if model not in _RATES_USD:
        raise LookupError(f"no price of a model {model!r}")
    details = usage.get("prompt_tokens_details") or {}
    tokens: float = usage.get("total_tokens", 0) - details.get("cached_tokens", 0) / 2
    return _FEE_USD + _RATES_USD[model] * tokens


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
    usages = [
        {"total_tokens": each + 1, "prompt_tokens_details": {"cached_tokens": cached(each)}} for each in spent
    ]
    return sum(_price(model, each) for each in usages)


def _expect_cost(counter: Any, wanted: _Costs, what: str, hint: str) -> None:
    """Fail the check unless these are the costs; a module without any may be there with 0, or not."""
    cost = counter.cost
    expect(isinstance(cost, dict), f"`cost` {what}", observed=show(cost), expected="a dict")
    got, want = (
        {name: round(dollars, 9) for name, dollars in sorted(each.items(), key=str) if dollars}
        for each in (cost, wanted)
    )
    expect_equal(got, want, f"`cost` {what}", hint=hint)


@contextmanager
def _counting(cost_of: Any, what: str, **settings: Any) -> Iterator[Any]:
    """Let two new CostOf listen in this block, behind other callbacks; yield what compares their costs."""
    counters, told = [cost_of(_price), cost_of(_price)], list[str]()

    def expect_cost(wanted: _Costs, hint: str = "", after: str = "") -> None:
        expect_equal(told[:1], [], f"handlers that raised, for the cost {what}", hint=_LOGGED)
        _expect_cost(counters[0], wanted, what + after, hint)
        hint = "What a call cost is kept in `self`; the model's history is everybody's."
        _expect_cost(counters[1], wanted, f"{what}{after}, by the second of two CostOf that listen", hint)

    settings = {"lm": spending_model(), **settings, "callbacks": [*settings.get("callbacks", ()), *counters]}
    with patch("dspy.utils.callback.logger.warning", told.append), dspy.context(**settings):
        yield expect_cost


def _expect(cost_of: Any, program: Any, wanted: _Costs, what: str, hint: str, **settings: Any) -> None:
    """Fail the check unless these are the costs of a program that is called, and that may fail."""
    with _counting(cost_of, what, **settings) as expect_cost:
        with suppress(dspy.DSPyError):
            program()
        expect_cost(wanted, hint)


def _amounts(count: int) -> list[int]:
    return random.sample(range(10, 90), count)


async def adds_up(cost_of: Any) -> None:
    """Each class gets the price of all model calls within calls of it, at any depth, each call once."""
    a, b, c = _amounts(3)
    one, two, three = (f"{name}{random.randint(10, 99)}" for name in ("Top", "Middle", "Leaf"))
    for how in ("__call__", "acall"):
        what = f"of {one} that asks, and calls {two}, which asks twice and calls {three}, by {how}"
        with _counting(cost_of, what) as expect_cost:
            leaf = _node(three, c)
            top = _node(one, a, below=(_node(two, b, b, below=(leaf,)),))
            await top.acall() if how == "acall" else top()
            wanted = {one: _costs(a, b, b, c), two: _costs(b, b, c), three: _costs(c)}
            expect_cost({**wanted, "Predict": wanted[one]})
            with dspy.context(lm=spending_model("small")):
                leaf()
            more = _costs(c, model="paid/small")
            wanted |= {three: wanted[three] + more, "Predict": wanted[one] + more}
            expect_cost(wanted, after=f", after {three} has asked another model as well")


async def counts_once(cost_of: Any) -> None:
    """Below two nested modules of one class a call counts once; outside of every module, nowhere."""
    a, b = _amounts(2)
    model = spending_model()
    with _counting(cost_of, "of Same that asks, and calls another Same, which asks", lm=model) as expect_cost:
        inner = _node("Same", b)
        type(inner)([f"spend {a}"], (inner,))()
        wanted = {"Same": _costs(a, b), "Predict": _costs(a, b)}
        expect_cost(wanted, "A set of the names above has each of them once.")
        model("spend 50")
        await model.acall("spend 50")
        expect_cost(wanted, after=", and of two calls of the model itself")
    outer = _node("Same", a, below=(_node("Between", below=(inner,)),))
    wanted = {"Same": _costs(a, b), "Between": _costs(b), "Predict": _costs(a, b)}
    _expect(cost_of, outer, wanted, "of Same that asks, and calls Between, which calls another Same", "Once.")


class _Preparing(dspy.ChatAdapter):  # type: ignore[misc]
    """An adapter that asks another model before it has its prompt."""

    def format(self, *args: Any, **kwargs: Any) -> Any:
        spending_model("small")("spend 5")
        return super().format(*args, **kwargs)


def sees_through_others(cost_of: Any) -> None:
    """What stands below a tool, an adapter or an evaluation of a module stands below the module."""
    a, b = _amounts(2)
    hint = "Its parent is the call of a tool, an adapter or an evaluation, which has a parent of its own."
    leaf, rows = _node("Leaf", b), [dspy.Example().with_inputs()]
    evaluate = dspy.Evaluate(devset=rows, metric=lambda *_: 1.0, num_threads=1, display_progress=False)
    wanted = {"Agent": _costs(a, b), "Leaf": _costs(b), "Predict": _costs(a, b)}
    for name, below in (("a tool", dspy.Tool(leaf, name="leaf")), ("an evaluation", partial(evaluate, leaf))):
        what = f"of Agent that asks, and uses {name} which calls Leaf"
        _expect(cost_of, _node("Agent", a, below=(below,)), wanted, what, hint)
    both = _costs(a) + _costs(5, model="paid/small")
    adapters = {"read what the first one wrote": dspy.TwoStepAdapter(spending_model("small"))}
    adapters["write its prompt"] = _Preparing()
    for why, adapter in adapters.items():
        what = f"of Reader, whose adapter asks a second model to {why}"
        _expect(cost_of, _node("Reader", a), {"Reader": both, "Predict": both}, what, hint, adapter=adapter)


def counts_what_was_paid(cost_of: Any) -> None:
    """What fails costs nothing, nor does a hit of the cache; an answer that could not be read is paid."""
    (a,) = _amounts(1)
    wanted = {"Top": _costs(a), "Predict": _costs(a)}
    what, hint = "of Top that asks, and asks again and fails", "on_lm_end tells of a failure in `exception`."
    _expect(cost_of, _node("Top", a, "fail"), wanted, what, hint)
    caught, node = _node("Failing", a, "fail"), _node("Other", a)

    def failing() -> None:
        with suppress(dspy.DSPyError):
            caught()

    wanted = {"Top": _costs(a, a), "Failing": _costs(a), "Other": _costs(a), "Predict": _costs(a, a)}
    what = "of Top that calls Failing, which asks, asks again and fails, and then Other, which asks"
    _expect(cost_of, _node("Top", below=(failing, node)), wanted, what, hint)
    wanted = {"Top": _costs(a), "Predict": _costs(a)}
    many, what = _node("Top", a), "of Top that asks for 3 answers in one call"
    many.ask = dspy.Predict("question -> answer", n=3)
    usage = {"total_tokens": 3 * (a + 1), "prompt_tokens_details": {"cached_tokens": 3 * cached(a)}}
    paid = _price("paid/large", usage)
    _expect(cost_of, many, {"Top": paid, "Predict": paid}, what, "One call has one entry, and one price.")
    what, hint = "of Top that asks the same three times, of a cache", "The entry of a hit has an empty usage."
    with under_dspy(memory_cache()):
        _expect(cost_of, _node("Top", a, a, a), wanted, what, hint, lm=spending_model(cache=True))
    what, model = "of Top whose model answers with nothing, so that DSPy asks again", spending_model()
    with _counting(cost_of, what, lm=model) as expect_cost:
        with suppress(dspy.DSPyError):
            _node("Top", "garble")()
        paid = model.engine.asked * _costs(2)
        expect_cost({"Top": paid, "Predict": paid})


async def is_right_in_tasks(cost_of: Any) -> None:
    """Programs that run side by side in tasks stay apart, and so do calls of one program."""
    a, b = _amounts(2)
    hint = "A handler learns from ACTIVE_CALL_ID where it stands; what it keeps in `self` is everybody's."
    one, two, top = _node("One", a), _node("Two", b), _node("Top", a)
    own = _node("Own", b)
    for what, programs, wanted in (
        ("of One and Two that ask", [one, two], {"One": _costs(a), "Two": _costs(b)}),
        ("of one Top that is called three times", [top, top, top], {"Top": _costs(a, a, a)}),
        (
            "of One, and of Own that asks a model of its own,",
            [one, own],
            {"One": _costs(a), "Own": _costs(b, model="paid/small")},
        ),
    ):
        model = spending_model(wanted=len(programs))
        own.set_lm(model.engine.lm("paid/small"))
        with _counting(cost_of, f"{what} at the same time, in tasks", lm=model) as expect_cost:
            await asyncio.gather(*(program.acall() for program in programs))
            expect_cost({**wanted, "Predict": sum(wanted.values())}, hint)


class _Between(BaseCallback):  # type: ignore[misc]
    """Another one who listens: when the first call of a model has ended, it lets a thread run to its end."""

    thread: threading.Thread | None = None

    def on_lm_end(self, **_: Any) -> None:
        thread, self.thread = self.thread, None
        if thread:
            thread.start()
            thread.join()


def finds_its_entry(cost_of: Any) -> None:
    """The entry of the call counts, not the last one, nor another one that asked the same."""
    hint = "The list that on_lm_end gets is the very list that stands in the entry as `outputs`."
    numbered = [10 * number for number in range(2, _MANY + 2)]
    for asks, first, others in ((41, 43), 41, [43] * _MANY), (("spend ?", "spend ?"), 10, numbered):
        what = f"of One and Two that ask {asks} in threads, where One's call is heard after {_MANY} of Two's"
        between, one, two = _Between(), _node("One", asks[0]), _node("Two", *[asks[1]] * _MANY)
        with _counting(cost_of, what, callbacks=[between]) as expect_cost:
            between.thread = threading.Thread(target=contextvars.copy_context().run, args=(two,))
            one()
            wanted = {"One": _costs(first), "Two": _costs(*others), "Predict": _costs(first, *others)}
            expect_cost(wanted, hint)


def is_right_in_threads(cost_of: Any) -> None:
    """It is right in the threads of dspy.Parallel."""
    amounts = _amounts(12)
    leaves: list[Any] = [(_node("Leaf", each), {}) for each in amounts]
    parallel = partial(dspy.Parallel(num_threads=6, disable_progress_bar=True), leaves)
    hint = "dspy.Parallel carries DSPy's settings and ACTIVE_CALL_ID to its threads, and no other variable."
    what = "of Many that calls 12 Leaf in the threads of dspy.Parallel"
    wanted = {name: _costs(*amounts) for name in ("Many", "Leaf", "Predict")}
    _expect(cost_of, _node("Many", below=(parallel,)), wanted, what, hint)


EXERCISE = Exercise(
    title="What does each module cost?",
    minutes=15,
    difficulty="medium",
    hints=(
        "When a call begins, ACTIVE_CALL_ID.get() is the id of the call around it. Keep for each call under "
        "way the set of classes that it stands in: those of its parent, and its own if it is a module.",
        "What stands between inherits the set and adds nothing: on_tool_start = on_adapter_parse_start = "
        "on_evaluate_start = ... on_lm_start keeps the set and the model; the end takes both out.",
        'The entry is the one where entry["outputs"] is the list that on_lm_end gets: '
        '`next((each for each in reversed(model.history) if each["outputs"] is outputs), None)`.',
    ),
    checks=(
        *(adds_up, counts_once, sees_through_others, counts_what_was_paid),
        *(is_right_in_tasks, finds_its_entry, is_right_in_threads),
    ),
    deadline_s=20.0,
    why="Where a call stands is known when it begins, so the set of classes is found in one step. What came "
    "out says which entry it is; what was asked does not. MetricsCollector needs no history.",
)
