"""What counts as not attempted, and what does not."""

from __future__ import annotations

import pytest

from course_lib.exercises.engine.registry import is_stub

METHODS = """
class thing:
    'Write the methods.'
    size = 3
    def get(self, key): ...
    async def put(self, key, value):
        raise NotImplementedError
    @property
    def count(self): ...
    @staticmethod
    def build(): ...
"""
BEGUN = """
class thing:
    def get(self, key): ...
    def put(self, key, value):
        self.key = value
"""
SIGNATURE = "import dspy\nclass thing(dspy.Signature):\n    'Write the fields.'\n"
MODULE = "import dspy\nclass thing(dspy.Module):\n    def forward(self, question):\n        return question\n"
RECORD = "from dataclasses import dataclass\n@dataclass\nclass thing:\n    size: int = 3\n"


def made(text):
    """Return the `thing` that a cell with this text makes."""
    scope = {"__name__": "__main__"}
    exec(compile(text, "<cell>", "exec", dont_inherit=True), scope)
    return scope["thing"]


@pytest.mark.parametrize(
    "text",
    [
        "thing = None",
        "thing = ...",
        "def thing(a, b): ...",
        "def thing(a, *, b=1):\n    'Do something one day.'",
        "def thing():\n    pass",
        "def thing():\n    raise NotImplementedError",
        "def thing(a):\n    'Do something one day.'\n    raise NotImplementedError('write me')",
        "def thing():\n    return ...",
        "async def thing():\n    'Do something one day.'",
        "async def thing(): ...",
        "thing = lambda: ...",
        METHODS + "thing = thing().put",
        "class thing(dict):\n    'Nothing here yet.'",
        SIGNATURE,
        METHODS,
        METHODS + "thing = thing()",
        METHODS + "    def __init__(self, size):\n        self.size = size",
    ],
)
def test_untouched(text):
    assert is_stub(made(text))


@pytest.mark.parametrize(
    "text",
    [
        "def thing():\n    return 0",
        "def thing():\n    return 'words'",
        "def thing():\n    raise ValueError('words')",
        "def thing():\n    print(1, 2)\n    raise NotImplementedError",
        BEGUN,
        BEGUN + "thing = thing()",
        RECORD + "thing = thing()",
        SIGNATURE + "    question: str = dspy.InputField()\n    answer: str = dspy.OutputField()",
        MODULE + "thing = thing()",
        "import dspy\nthing = dspy.Predict('question -> answer')",
        "class thing:\n    limit = 3",
        BEGUN.replace("thing", "other") + "class thing(other): ...",
        "from collections import OrderedDict\nclass thing(OrderedDict): ...",
        "thing = lambda: 1",
        *(f"thing = {value}" for value in ("0", "''", "[]", "False", "{}", "print", "len", "dict")),
    ],
)
def test_attempted(text):
    assert not is_stub(made(text))
