"""DSPy's own message formatting turned into the body the endpoint would get."""

from __future__ import annotations

from typing import Any

import dspy
from dspy.adapters.json_adapter import _get_structured_outputs_response_format


def body_for(
    adapter: dspy.Adapter,
    signature: type[dspy.Signature],
    inputs: dict[str, Any],
    *,
    demos: list[dict[str, Any]] | None = None,
    schema: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Return the chat body that `adapter` sends for `inputs`; `schema` adds JSONAdapter's response format."""
    body: dict[str, Any] = {
        "model": "sim-large",
        "messages": adapter.format(signature, demos or [], inputs),
        **settings,
    }
    if schema:
        model = _get_structured_outputs_response_format(signature)
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": model.__name__, "schema": model.model_json_schema(), "strict": True},
        }
    return body
