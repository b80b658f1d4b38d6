"""Predictions as rows: what is written, read and searched, in SQL with parameters only.

Main path: store(), get() and search() take a connection within a transaction; DatabaseAdapter calls them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dspy
from psycopg.rows import args_row
from psycopg.types.json import Jsonb
from pydantic_core import PydanticSerializationError, to_jsonable_python

from course_lib.adapters.data.connections import Connection, DatabaseError

TABLES = """
CREATE TABLE IF NOT EXISTS predictions (
    key text PRIMARY KEY,
    program text NOT NULL,
    inputs jsonb NOT NULL,
    outputs jsonb NOT NULL,
    stored timestamptz NOT NULL DEFAULT now(),
    words tsvector GENERATED ALWAYS AS
        (setweight(to_tsvector('english', inputs), 'A') || to_tsvector('english', outputs)) STORED
);
CREATE INDEX IF NOT EXISTS predictions_words ON predictions USING gin (words)
"""
_INSERT = """
INSERT INTO predictions (key, program, inputs, outputs) VALUES (%s, %s, %s, %s)
ON CONFLICT (key) DO NOTHING
"""
_SELECT = "SELECT p.key, p.program, p.inputs, p.outputs, p.stored FROM predictions p "
_BY_KEY = f"{_SELECT} WHERE p.key = %s"
_BY_WORDS = f"""{_SELECT}
CROSS JOIN websearch_to_tsquery('english', %(text)s) AS wanted
WHERE p.words @@ wanted
ORDER BY ts_rank(p.words, wanted) DESC, p.stored DESC, p.key LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class StoredPrediction:
    """A prediction as the database has it."""

    key: str
    """Made of program, inputs and outputs."""
    program: str
    """What made it, such as "Triage"; may be empty."""
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    stored: datetime


Row = tuple[str, str, Jsonb, Jsonb]  # key, program, inputs and outputs


def as_row(prediction: dspy.Prediction, inputs: Mapping[str, Any], *, program: str) -> Row:
    """Return a prediction as plain JSON, with a key made of its content.

    Raises:
        DatabaseError: a value cannot be written as JSON.
    """
    request, outputs = _json(dict(inputs), "inputs"), _json(dict(prediction.items()), "prediction")
    content = json.dumps([program, request, outputs], sort_keys=True, ensure_ascii=False).encode()
    key = hashlib.sha256(content).hexdigest()[:32]
    return key, program, Jsonb(request), Jsonb(outputs)


def store(connection: Connection, row: Row) -> None:
    """Write a prediction; one that is there already is left alone."""
    connection.execute(_INSERT, row)


def get(connection: Connection, key: str) -> StoredPrediction | None:
    """Return the prediction of a key, or None."""
    return connection.cursor(row_factory=args_row(StoredPrediction)).execute(_BY_KEY, [key]).fetchone()


def search(connection: Connection, text: str, limit: int) -> list[StoredPrediction]:
    """Return the predictions whose inputs or outputs hold the words, best first."""
    cursor = connection.cursor(row_factory=args_row(StoredPrediction))
    return cursor.execute(_BY_WORDS, {"text": storable(text), "limit": limit}).fetchall()


def _json(values: Any, what: str) -> Any:
    try:
        return storable(to_jsonable_python(values, inf_nan_mode="constants"))
    except (PydanticSerializationError, ValueError) as error:
        raise DatabaseError(f"the {what} cannot be written as JSON: {error}; store plain values") from None


def storable(value: Any) -> Any:
    """Replace what Python has and jsonb has not: zero characters, halves of surrogate pairs, NaN."""
    match value:
        case str():
            return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {storable(name): storable(part) for name, part in value.items()}
        case list():
            return [storable(part) for part in value]
        case _:
            return value
