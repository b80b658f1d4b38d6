"""Exercises that are checked on the spot, with hints, solutions and progress that survives a restart.

Main path: check("0.1", thing) -> one plain line, one card, one event in the learner's progress.

| name | what it is | lesson |
| --- | --- | --- |
| check | runs an exercise's checks on what the learner made | all, after each exercise |
| hint | shows the next hint | all |
| solution | shows ours beside the learner's, after a pass or on asking twice | all |
| Result | what `check` returns: outcome, message, card | none: tests and the proof read it |

`engine` is how they run. Each section has a folder, with a module an exercise; what a lesson shows of them
comes from the folder's face: `course_lib.exercises.adapters`, `course_lib.exercises.caching`.
"""

from course_lib.exercises.engine.checking import Result, check, hint, solution

__all__ = ["Result", "check", "hint", "solution"]
