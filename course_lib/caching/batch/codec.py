"""What a journal must know of a program: its results as JSON and back, and what it is told from others by.

Main path: Codec(program).encode(result) -> text; .decode(text) -> an equal result; fingerprint(program).
Results are read by the types that the program's signatures name. Nothing is imported by a name that a journal
holds.
Source: dspy.Module.dump_state (demos, instructions, fields; no keys), dspy.settings (DSPy 3.4.1).
"""

from __future__ import annotations

import json
import re
from ast import literal_eval
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Union, get_type_hints

import dspy
from pydantic import PydanticUserError, TypeAdapter

from course_lib.caching.batch.inputs import digest_of
from course_lib.caching.batch.items import JournalError

_REFUSALS = (SyntaxError, LookupError, TypeError, ValueError, RecursionError, PydanticUserError)
_WITHOUT_EFFECT = re.compile("key|api_|base|timeout|retries|rollout")
"""Parts of names of a model's options that do not change its answers."""
Form = tuple[Callable[[Any], Any], Callable[[Any], Any]]
"""A value -> what JSON can hold, and back."""
_UNNAMED: dict[str, Form] = {
    "json": (lambda value: value, lambda plain: plain),
    "literal": (repr, literal_eval),
}
"""Plain data: what JSON gives back as it was, then tuples, sets and bytes, written as Python writes them."""


class Codec:
    """Writes results of one program as JSON, and reads them back; JournalError for types it cannot read."""

    def __init__(self, program: Any) -> None:
        self._named = {name: _form_of(name, kind) for name, kind in _named_types(program).items()}

    def encode(self, result: Any) -> str:
        """Return `result` as JSON; JournalError if what would be read again is not equal to it."""
        fields = dict(result.items()) if isinstance(result, dspy.Prediction) else {"return": result}
        encoded = {name: self._encode(name, value) for name, value in fields.items()}
        return json.dumps([isinstance(result, dspy.Prediction), encoded])

    def decode(self, text: str) -> Any:
        """Return what was encoded; ValueError if the program's types have changed and do not take it."""
        is_prediction, encoded = json.loads(text)
        fields = {name: self._forms(name)[form][1](plain) for name, (form, plain) in encoded.items()}
        return dspy.Prediction(**fields) if is_prediction else fields["return"]

    def _forms(self, name: str) -> dict[str, Form]:
        """Return the type that the program names, and those for what it does not name."""
        return ({"named": self._named[name]} if name in self._named else {}) | _UNNAMED

    def _encode(self, name: str, value: Any) -> tuple[str, Any]:
        """Return the first form that gives an equal value back, and the value in it."""
        for form, (dump, load) in self._forms(name).items():
            with suppress(Exception):  # border: the program's own types
                plain = dump(value)
                again = load(json.loads(json.dumps(plain)))
                is_same = again == value if form == "named" else repr(again) == repr(value)  # NaN is not NaN
                if is_same and type(again) is type(value):
                    return form, plain
        raise JournalError(
            f"{name} = {value!r:.80} is a {type(value).__qualname__} that a journal cannot give back. "
            "Name its type in the signature (of a function: as its return type), or return plain data"
        )


def _form_of(name: str, kind: Any) -> Form:
    try:
        adapter = TypeAdapter(kind)
        adapter.json_schema(mode="serialization")
    except _REFUSALS as error:
        raise JournalError(
            f"{name} is a {kind!r:.80}, which a journal could not read again: {str(error).splitlines()[0]}. "
            "Use a pydantic model, an enum, a dataclass or plain data"
        ) from error

    def dump(value: Any) -> Any:
        return json.loads(adapter.dump_json(value, by_alias=False, round_trip=True, warnings="error"))

    return dump, lambda plain: adapter.validate_json(json.dumps(plain), by_alias=False, by_name=True)


def _named_types(program: Any) -> dict[str, Any]:
    """Return the types of the output fields of the program's predictors, and "return": what it returns."""
    named: dict[str, Any] = {}
    for _, predictor in program.named_predictors() if isinstance(program, dspy.Module) else ():
        for name, field in predictor.signature.output_fields.items():
            named[name] = Union[named.get(name, field.annotation), field.annotation]  # noqa: UP007
    call = program if _is_function(program) else getattr(type(program), "forward", type(program).__call__)
    with suppress(NameError, TypeError, KeyError):  # no annotation, or a name that only a type checker knows
        returned = get_type_hints(call)["return"]
        named |= {"return": returned} if returned is not dspy.Prediction else {}
    return named


def _is_function(program: Any) -> bool:
    return hasattr(program, "__qualname__")


def fingerprint(program: Any) -> dict[str, str]:
    """Return what tells this program, with its model and adapter, from others; its code is not compared."""
    thing: Any = program if _is_function(program) else type(program)
    parts = {"program": f"{thing.__module__}.{thing.__qualname__}"}
    if isinstance(program, dspy.Module):
        fields = [str(predictor.signature.fields) for _, predictor in program.named_predictors()]
        parts["instructions, fields and demos"] = digest_of([program.dump_state(), fields], str)
    lm = dspy.settings.lm
    if isinstance(lm, dspy.BaseLM):
        options = {name: value for name, value in lm.kwargs.items() if not _WITHOUT_EFFECT.search(name)}
        parts["model and its settings"] = f"{lm.model} {digest_of(options, str)}"
    return {**parts, "adapter": type(dspy.settings.adapter).__qualname__}
