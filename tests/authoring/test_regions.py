from __future__ import annotations

import pytest

from course_lib.authoring import regions

CELL = """def double(x):
    ### BEGIN SOLUTION
    ### STUB: ...  # your code here
    ### STUB:
    ### STUB: # and here
    twice = 2 * x
    return twice
    ### END SOLUTION
print("kept")"""


def test_the_learner_sees_the_stub_as_indented_and_the_solution_shows_neither_markers_nor_stub():
    stub, solution = "    ...  # your code here\n\n    # and here", "    twice = 2 * x\n    return twice"

    assert regions.learner(CELL) == f'def double(x):\n{stub}\nprint("kept")'
    assert regions.solved(CELL) == f'def double(x):\n{solution}\nprint("kept")'


@pytest.mark.parametrize(
    ("cell", "offset", "what"),
    [
        ("a = 1\n### BEGIN SOLUTION\n### STUB: ...\nb = 2", 1, "never closed"),
        ("### BEGIN SOLUTION\n### BEGIN SOLUTION\n", 1, "inside a region"),
        ("a = 1\n### END SOLUTION", 1, "stands outside"),
        ("### STUB: ...", 0, "stands outside"),
        ("### BEGIN SOLUTION\nb = 2\n### END SOLUTION", 0, "no stub"),
        ("### BEGIN SOLUTION\n### STUB: ...\n\n### END SOLUTION", 0, "no solution"),
    ],
    ids=["unclosed", "nested", "stray end", "stray stub", "no stub", "no solution"],
)
def test_bad_markers_are_refused_with_their_line(cell, offset, what):
    with pytest.raises(regions.BadRegionError, match=what) as error:
        regions.split(cell)

    assert error.value.offset == offset
    assert error.value.remedy
