"""What a check sends to another process arrives whole."""

from __future__ import annotations

from course_lib.exercises.engine.seen import in_another_process

CELL = """
from decimal import Decimal


def doubled(number):
    class Engine:
        def complete(self, number: Decimal) -> Decimal:
            return 2 * number

    return Engine().complete(number)
"""


def test_a_class_within_a_function_finds_the_names_of_its_annotations() -> None:
    notebook = {"__name__": "__main__"}
    exec(compile(CELL, "cell", "exec", dont_inherit=True), notebook)

    assert in_another_process(notebook["doubled"], 4, what="doubled", expected="8") == 8
