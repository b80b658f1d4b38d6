"""A solution's outputs are stale when the code or the data changed that they rest on, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from course_lib.authoring.freshness import digests
from course_lib.authoring.reading import read

LESSON = """# %% [markdown]
# # A lesson

# %%
from course_lib.desk import Row
from course_lib.shop import price

price(3)
"""
LIBRARY = {
    "__init__.py": "",
    "desk/__init__.py": "attach_stub(__name__, __file__)",
    "desk/__init__.pyi": "from .rows import Row",
    "desk/rows.py": "Row = 1",
    "exercises/__init__.py": "",
    "exercises/shop/checks.py": "X = 1",
    "exercises/tours/checks.py": "X = 1",
    "prices.py": "EACH = 2",
    "shop/__init__.py": "from course_lib.shop.till import price",
    "shop/data/rates.json": "{}",
    "shop/server.py": "PORT = 0",
    "shop/till.py": (
        "from course_lib import prices\nSERVER = ['-m', 'course_lib.shop.server']\n\n"
        "def price(n):\n    'Return the price.'\n    return f'{n * prices.EACH} euros'"
    ),
    "tours.py": "X = 1",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {f"course_lib/{name}": text for name, text in LIBRARY.items()}
    for name, text in {**files, "lessons/07_shop.py": LESSON, "requirements.lock": "dspy==1.0\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


CHANGES = {
    "imported": ("course_lib/shop/till.py", "euros", "dollars", True),
    "imported by that": ("course_lib/prices.py", "2", "3", True),
    "behind a face with a stub": ("course_lib/desk/rows.py", "1", "2", True),
    "data": ("course_lib/shop/data/rates.json", "{}", "[]", True),
    "a process it starts": ("course_lib/shop/server.py", "0", "1", True),
    "the section's checks": ("course_lib/exercises/shop/checks.py", "1", "2", True),
    "DSPy": ("requirements.lock", "1.0", "1.1", True),
    "docstring": ("course_lib/shop/till.py", "Return the price", "Return what is to pay", False),
    "comment": ("course_lib/shop/till.py", "    return", "    # in whole euros\n\n    return", False),
    "not imported": ("course_lib/tours.py", "1", "2", False),
    "another section's checks": ("course_lib/exercises/tours/checks.py", "1", "2", False),
}


@pytest.mark.parametrize(("file", "old", "new", "is_stale"), CHANGES.values(), ids=CHANGES.keys())
def test_a_change_of_what_outputs_rest_on_changes_the_digest(root, file, old, new, is_stale):
    lesson = read(root / "lessons" / "07_shop.py")
    before = digests([lesson], root)
    text = (root / file).read_text("utf-8")
    assert old in text

    (root / file).write_text(text.replace(old, new), "utf-8")

    assert (digests([lesson], root) != before) is is_stale
