from __future__ import annotations

import re
from pkgutil import resolve_name

import dspy
import pytest

from course_lib.labs import chapters
from course_lib.labs.names import NAMES, names_table


def _places(name: str, book: str) -> set[str]:
    bare = name.partition("(")[0]
    homes = ("", "adapters.", "asyncio.", "deployment.", "performance.", "tracing.", "utils.")
    return {f"dspy.{book}", *(f"dspy.{home}{bare}" for home in homes)}


@pytest.mark.parametrize("name", [name for name in NAMES if name["book"]], ids=lambda name: name["name"])
def test_a_name_from_books_is_nowhere_in_dspy(name):
    for path in _places(name["name"], name["book"]):
        with pytest.raises((AttributeError, ModuleNotFoundError)):
            resolve_name(path)


@pytest.mark.parametrize("point", sorted({point for name in NAMES for point in name["points"].split()}))
def test_an_extension_point_exists_in_dspy(point):
    assert resolve_name(point) is not None


def test_every_name_of_the_syllabus_is_listed_once_and_built_in_a_notebook():
    named = [name["name"].partition("(")[0] for name in NAMES]

    assert len(named) == len(set(named)) == 22
    assert all(name in repr(names_table()) for name in named)
    assert {name["notebook"] for name in NAMES} <= set(chapters.CHAPTERS)
    assert "performance_monitoring" not in dspy.settings.copy(), "the one that is a setting"


ROOMS = re.compile(r"\b(?:adapters|caching|concurrency|debugging|deployment|measure|resilience)\.\w+")


@pytest.mark.parametrize("path", sorted({path for name in NAMES for path in ROOMS.findall(name["here"])}))
def test_what_a_name_is_here_can_be_imported(path):
    assert resolve_name(f"course_lib.{path}") is not None
