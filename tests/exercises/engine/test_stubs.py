"""What counts as not attempted, and what does not."""

from __future__ import annotations

import dataclasses

import pytest

from course_lib.exercises.engine.stubs import is_stub, stub_methods


def _name(thing):
    return getattr(thing, "__name__", type(thing).__name__)


def dots(a, b): ...


def documented(a, *, b=1):
    """Do something one day."""


def documented_dots():
    """Do something one day."""
    ...  # noqa: PIE790  learners keep it


def passes():
    pass


def refuses():
    raise NotImplementedError


def refuses_with_words(a):
    """Do something one day."""
    raise NotImplementedError("write me")


def refuses_by_call():
    raise NotImplementedError()


def returns_dots():
    return ...


async def awaits():
    """Do something one day."""


async def awaits_refusal(a):
    raise NotImplementedError("write me")


async def awaits_dots(): ...


class Untouched:
    """Write the methods."""

    size = 3

    def get(self, key): ...

    async def put(self, key, value):
        raise NotImplementedError

    @property
    def count(self): ...

    @staticmethod
    def build(): ...


class Empty(dict):
    """Nothing here yet."""


@dataclasses.dataclass
class UntouchedRecord:
    size: int = 3

    def grow(self): ...


@pytest.mark.parametrize(
    "thing",
    [
        None, ..., dots, documented, documented_dots, passes, refuses, refuses_with_words, refuses_by_call,
        returns_dots, awaits, awaits_refusal, awaits_dots, lambda: ..., Untouched, Untouched(), Empty,
        UntouchedRecord, UntouchedRecord(), Untouched.get, Untouched().put,
    ],
    ids=_name,
)  # fmt: skip
def test_untouched(thing):
    assert is_stub(thing)


def returns_zero():
    return 0


def returns_text():
    return "words"


def raises_another():
    raise ValueError("words")


def raises_later():
    dots(1, 2)
    raise NotImplementedError


async def awaits_something():
    return await awaits()


class Begun:
    def get(self, key): ...

    def put(self, key, value):
        self.key = value


@dataclasses.dataclass
class Record:
    size: int = 3


class WithData:
    limit = 3


@pytest.mark.parametrize(
    "thing",
    [
        returns_zero, returns_text, raises_another, raises_later, awaits_something, Begun, Begun(), Record,
        Record(), WithData, 0, "", [], False, {}, print, len, dict, lambda: 1,
    ],
    ids=_name,
)  # fmt: skip
def test_attempted(thing):
    assert not is_stub(thing)


def test_an_exercise_may_look_at_some_methods_only():
    untouched = stub_methods("get")

    assert untouched(Begun)
    assert untouched(Begun())
    assert untouched(...)
    assert not stub_methods("get", "put")(Begun)
    assert not untouched(3)


def test_a_dspy_module_and_signature_are_judged_by_what_the_learner_wrote():
    dspy = pytest.importorskip("dspy")

    class StubModule(dspy.Module):
        def forward(self, question): ...

    class FilledModule(dspy.Module):
        def __init__(self):
            super().__init__()
            self.answer = dspy.Predict("question -> answer")

        def forward(self, question):
            return self.answer(question=question)

    class StubSignature(dspy.Signature):
        """Write the fields."""

    class FilledSignature(dspy.Signature):
        """Answer."""

        question: str = dspy.InputField()
        answer: str = dspy.OutputField()

    assert is_stub(StubModule)
    assert is_stub(StubModule())
    assert is_stub(StubSignature)
    assert not is_stub(FilledModule)
    assert not is_stub(FilledModule())
    assert not is_stub(FilledSignature)
    assert not is_stub(dspy.Predict("question -> answer"))
