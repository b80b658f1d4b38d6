"""hint("0.1") and solution("0.1"): help in steps, and our answer beside the learner's.

Main path: progress says how far the learner is -> the next hint; our solution after a pass or asking twice.
"""

from __future__ import annotations

from course_lib.exercises.engine import notebookfile, progress, registry
from course_lib.exercises.engine.cards import Card, say, show_card


def hint(exercise_id: object = None) -> None:
    """Show the next hint of an exercise, and how many there are.

    Raises:
        UnknownExerciseError: there is no exercise of this id.
    """
    exercise = registry.get(exercise_id)
    taken, count = progress.standing(progress.read(), exercise.id).hints, len(exercise.hints)
    if taken < count:
        progress.record(exercise.id, "hint", outcome=str(taken + 1))
    shown = exercise.hints[: taken + 1]
    rows = tuple((f"Hint {number} of {count}", text) for number, text in enumerate(shown, start=1))
    if len(shown) == count:
        rows += (("After that", f'This was the last hint. solution("{exercise.id}") shows ours.'),)
    title = f"hint {len(shown)} of {count}" if taken < count else f"no more hints ({count} of {count} taken)"
    show_card(Card(f"{exercise.id} {exercise.title}: {title}", rows))
    say(*progress.notes())


def not_yet(exercise_id: str, *, again: str) -> str:
    """Return why our solution is not shown now, "" if it is; `again` is how to ask a second time."""
    exercise, now = registry.get(exercise_id), progress.standing(progress.read(), exercise_id)
    if now.state == "passed" or now.solution_asked:
        return ""
    progress.record(exercise_id, "solution", outcome="asked")
    left = len(exercise.hints) - now.hints
    hints = f'hint("{exercise_id}") has {left} more for you' if left else "you have taken all its hints"
    return f"{exercise_id} is not passed yet; {hints}. To see our solution anyway, ask again: {again}."


def solution(exercise_id: object = None) -> None:
    """Show our solution beside the learner's, with the reason: after a pass, or on asking twice.

    Raises:
        UnknownExerciseError: there is no exercise of this id.
    """
    exercise = registry.get(exercise_id)
    if refusal := not_yet(exercise.id, again=f'solution("{exercise.id}")'):
        say(refusal, *progress.notes())
        return
    try:
        cells = notebookfile.solution(exercise.lesson, exercise.id)
    except notebookfile.NotebookFileError as error:
        say(f"{exercise.id} solution: {error}", *progress.notes())
        return
    progress.record(exercise.id, "solution", outcome="shown")
    ours = "\n\n".join(map(notebookfile.source_of, cells))
    kept = progress.last_source(progress.read(), exercise.id)
    yours = kept or "(nothing yet: it is kept when you run the check)"
    title = f"{exercise.id} {exercise.title}: solution"
    show_card(Card(title, (("Why", exercise.why),), (("Yours, as last checked", yours), ("Ours", ours))))
    say(*progress.notes())
