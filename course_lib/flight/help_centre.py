"""The help centre in PostgreSQL: its table, how it is filled, and how it is searched.

Main path: fill(url), then connection.execute(FIND, {"text": "wet tent", "limit": 3}).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

import psycopg

from course_lib import desk

TABLE: LiteralString = """
CREATE TABLE IF NOT EXISTS articles (
    id text PRIMARY KEY, title text NOT NULL, body text NOT NULL, keywords text NOT NULL DEFAULT '',
    words tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('english', title || ' ' || keywords), 'A') || to_tsvector('english', body)
    ) STORED
);
"""
FIND: LiteralString = """
SELECT '[' || id || '] ' || title || E'\n' || body
FROM articles, CAST(replace(CAST(plainto_tsquery('english', %(text)s) AS text), '&', '|') AS tsquery) AS asked
WHERE words @@ asked ORDER BY ts_rank(words, asked, 1) DESC, id LIMIT %(limit)s
"""
"""The articles with some of the words of `text`, in any form, the best first, each as a model can cite it."""


def fill(
    url: str, rows: Sequence[tuple[str, str, str, str]] | None = None, schema: LiteralString = TABLE
) -> None:
    """Make missing tables, and put in rows of id, title, body, keywords; else the desk's."""
    texts = rows or [(each.id, each.title, each.body, " ".join(each.keywords)) for each in desk.articles()]
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(61)")  # one at a time: IF NOT EXISTS alone can collide
        cursor.execute(schema)
        cursor.executemany("INSERT INTO articles VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING", texts)
