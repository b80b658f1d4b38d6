"""The questions of the self-test: what a short program prints, why, and where to read about it.

Main path: QUESTIONS, in the order asked; a test runs every program and compares what it prints.
Source: DSPy 3.4.1 and its DummyLM, which answers from a list instead of a model.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Choice:
    """One possible answer."""

    text: str
    reason: str
    """Why it is right or wrong, told after it was chosen."""
    is_right: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """A program to read, and what it might print; the right choice is what it does print."""

    topic: str
    code: str
    choices: tuple[Choice, ...]
    read: str
    """Where to read about it: in the documentation or in this course."""

    @property
    def right(self) -> Choice:
        """The choice that is true."""
        return next(choice for choice in self.choices if choice.is_right)


ASK = "What does this print?"

_TYPES = Question(
    "Signatures",
    """\
import dspy

Asked = dspy.Signature("question, context: list[str] -> answer, sure: bool")
print(Asked.output_fields["answer"].annotation.__name__)""",
    (
        Choice("str", "A field without a type is a string.", is_right=True),
        Choice("list", "That is the type of `context`; each field has its own."),
        Choice("Any", "DSPy leaves no field untyped: without a type it is a string."),
    ),
    "dspy.ai, page Signatures, on types in inline signatures",
)
_INSTRUCTIONS = Question(
    "Signatures",
    '''\
import dspy

class Sort(dspy.Signature):
    """Sort a support ticket."""
    ticket: str = dspy.InputField()
    urgent: bool = dspy.OutputField()

print(Sort.instructions)''',
    (
        Choice("Sort a support ticket.", "The docstring is sent to the model as its task.", is_right=True),
        Choice(
            "Given the fields `ticket`, produce the fields `urgent`.",
            "That is what DSPy writes when a signature has no docstring.",
        ),
        Choice("None", "A signature always has instructions; here they are the docstring."),
    ),
    "dspy.ai, page Signatures, on class-based signatures",
)
_LITERAL = Question(
    "Signatures",
    """\
import dspy
from dspy.utils import DummyLM
from typing import Literal

class Verdict(dspy.Signature):
    claim: str = dspy.InputField()
    holds: Literal["yes", "no"] = dspy.OutputField()

with dspy.context(lm=DummyLM([{"holds": "maybe"}] * 5)):
    try:
        print(dspy.Predict(Verdict)(claim="Tents float.").holds)
    except Exception as error:
        print(type(error).__name__)""",
    (
        Choice("maybe", "The reply is checked against the type; `maybe` is neither of the two."),
        Choice("None", "DSPy does not hand you a hole: it raises when a field cannot be read."),
        Choice(
            "AdapterParseError",
            "The adapter could not make a `yes` or `no` of it, asked once more in JSON, and gave up.",
            is_right=True,
        ),
    ),
    "notebook 01 Adapters and tools, part 2; dspy.ai, page Adapters",
)
_REASONING = Question(
    "Modules",
    """\
import dspy

thinker = dspy.ChainOfThought("question -> answer")
print(list(thinker.predict.signature.output_fields))""",
    (
        Choice("['answer']", "That would be dspy.Predict; ChainOfThought asks for its steps as well."),
        Choice("['reasoning', 'answer']", "It puts one output field before yours.", is_right=True),
        Choice("['answer', 'reasoning']", "Reasoning after the answer could not help to find it."),
    ),
    "dspy.ai, page Modules, on dspy.ChainOfThought",
)
_POSITIONAL = Question(
    "Modules",
    """\
import dspy
from dspy.utils import DummyLM

ask = dspy.Predict("question -> answer")
with dspy.context(lm=DummyLM([{"answer": "Two."}])):
    try:
        print(ask("How many poles has the tent?").answer)
    except Exception as error:
        print(type(error).__name__)""",
    (
        Choice("Two.", "It would, with question=...: inputs go in by the names of the signature's fields."),
        Choice("ValueError", "Inputs go in by name: ask(question=...).", is_right=True),
        Choice("AttributeError", "It does not get as far as `.answer`: the call itself is refused."),
    ),
    "dspy.ai, page Modules, on using a built-in module",
)
_CONTEXT = Question(
    "Modules",
    """\
import dspy
from dspy.utils import DummyLM

ask = dspy.Predict("question -> answer")
one, two = DummyLM([{"answer": "one"}] * 3), DummyLM([{"answer": "two"}] * 3)

with dspy.context(lm=one):
    with dspy.context(lm=two):
        first = ask(question="Who answers?").answer
    second = ask(question="Who answers?").answer
print(first, second)""",
    (
        Choice("one one", "The inner context holds inside its block; it is not ignored."),
        Choice("two two", "The inner context ends with its block; it does not stay."),
        Choice("two one", "The innermost context counts, and ends with its block.", is_right=True),
    ),
    "dspy.ai, page Language Models, on using several; notebook 03 Async and streaming, part 1",
)
_PREDICTORS = Question(
    "Modules",
    """\
import dspy

class Answer(dspy.Module):
    def __init__(self):
        super().__init__()
        self.draft = dspy.ChainOfThought("question -> answer")
        self.checks = [dspy.Predict("answer -> polite: bool")]

    def forward(self, question):
        return self.draft(question=question)

print([name for name, _ in Answer().named_predictors()])""",
    (
        Choice("['draft.predict']", "A module finds predictors in lists and dicts too, used or not."),
        Choice("['draft', 'checks']", "Those are attributes; an optimizer works on the predictors in them."),
        Choice(
            "['draft.predict', 'checks[0]']", "These two are what an optimizer may change.", is_right=True
        ),
    ),
    "dspy.ai, tutorial on customizing modules",
)
_AWAIT = Question(
    "Async",
    """\
async def answer(question):
    return "Two."

reply = answer("How many poles has the tent?")
print(type(reply).__name__)
reply.close()""",
    (
        Choice("str", "It would, with `await`: without it nothing has run yet."),
        Choice("coroutine", "Calling an async function runs nothing; `await` does.", is_right=True),
        Choice("Task", "A task is made by asyncio.create_task or gather; a bare call makes none."),
    ),
    "docs.python.org, asyncio, page Coroutines and Tasks",
)
_GATHER = Question(
    "Async",
    """\
import asyncio

done = []

async def job(name, wait_s):
    await asyncio.sleep(wait_s)
    done.append(name)
    return name

results = await asyncio.gather(job("slow", 0.2), job("quick", 0.01))
print(results, done)""",
    (
        Choice(
            "['slow', 'quick'] ['quick', 'slow']",
            "Both run at once; gather returns results in the order asked, not the order done.",
            is_right=True,
        ),
        Choice("['slow', 'quick'] ['slow', 'quick']", "That is one after the other; these two run at once."),
        Choice("['quick', 'slow'] ['quick', 'slow']", "gather keeps the order in which you asked."),
    ),
    "docs.python.org, asyncio, page Coroutines and Tasks, on running tasks concurrently",
)
_AFORWARD = Question(
    "Async",
    """\
import dspy

class Shout(dspy.Module):
    def forward(self, text):
        return dspy.Prediction(loud=text.upper())

try:
    print((await Shout().acall(text="hello")).loud)
except Exception as error:
    print(type(error).__name__)""",
    (
        Choice("HELLO", "acall does not fall back on forward: it looks for aforward."),
        Choice("AttributeError", "acall runs aforward, and this module has none.", is_right=True),
        Choice("TypeError", "It does not get as far as awaiting: there is no aforward to call."),
    ),
    "notebook 03 Async and streaming, part 1; dspy.ai, tutorial Async DSPy Programming",
)

QUESTIONS = (
    _TYPES,
    _INSTRUCTIONS,
    _LITERAL,
    _REASONING,
    _POSITIONAL,
    _CONTEXT,
    _PREDICTORS,
    _AWAIT,
    _GATHER,
    _AFORWARD,
)
