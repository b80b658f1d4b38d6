"""Tools in the simulator: each form in which DSPy and OpenAI's API offer them, on the bodies themselves."""

from __future__ import annotations

import json
from typing import Any

import dspy
import pytest

from course_lib import lm
from course_lib.lm.simulator.engine import answer

STATUS = "What is the status of order O-10001?"
BOTH = "What is the status of the orders O-10001 and O-10002?"
TOTAL = "What is the total of order O-10001?"
ORDER = {"order_id": "O-10001", "status": "in_transit", "total_eur": 59.0, "parcel": "NP400000001"}


def look_up_order(order_id: str) -> dict[str, Any]:
    """Look up an order: its status, total and parcel.

    Args:
        order_id: number of the order, such as O-10001
    """
    return {**ORDER, "order_id": order_id}


def find_city(name: str) -> str:
    """Find the population of a city."""
    return f"{name} has 700,000 inhabitants."


def refund(order_id: str, amount_eur: float) -> str:
    """Refund money to the customer for an order."""
    paid.append((order_id, amount_eur))
    return f"refunded EUR {amount_eur:.2f}"


paid: list[tuple[str, float]] = []
TOOLS = [look_up_order, find_city, refund]
SCHEMAS = [dspy.Tool(tool).format_as_litellm_function_call() for tool in TOOLS]
NATIVE = dspy.ChatAdapter(use_native_function_calling=True)


@pytest.fixture(autouse=True)
def simulator() -> Any:
    paid.clear()
    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        lm.reset()
        yield


def _native(text: str, *later: dict[str, Any], **settings: Any) -> Any:
    messages = [{"role": "user", "content": text}, *later]
    return answer({"model": "sim-large", "messages": messages, "tools": SCHEMAS, **settings})


FUNCTION = {"name": "look_up_order", "arguments": '{"order_id": "O-10001"}'}
CALL_AND_RESULT = [
    {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "function": FUNCTION}]},
    {"role": "tool", "tool_call_id": "call_1", "content": json.dumps(ORDER)},
]
# -- ReAct ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter])
def test_react_looks_up_finishes_and_answers_from_the_observation(adapter: Any) -> None:
    with dspy.context(adapter=adapter()):
        pred = dspy.ReAct("question -> answer", tools=TOOLS)(question=STATUS)

    steps = [value for key, value in pred.trajectory.items() if key.startswith("tool_name")]
    assert steps == ["look_up_order", "finish"]
    assert pred.trajectory["tool_args_0"] == {"order_id": "O-10001"}
    assert "in transit" in pred.answer
    assert lm.ledger().requests == 3


def test_a_tool_that_raises_is_not_called_again_and_again() -> None:
    calls = []

    def look_up(order_id: str) -> str:
        """Look up an order: its status."""
        calls.append(order_id)
        raise ValueError("the database is closed")

    pred = dspy.ReAct("question -> answer", tools=[look_up])(question=STATUS)

    assert calls == ["O-10001"]
    assert "could not" in pred.answer
    assert "the database is closed" in pred.answer
    assert "Traceback" not in pred.answer


# -- ReActV2 and ToolCalls --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "adapter", [dspy.ChatAdapter(), NATIVE, dspy.JSONAdapter()], ids=["text", "chat", "json"]
)
def test_react_v2_calls_then_submits(adapter: Any) -> None:
    with dspy.context(adapter=adapter):
        pred = dspy.ReActV2("question -> answer", tools=TOOLS)(question=STATUS)

    made = [[call.name for call in event["tool_calls"].tool_calls] for event in pred.history.messages]
    assert made == [["look_up_order"], ["submit"]]
    assert pred.termination_reason == "submit"
    assert "in transit" in pred.answer
    first, last = lm.ledger().calls
    if adapter is NATIVE:  # the ledger shows the tools that were offered and called
        assert first.tools == [tool.__name__ for tool in TOOLS] + ["submit"]
        assert first.tool_calls == [{"name": "look_up_order", "arguments": '{"order_id":"O-10001"}'}]
        assert [call["name"] for call in last.tool_calls] == ["submit"]


def test_react_v2_out_of_steps_is_forced_to_submit() -> None:
    with dspy.context(adapter=NATIVE):
        pred = dspy.ReActV2("question -> answer, total_eur: float", tools=TOOLS, max_iters=1)(question=TOTAL)

    assert pred.termination_reason == "forced_submit"
    assert pred.total_eur == 59.0


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), NATIVE, dspy.JSONAdapter(), dspy.XMLAdapter()])
def test_an_output_field_of_tool_calls_is_filled(adapter: Any) -> None:
    class Choose(dspy.Signature):
        """Choose the tools to call."""

        question: str = dspy.InputField()
        tools: list[dspy.Tool] = dspy.InputField()
        calls: dspy.ToolCalls = dspy.OutputField()

    with dspy.context(adapter=adapter):
        pred = dspy.Predict(Choose)(question=STATUS, tools=[dspy.Tool(tool) for tool in TOOLS])

    assert [(call.name, call.args) for call in pred.calls.tool_calls] == [
        ("look_up_order", {"order_id": "O-10001"})
    ]


# -- native calls -----------------------------------------------------------------------------------------


def test_a_native_call_is_answered_from_and_a_second_question_gets_a_call_of_its_own() -> None:
    reply = _native(STATUS, *CALL_AND_RESULT)
    statement = {"role": "assistant", "content": reply.text}
    second = {"role": "user", "content": "And what is the status of order O-10002?"}

    again = _native(STATUS, *CALL_AND_RESULT, statement, second)

    assert reply.tool_calls == ()
    assert "in transit" in (reply.text or "")
    assert [call.arguments for call in again.tool_calls] == [{"order_id": "O-10002"}]


FIND_CITY = {"type": "function", "function": {"name": "find_city"}}


@pytest.mark.parametrize(
    ("text", "options", "called"),
    [
        (STATUS, {"tool_choice": "none"}, []),
        ("Good morning!", {"tool_choice": "required"}, ["find_city"]),
        (f"{STATUS} In Riga?", {"tool_choice": FIND_CITY}, ["find_city"]),
        (BOTH, {}, ["look_up_order", "look_up_order"]),
        (BOTH, {"parallel_tool_calls": False}, ["look_up_order"]),
    ],
    ids=["none", "required, though nothing fits", "a named one", "several at once", "one at a time"],
)
def test_a_request_says_which_calls_it_takes(text: str, options: dict[str, Any], called: list[str]) -> None:
    reply = _native(text, **options)

    assert reply == _native(text, **options)
    assert [call.name for call in reply.tool_calls] == called
    assert called or reply.text


LITTLE = [{}, {"parameters": None, "description": None}, {"parameters": {"properties": {"x": True}}}]


@pytest.mark.parametrize("more", LITTLE)
@pytest.mark.parametrize("choice", ["auto", "required", "none", FIND_CITY])
def test_a_tool_that_says_little_makes_nothing_fail(more: dict[str, Any], choice: Any) -> None:
    tools = [{"type": "function", "function": {"name": "find_city", **more}}]
    messages = [{"role": "user", "content": "Use it."}]

    answer({"model": "sim-large", "messages": messages, "tools": tools, "tool_choice": choice})


# -- other tools than a shop's ----------------------------------------------------------------------------


def calculate(expression: str) -> str:
    """Evaluate an arithmetic expression such as (2 + 3) * 4."""
    return "391" if expression == "17 * 23" else f"cannot read {expression}"


def read_file(path: str) -> str:
    """Read a text file of the folder."""
    return f"{path}: Ines counts 14 tents."


def list_files() -> list[str]:
    """List the files of the folder."""
    return ["stock.txt", "notes/todo.md"]


def search_articles(question: str) -> list[str]:
    """Search the help centre for articles."""
    return ["Returns are free within 30 days. Boots may be tried on indoors."]


@pytest.mark.parametrize(
    ("question", "tool", "answer"),
    [
        ("What is 17 * 23?", "calculate", "391"),
        ("Read the file stock.txt. How many tents do we have?", "read_file", "14 tents"),
        ("Which files are there?", "list_files", "notes/todo.md"),
        ("How many days do I have to return boots?", "search_articles", "30 days"),
        ("Please cancel order O-10001.", "finish", "cannot"),
    ],
)
def test_tools_are_chosen_by_what_they_say_of_themselves_or_none_is_called(
    question: str, tool: str, answer: str
) -> None:
    tools = [search_articles, calculate, read_file, list_files]

    pred = dspy.ReAct("question -> answer", tools=tools)(question=question)

    assert pred.trajectory["tool_name_0"] == tool
    assert answer in pred.answer
