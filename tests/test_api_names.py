"""Every `dspy.` name that the course says or uses exists in the installed DSPy."""

from __future__ import annotations

from pathlib import Path

import pytest

from course_lib.authoring import apinames
from course_lib.paths import LESSONS, ROOT

PLACES = ("*.md", "docs/**/*.md", "lessons/*.py", "course_lib/**/*.py", "course_lib/**/*.md", "bench/**/*.py")
FILES = [path for place in PLACES for path in sorted(ROOT.glob(place))]


def test_there_are_names_to_look_at():
    files = [ROOT / "README.md", *LESSONS.glob("*.py")]
    mentions = [mention for path in files for mention in apinames.mentions(path, lessons=LESSONS)]

    assert len({mention.name for mention in mentions}) > 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_dspy_name_holds(path: Path):
    assert "\n".join(map(str, apinames.faults([path], lessons=LESSONS))) == ""
