"""A solution's outputs are stale when the code or the data changed that they rest on, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from course_lib.authoring.freshness import digests
from course_lib.authoring.reading import read

LESSON = """# %% [markdown]
# # A lesson

# %%
from course_lib.shop import price

price(3)
"""
LIBRARY = {
    "__init__.py": "",
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


def digest_after(root: Path, file: str, old: str, new: str) -> tuple[object, object]:
    """Return the digests before and after a change of one file."""
    lesson = read(root / "lessons" / "07_shop.py")
    before = digests([lesson], root)
    text = (root / file).read_text("utf-8")
    assert old in text
    (root / file).write_text(text.replace(old, new), "utf-8")
    return before, digests([lesson], root)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("course_lib/shop/till.py", "euros", "dollars"),
        ("course_lib/prices.py", "2", "3"),
        ("course_lib/shop/data/rates.json", "{}", "[]"),
        ("course_lib/shop/server.py", "0", "1"),
        ("course_lib/exercises/shop/checks.py", "1", "2"),
        ("requirements.lock", "1.0", "1.1"),
    ],
    ids=["imported", "imported by that", "data", "a process it starts", "the section's checks", "DSPy"],
)
def test_what_outputs_rest_on_changes_the_digest(root, file, old, new):
    before, after = digest_after(root, file, old, new)

    assert before != after


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("course_lib/shop/till.py", "Return the price", "Return what is to pay"),
        ("course_lib/shop/till.py", "    return", "    # in whole euros\n\n    return"),
        ("course_lib/tours.py", "1", "2"),
        ("course_lib/exercises/tours/checks.py", "1", "2"),
    ],
    ids=["docstring", "comment", "not imported", "another section's checks"],
)
def test_what_outputs_do_not_rest_on_leaves_the_digest(root, file, old, new):
    before, after = digest_after(root, file, old, new)

    assert before == after
