"""Results and inputs as JSON and back, with the types that the program names in its signatures.

Main path: Codec.of(program).dump(result) -> text; .load(text) -> the same; digest(inputs) -> 16 bytes.
Nothing is ever imported by a name that a journal holds: a type is one of the program's own, or refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, get_args

import dspy
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from course_lib.caching.batch.errors import UnkeepableError

_PLAIN = (str, bool, int, float, type(None))


def call_of(item: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return how an item is handed to a program: Example and dict by name, tuple by place, else as it is.

    >>> call_of({"ticket": "Where is it?"}), call_of("Where is it?")
    (((), {'ticket': 'Where is it?'}), (('Where is it?',), {}))
    """
    if isinstance(item, dspy.Example):
        return (), dict(item.inputs())
    if isinstance(item, dict):
        return (), item
    return (item if isinstance(item, tuple) else (item,)), {}


def digest(item: Any) -> bytes:
    """Return a fingerprint of what the program is given for `item`; equal in every process.

    Raises:
        UnkeepableError: it holds something that has no stable text.
    """
    try:
        text = json.dumps(_stable(call_of(item)), sort_keys=True, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UnkeepableError(
            f"an item of type {type(item).__name__} cannot be recognised again: {error}. "
            "Give the batch plain data, pydantic models or dspy.Example objects of such"
        ) from error
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _stable(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return [type(value).__qualname__, value.model_dump(mode="json")]
    if isinstance(value, dspy.Example):
        return _stable(dict(value.items()))
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else repr(key): _stable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_stable(part) for part in value]
    if isinstance(value, set | frozenset):
        return sorted((_stable(part) for part in value), key=repr)
    if isinstance(value, _PLAIN) and not isinstance(value, Enum):
        return value
    try:
        return [type(value).__qualname__, to_jsonable_python(value)]
    except PydanticSerializationError as error:
        raise TypeError(str(error)) from error


class Codec:
    """Writes results as JSON, and reads them back as the types that it knows."""

    def __init__(self, types: Iterable[type]) -> None:
        self._types = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in types}

    @classmethod
    def of(cls, program: Any, types: Iterable[type] = ()) -> Codec:
        """Know the models and enums in the output fields of the program's predictors, and `types`."""
        found = list(types)
        if isinstance(program, dspy.Module):
            for _, predictor in program.named_predictors():
                signature: Any = predictor.signature
                for field in signature.output_fields.values():
                    found += _named_types(field.annotation)
        return cls(found)

    def dump(self, value: Any) -> str:
        """Return `value` as JSON.

        Raises:
            UnkeepableError: it holds a type that could not be given back.
        """
        try:
            return json.dumps(self._plain(value))
        except (TypeError, ValueError, RecursionError) as error:
            raise UnkeepableError(
                f"the program returned a {type(value).__name__} that JSON cannot hold: {error}"
            ) from error

    def load(self, text: str) -> Any:
        """Return what was dumped."""
        return self._rich(json.loads(text))

    def _plain(self, value: Any) -> Any:
        if isinstance(value, _PLAIN) and not isinstance(value, Enum):
            return value
        if isinstance(value, list):
            return [self._plain(part) for part in value]
        if isinstance(value, tuple):
            return {"$tuple": [self._plain(part) for part in value]}
        if isinstance(value, dspy.Prediction):
            return {"$prediction": {name: self._plain(part) for name, part in value.items()}}
        if isinstance(value, dict) and all(isinstance(name, str) for name in value):
            parts = {name: self._plain(part) for name, part in value.items()}
            return {"$dict": parts} if any(name.startswith("$") for name in parts) else parts
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        if name in self._types:
            return {"$type": name, "value": _contents(value)}
        raise UnkeepableError(
            f"the program returned a {name}, which a journal cannot give back. "
            "Return plain data or a Prediction of such, name pydantic models, enums and dataclasses in the "
            "signature, or hand them over: BatchProcessor(..., types=(Thing,))"
        )

    def _rich(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._rich(part) for part in value]
        if not isinstance(value, dict):
            return value
        if "$type" in value:
            return self._typed(value["$type"], value["value"])
        if "$tuple" in value:
            return tuple(self._rich(part) for part in value["$tuple"])
        if "$prediction" in value:
            return dspy.Prediction(**self._rich_parts(value["$prediction"]))
        return self._rich_parts(value.get("$dict", value))

    def _rich_parts(self, parts: dict[str, Any]) -> dict[str, Any]:
        return {name: self._rich(part) for name, part in parts.items()}

    def _typed(self, name: str, contents: Any) -> Any:
        kind = self._types.get(name)
        if kind is None:
            raise UnkeepableError(
                f"the journal holds a {name}, which the program no longer names. "
                "Hand it over: BatchProcessor(..., types=(Thing,))"
            )
        is_model, is_dataclass = issubclass(kind, BaseModel), dataclasses.is_dataclass(kind)
        return kind(**contents) if is_model or is_dataclass else kind(contents)


def _contents(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Enum):
        return value.value
    return to_jsonable_python(value)


def _named_types(annotation: Any) -> list[type]:
    """Return the models, enums and dataclasses in an annotation such as `list[Item] | None`."""
    if isinstance(annotation, type) and (
        issubclass(annotation, BaseModel | Enum) or dataclasses.is_dataclass(annotation)
    ):
        return [annotation]
    return [kind for part in get_args(annotation) for kind in _named_types(part)]
