"""Exercises 0.1 to 1.6: what the proof of the lessons' own answers does not show of their checks."""

from __future__ import annotations

import enum
import functools
import re
from concurrent.futures import ThreadPoolExecutor

import dspy
import psycopg
import pytest

from course_lib import desk, lm
from course_lib.adapters.tools.limits import ToolRefused
from course_lib.authoring import reading
from course_lib.exercises.engine import registry
from course_lib.exercises.engine.checking import judge
from course_lib.paths import LESSONS
from course_lib.services import running_postgres


def judged(exercise, thing):
    return judge(registry.get(exercise), thing)


def answered(exercise, name):
    """Return what the first right answer of lesson 01 makes under this name."""
    answer, *_ = reading.read(LESSONS / "01_adapters.py").cells_of(exercise, "right")
    exec(answer.source, names := {"dspy": dspy})
    return names[name]


CAPITALS = enum.StrEnum("Capitals", {name.upper(): name for name in desk.CATEGORIES})
SIGNATURE = dspy.Signature({"ticket": (str, dspy.InputField()), "category": (CAPITALS, dspy.OutputField())})


@functools.cache
def remembering(ticket):
    sort = dspy.Predict(SIGNATURE)
    sort.lm = lm.connect("sim-large")
    return sort(ticket=ticket)


def test_a_program_that_remembers_passes_each_time():
    assert [judged("0.1", remembering).outcome for _ in range(2)] == ["passed", "passed"]


def tool(form, unknown="no order has this number"):
    def order_status(order_id: str) -> str:
        found = {order.id: order.status for order in desk.orders()}
        if not re.fullmatch(r"O-[0-9]{5}", str(order_id)):
            raise ToolRefused(form.format(order_id))
        if order_id not in found:
            raise ToolRefused(unknown.format(order_id))
        return found[order_id]

    return order_status


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (tool("write O-12345"), "passed"),
        (tool("expected ^O-\\d{{5}}$"), "passed"),
        (tool("a capital O, a hyphen, then exactly five (5) digits"), "passed"),
        (tool("{!r} cannot be looked up; a number looks like O-10001", "{} is on no list of ours"), "passed"),
        (tool("five digits, of course"), "how an order number looks"),
        (tool("write O-12345", "please come back later, no order system today"), "is called unknown"),
        (tool("write O-12345", "error 17"), "is called unknown"),
        (tool("write O-12345", "there is no order like O-12345\u2028"), "passed"),
        (tool("write O-12345", "there is none.\u2028Sorry."), "in one line"),
    ],
)
def test_a_line_may_teach_in_any_words_but_has_to_teach(answer, told):
    result = judged("1.5", answer)

    assert told in f"{result.outcome} {result.message}"


def test_two_checks_of_one_server_and_an_open_transaction_are_not_in_each_others_way():
    store = answered("1.6", "MyDatabaseAdapter")
    with psycopg.connect(running_postgres().url) as mine, ThreadPoolExecutor(2) as threads:
        mine.execute("CREATE TABLE my_predictions (key text)")
        both = list(threads.map(lambda _: judged("1.6", store), range(2)))
        schemas = mine.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'exercise%'").fetchone()
        mine.rollback()

    assert ([result.line for result in both if result.outcome != "passed"], schemas) == ([], (0,))


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ("what a customer and the desk wrote to each other", "passed"),
        ("Dialogue; each line begins with its speaker.", "passed"),
        ("chat log", "passed"),
        ("a chat, line by line, " * 20, "a few words describe it"),
    ],
)
def test_a_description_may_use_any_few_words_for_a_conversation(says, told):
    ours = answered("1.4", "Transcript")
    result = judged("1.4", type("Other", (ours,), {"description": classmethod(lambda cls: says)}))

    assert told in f"{result.outcome} {result.message}"
