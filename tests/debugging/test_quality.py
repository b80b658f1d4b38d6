"""Where quality is lost: by step, by label, and by what an optimizer changed."""

from __future__ import annotations

import re

import dspy
import pytest

from course_lib import desk, lm
from course_lib.debugging import OptimizerLog, confusion, error_analysis
from course_lib.errors import CourseError

ROWS = [
    ("a", {"found": True, "label": "a", "cited": True}),
    ("a", {"found": False, "label": "b", "cited": False}),
    ("b", {"found": True, "label": "a", "cited": False}),
    ("b", {"found": True, "label": "b", "cited": False}),
    ("c", {"found": True}),
]
PAIRS = [(dspy.Example(label=true), dspy.Prediction(**fields)) for true, fields in ROWS]
STEPS = {
    "find": lambda example, pred: pred.found,
    "label": lambda example, pred: None if example.label == "c" else pred.label == example.label,
    "cite": lambda example, pred: pred.get("cited"),
}


def test_each_example_counts_for_the_first_step_that_went_wrong_in_it() -> None:
    analysis = error_analysis(PAIRS, STEPS)

    assert {step: len(lost) for step, lost in analysis.first_wrong.items()} == {
        "find": 1,
        "label": 1,
        "cite": 1,
    }
    assert analysis.first_wrong["label"] == (PAIRS[2],)
    assert analysis.reached == {"find": 5, "label": 3, "cite": 2}
    assert "2 of 5 examples are right in every step" in repr(analysis)
    with pytest.raises(CourseError, match="at least one step"):
        error_analysis(PAIRS, {})


def test_the_confusion_matrix_counts_each_label_for_each_other_one() -> None:
    matrix = confusion(PAIRS, "label", labels=["b", "a"])

    assert matrix.labels == ("b", "a", "c", "(none)")
    assert matrix.counts == ((1, 1, 0, 0), (1, 1, 0, 0), (0, 0, 0, 1), (0, 0, 0, 0))
    assert (matrix.total, matrix.accuracy) == (5, 0.4)
    assert "40% of 5 right" in repr(matrix)


def test_both_read_what_evaluate_returns() -> None:
    evaluate = dspy.Evaluate(devset=desk.examples("dev"), metric=desk.category_match, display_progress=False)
    with dspy.context(lm=lm.connect("sim-small")):
        result = evaluate(desk.Triage())

    matrix = confusion(result, "category", labels=desk.CATEGORIES)
    analysis = error_analysis(result, {"category": desk.category_match})

    assert matrix.total == analysis.examples == 30
    assert round(100 * matrix.accuracy, 1) == pytest.approx(result.score, abs=0.1)
    assert len(analysis.first_wrong["category"]) == 30 - round(result.score * 0.3)


# -- optimizers ------------------------------------------------------------------------------------------

TRAIN, DEV = desk.examples("train")[:12], desk.examples("dev")[:10]


def feedback(gold, pred, trace=None, pred_name=None, pred_trace=None):
    score = float(gold.category == pred.category)
    return dspy.Prediction(score=score, feedback="right" if score else f"this is {gold.category}")


def propose(candidate, reflective_dataset, components_to_update):
    """Propose what a model might: what the categories mean."""
    words = "Sort the ticket. billing: money, payments, refunds. shipping: parcels, delivery, tracking."
    return dict.fromkeys(components_to_update, f"{words} ({len(candidate[components_to_update[0]])})")


@pytest.fixture
def gepa() -> tuple[OptimizerLog, dspy.Module]:
    optimizer = dspy.GEPA(
        metric=feedback,
        max_metric_calls=70,
        reflection_lm=lm.connect("sim-large"),
        instruction_proposer=propose,
        track_stats=True,
        use_merge=False,
    )
    with dspy.context(lm=lm.connect("sim-small")), OptimizerLog() as log:
        return log, optimizer.compile(desk.Triage(), trainset=TRAIN, valset=DEV)


def test_of_gepa_the_log_has_each_candidate_with_parent_instructions_and_scores(gepa) -> None:
    log, best = gepa
    details = best.detailed_results

    assert log.optimizer == "GEPA"
    assert log.candidates[0].parents == ()
    assert log.candidates[0].instructions == {"sort": desk.Triage().sort.signature.instructions}
    assert len(log.candidates) > 1
    # GEPA may write an instruction twice; the log has it once.
    tried = zip(details.candidates, details.val_aggregate_scores, strict=True)
    told = {program.sort.signature.instructions: score for program, score in tried}
    assert {one.instructions["sort"]: one.score for one in log.candidates} == pytest.approx(told)
    assert all(set(one.scores) == {example.id for example in DEV} for one in log.candidates)
    assert log.candidates[1].parents == (0,)
    assert log.best.score == max(details.val_aggregate_scores)


def test_the_difference_of_two_candidates_is_shown_by_line_and_by_example(gepa) -> None:
    log, _ = gepa
    first, second = log.candidates[:2]

    won, lost = log.won_lost(0, 1)

    assert all(second.scores[each] > first.scores[each] for each in won)
    assert len(won) - len(lost) == round(sum(second.scores.values()) - sum(first.scores.values()))
    assert "- Sort a support ticket of Lantern" in log.diff(0, 1)
    assert "+ Sort the ticket. billing: money" in log.diff(0, 1)
    assert log.diff(1, 1) == "The instructions are alike."
    lineage = log.lineage()
    assert lineage.boxes[1] == (
        f"1: {second.score:.0%}{', best' * (log.best is second)}",
        f"{len(won)} won, {len(lost)} lost",
    )
    assert lineage.arrows[0] == (0, 1)
    assert (lineage.title, lineage.text) == ("What GEPA tried", repr(log))


def test_of_mipro_the_log_has_what_each_evaluation_said_and_a_bar_counts_the_answers(capfd) -> None:
    prompt_model = lm.connect("sim-large", temperature=1.0)
    with dspy.context(lm=lm.connect("sim-small")), OptimizerLog(answers=40) as log:
        optimizer = dspy.MIPROv2(
            metric=desk.category_match, auto=None, num_candidates=2, prompt_model=prompt_model
        )
        best = optimizer.compile(desk.Triage(), trainset=TRAIN, valset=DEV, num_trials=3, minibatch=False)

    tried = sorted(round(each["score"], 2) for each in best.candidate_programs)
    assert log.optimizer == "MIPROv2"
    assert {round(100 * each.score, 2) for each in log.candidates} == set(tried)
    assert all(each.parents == (0,) for each in log.candidates[1:])
    assert 100 * log.best.score == pytest.approx(max(tried))
    assert all(set(each.scores) == {example.id for example in DEV} for each in log.candidates)
    assert re.search(r"answers judged:.* [1-4]0/40", capfd.readouterr().err)


def test_what_is_evaluated_outside_of_an_optimizer_is_no_candidate() -> None:
    evaluate = dspy.Evaluate(devset=DEV, metric=desk.category_match, display_progress=False)
    with dspy.context(lm=lm.connect("sim-small")), OptimizerLog() as log:
        evaluate(desk.Triage())

    assert log.candidates == []
    with pytest.raises(CourseError, match="no optimizer has tried anything"):
        _ = log.best
