"""What an adapter must do with values: write them, and read them back as they were.

Main path: ROUND_TRIPS[feature](stand) returns what was observed, or asserts; conformance.py runs them.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Literal

import dspy
import pydantic

from course_lib.adapters.prompt.stand import Ask, Part, Stand, once, price, same, text_of
from course_lib.adapters.prompt.types import Money


class _Bill(dspy.Signature):
    """Read the bill."""

    budget: Money = dspy.InputField()
    bill: str = dspy.InputField()
    total: Money = dspy.OutputField()


class _Picture(dspy.Type):
    address: str

    def format(self) -> list[dict[str, Any]]:
        return [{"type": "image_url", "image_url": {"url": self.address}}]


class _Look(dspy.Signature):
    """Describe the picture."""

    picture: _Picture = dspy.InputField()
    answer: str = dspy.OutputField()


def _custom_types(stand: Stand) -> str:
    total = price("12.50 EUR")
    ran = stand.run(dspy.Predict(_Bill), {"total": total}, {"budget": price("99 EUR"), "bill": "€12,50"})
    same(ran.prediction.total, total, "total")
    assert "99.00 EUR" in text_of(ran.messages[-1]), "format() of the input's type is not in the prompt"
    assert Money.description() in text_of(ran.messages[0]), "description() of the type is not in the prompt"
    return "format() and description() in the prompt, value read back"


def _picture(stand: Stand) -> str:
    address = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
    ran = stand.run(dspy.Predict(_Look), {"answer": "a dot"}, {"picture": _Picture(address=address)})
    parts = ran.messages[-1]["content"]
    assert isinstance(parts, list), "the message is one text; expected a list of parts with the picture in it"
    kinds = [part.get("type") for part in parts]
    assert "image_url" in kinds, f"no image among the message's parts {kinds}"
    return "a type's parts reach the model as parts"


def _defaults(stand: Stand) -> str:
    asked = Ask.append("source", dspy.OutputField(default="none given"), str)
    reply = stand.written(Ask, {"answer": "Yes.", "score": 3})
    ran = stand.run(
        dspy.Predict(asked),
        {"answer": "Yes.", "score": 3, "source": "none given"},
        {"question": "?"},
        reply=reply,
    )
    same(ran.prediction.source, "none given", "source")
    return "a field with a default may be missing"


class _Size(enum.Enum):
    SMALL = 1
    LARGE = 2


_TYPES: dict[str, tuple[Any, Any]] = {
    "text of several lines": (str, "One: yes.\n\n  two & <three>\n- four"),
    "number": (float, -2.5),
    "truth value": (bool, False),
    "choice": (Literal["a b", "c"], "a b"),
    "enum of numbers": (_Size, _Size.LARGE),
    "list of texts": (list[str], ["a, b", 'c "d"', "é"]),
    "record": (dict[str, int], {"x": 1, "y z": 2}),
    "nested model": (Part, Part(name="peg", count=3)),
    "list of models": (list[Part], [Part(name="peg", count=3), Part(name="pole: long", count=1)]),
    "nothing (None)": (int | None, None),
    "number or text": (int | str, "5"),
}


def _round_trip(kind: str) -> Callable[[Stand], str]:
    annotation, value = _TYPES[kind]

    def check(stand: Stand) -> str:
        asked = Ask.append("value", dspy.OutputField(), annotation)
        expected = {"answer": "Yes.", "score": 3, "value": value}
        ran = stand.run(dspy.Predict(asked), expected, {"question": "?"})
        same(ran.prediction.value, value, "value")
        return once(ran.requests)

    return check


class _Crate(dspy.Signature):
    """Read the packing list."""

    text: str = dspy.InputField()
    front: Part = dspy.OutputField()
    back: Part = dspy.OutputField()


def _model_twice(stand: Stand) -> str:
    expected = {"front": Part(name="peg", count=3), "back": Part(name="pole", count=1)}
    ran = stand.run(dspy.Predict(_Crate), expected, {"text": "3 pegs in front, a pole behind"})
    same({name: ran.prediction[name] for name in expected}, expected)
    nested = dspy.Signature("text -> crates: list[_Pair]", custom_types={"_Pair": _Pair})
    pair = _Pair(left=Part(name="peg", count=1), right=Part(name="pole", count=2))
    ran = stand.run(dspy.Predict(nested), {"crates": [pair]}, {"text": "pegs and poles"})
    same(ran.prediction.crates, [pair], "crates")
    return once(ran.requests)


class _Pair(pydantic.BaseModel):
    left: Part
    right: Part


def _quoted_format(stand: Stand) -> str:
    quoted = stand.written(Ask, {"answer": "No.", "score": 1})
    expected = {"answer": f"They wrote:\n{quoted}\nand left.", "score": 3}
    ran = stand.run(dspy.Predict(Ask), expected, {"question": "What did they write?"})
    same(ran.prediction.toDict(), expected)
    return "a text that quotes the format stays a text"


ROUND_TRIPS: dict[str, Callable[[Stand], str]] = {
    "custom types": _custom_types,
    "types made of parts": _picture,
    "defaults": _defaults,
    **{kind: _round_trip(kind) for kind in _TYPES},
    "a model used twice": _model_twice,
    "text that quotes the format": _quoted_format,
}
"""Features in the order of a report, each with its check."""
