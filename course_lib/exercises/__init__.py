"""Exercises that are checked on the spot, with hints, solutions and progress that survives a restart.

Main path: check("0.1", thing) -> one plain line, one card, one event in the learner's progress.
"""

from course_lib.exercises.engine.checking import Result, check
from course_lib.exercises.engine.reveal import hint, solution

__all__ = ["Result", "check", "hint", "solution"]
