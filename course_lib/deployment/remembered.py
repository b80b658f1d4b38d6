"""What DSPy works out anew for each value and each answer, remembered: for a process that only serves.

Main path: remember() when a replica or a worker starts; an answer from memory takes a third less with it.
Source: dspy.adapters and dspy.signatures (DSPy 3.4.1). What a type's adapter, a signature's fields and its
system message are stays the same: a class of fields never changes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from dspy.adapters import utils as adapter_utils
from dspy.adapters.base import Adapter
from dspy.clients import model_metadata
from dspy.signatures.signature import SignatureMeta
from pydantic import TypeAdapter

_type_adapter = lru_cache(maxsize=512)(TypeAdapter)
_fields_of = lru_cache(maxsize=512)(SignatureMeta._get_fields_with_type)  # noqa: SLF001
_written = Adapter.format_system_message


@lru_cache(maxsize=64)
def _system_message(kind: type[Adapter], signature: Any) -> str:
    return str(_written(kind(), signature))


def _known_type_adapter(annotation: Any) -> TypeAdapter[Any]:
    """Return pydantic's adapter of a type, made once: DSPy makes one for each value that it handles."""
    try:
        return _type_adapter(annotation)
    except TypeError:  # a type that cannot be a key
        return TypeAdapter(annotation)


def remember(model: str) -> None:
    """Let DSPy find these again in this process, which is about to connect to `model`, from now on."""
    if "/" not in model:  # the course's own stand in no list of models, which takes 7 MB and a download
        model_metadata._data = {}  # noqa: SLF001
    adapter_utils.TypeAdapter = _known_type_adapter
    # It sorts a signature's fields some twenty times an answer, and gets a dict of its own each time.
    SignatureMeta._get_fields_with_type = lambda signature, kind: dict(_fields_of(signature, kind))  # noqa: SLF001
    Adapter.format_system_message = lambda adapter, signature: _system_message(type(adapter), signature)  # type: ignore[arg-type]
