"""What a cascade would cost and get right is known from what both programs answered."""

from __future__ import annotations

import dspy
import matplotlib as mpl
import pytest

from course_lib import desk, lm
from course_lib.caching import ask_both, cascade_at, draw_pareto, each_alone, search_agrees
from course_lib.caching.cascade import Answer, Point, pareto

BILL = "I was charged twice for order O-10012, please refund the double charge."


@pytest.fixture(autouse=True)
def clean():
    with dspy.context(lm=None):
        lm.connect("sim-small", cache=False)
        lm.reset()
        yield


def on(model, **options):
    program = desk.Triage()
    program.set_lm(lm.connect(model, cache=False, **options))
    return program


def test_a_reply_nobody_can_read_scores_nothing_is_not_trusted_and_is_paid_for():
    lm.profile("garbled", missing_field_rate=1.0)
    both, one = (on("sim-small@garbled"), on("sim-large")), desk.examples("train")[:1]

    ((first, _),) = ask_both(*both, one, accepts=lambda *_: 1.0, metric=desk.category_match)

    assert (first.confidence, first.score) == (0.0, 0.0)
    assert first.cost_usd > 0


def test_an_outage_of_the_small_model_is_not_hidden():
    lm.profile("down", error_rate=1.0)
    both, one = (on("sim-small@down", num_retries=0), on("sim-large")), desk.examples("train")[:1]

    with pytest.raises(dspy.LMServerError):
        ask_both(*both, one, accepts=lambda *_: 1.0, metric=desk.category_match)


def test_search_trusts_the_category_of_the_best_article():
    agrees = search_agrees({"ticket": BILL}, dspy.Prediction(category="billing"))
    differs = search_agrees({"ticket": BILL}, dspy.Prediction(category="warranty"))

    assert agrees == 1.0
    assert 0 <= differs < 0.8
    assert search_agrees({"ticket": "???"}, dspy.Prediction(category="billing")) == 0.0


def test_outcomes_cost_what_the_ledger_says_and_foretell_the_cascade():
    examples = desk.examples("train")[:12]
    small, large = on("sim-small"), on("sim-large")

    seen = ask_both(small, large, examples, accepts=search_agrees, metric=desk.category_match)
    paid_usd = lm.ledger().cost_usd
    foretold = cascade_at(seen, 0.6)
    lm.reset()

    def cascade(ticket):
        answer = small(ticket=ticket)
        return answer if search_agrees({"ticket": ticket}, answer) >= 0.6 else large(ticket=ticket)

    right = [desk.category_match(example, cascade(**example.inputs())) for example in examples]

    assert sum(first.cost_usd + second.cost_usd for first, second in seen) == pytest.approx(paid_usd)
    assert foretold.quality_score == pytest.approx(sum(right) / 12)
    assert foretold.cost_usd_per_1000 == pytest.approx(lm.ledger().cost_usd / 12 * 1000)


SEEN = [
    (Answer(small, 0.001, confidence), Answer(large, 0.01, 0.0))
    for confidence, small, large in ((1.0, 1, 1), (0.8, 1, 0), (0.5, 0, 1), (0.0, 0, 0))
]


def test_a_curve_runs_from_the_small_model_alone_to_the_large_one_plus_the_small():
    points = [*each_alone(SEEN), *(cascade_at(SEEN, threshold) for threshold in (0, 0.8, 1.1))]
    won = points[3]

    assert [point.quality_score for point in points] == [0.5, 0.5, 0.5, 0.75, 0.5]
    assert [point.cost_usd_per_1000 for point in points] == pytest.approx([1, 10, 1, 6, 11])
    assert (won.gain_score, won.saved_share, won.gain_error_score) == pytest.approx((0.25, 0.4, 0.25))


def test_the_front_has_no_point_that_another_beats_and_is_drawn():
    measured = [(3, 0.7), (1, 0.5), (2, 0.5), (4, 0.7)]
    points = [Point(f"{cost}", quality, 0.1, cost, 0.0, 0.0, 0.0) for cost, quality in measured]
    with mpl.rc_context({"backend": "agg"}):
        (axes,) = draw_pareto(points, title="All").axes
        mpl.pyplot.close("all")

    assert [point.name for point in pareto(points)] == ["1", "3"]
    assert list(axes.lines[0].get_xdata()) == [1, 3]
    assert axes.get_xlabel() == "dollars per 1,000 answers"
