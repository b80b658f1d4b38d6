"""Results as JSON and back, by the types that the program's signatures name.

Main path: Codec(program).encode(result) -> text; .decode(text) -> an equal result.
Nothing is imported by a name that a journal holds: a type is one that the program names, or a built-in one.
"""

from __future__ import annotations

import json
from typing import Any, Union, get_type_hints

import dspy
from pydantic import PydanticUserError, TypeAdapter
from pydantic_core import PydanticSerializationError

from course_lib.caching.batch.errors import UnkeepableError

_UNNAMED = {kind.__name__: TypeAdapter(kind) for kind in (object, tuple)}
"""Tried after the type that the program names: what JSON itself has, and tuples of it."""
_REFUSALS = (TypeError, ValueError, RecursionError, PydanticUserError, PydanticSerializationError)


class Codec:
    """Writes results of one program as JSON, and reads them back.

    Raises:
        UnkeepableError: the program names a type that could not be read again.
    """

    def __init__(self, program: Any) -> None:
        self._types = {name: _adapter(name, kind) for name, kind in _named_types(program).items()}

    def encode(self, result: Any) -> str:
        """Return `result` as JSON.

        Raises:
            UnkeepableError: what would be read again is not equal to it.
        """
        fields = dict(result.items()) if isinstance(result, dspy.Prediction) else {"return": result}
        encoded = {name: self._encode(name, value) for name, value in fields.items()}
        return json.dumps([isinstance(result, dspy.Prediction), encoded])

    def decode(self, text: str) -> Any:
        """Return what was encoded.

        Raises:
            ValueError: the program's types have changed since, and no longer take it.
        """
        is_prediction, encoded = json.loads(text)
        fields = {name: self._decode(name, *part) for name, part in encoded.items()}
        return dspy.Prediction(**fields) if is_prediction else fields["return"]

    def _encode(self, name: str, value: Any) -> tuple[str, Any]:
        """Return the first type that gives an equal value back, and the value as it writes it."""
        for kind, adapter in self._candidates(name).items():
            try:
                plain = adapter.dump_python(value, mode="json", by_alias=False, warnings="error")
                again = self._decode(name, kind, json.loads(json.dumps(plain)))
                if again == value or repr(again) == repr(value):  # the latter for NaN, which equals nothing
                    return kind, plain
            except _REFUSALS:
                continue
        raise UnkeepableError(
            f"{name} = {value!r:.80} is a {type(value).__qualname__} that a journal cannot give back. "
            "Name its type in the signature (of a function: as its return type), or return plain data"
        )

    def _decode(self, name: str, kind: str, plain: Any) -> Any:
        if kind not in self._candidates(name):
            raise ValueError(f"the program no longer names a type for {name} = {plain!r:.80}")
        return self._candidates(name)[kind].validate_python(plain, by_alias=False, by_name=True)

    def _candidates(self, name: str) -> dict[str, TypeAdapter[Any]]:
        return {"named": self._types[name], **_UNNAMED} if name in self._types else _UNNAMED


def _named_types(program: Any) -> dict[str, Any]:
    """Return the types of the output fields of the program's predictors, and "return": what it returns."""
    named: dict[str, Any] = {}
    for _, predictor in program.named_predictors() if isinstance(program, dspy.Module) else ():
        for name, field in predictor.signature.output_fields.items():
            named.setdefault(name, []).append(field.annotation)
    types: dict[str, Any] = {name: Union[tuple(kinds)] for name, kinds in named.items()}  # noqa: UP007
    is_function = hasattr(program, "__qualname__")
    call = program if is_function else getattr(type(program), "forward", type(program).__call__)
    try:
        returned = get_type_hints(call)["return"]
    except (NameError, TypeError, KeyError):  # no annotation, or a name that only a type checker knows
        return types
    return types if returned is dspy.Prediction else {**types, "return": returned}


def _adapter(name: str, kind: Any) -> TypeAdapter[Any]:
    try:
        adapter = TypeAdapter(kind)
        adapter.json_schema(mode="serialization")
    except _REFUSALS as error:
        raise UnkeepableError(
            f"{name} is a {kind!r:.80}, which a journal could not read again: {str(error).splitlines()[0]}. "
            "Use a pydantic model, an enum, a dataclass or plain data"
        ) from error
    return adapter
