"""A cascade keeps what it trusts, pays for what it asks, and what it would do is known from its outcomes."""

from __future__ import annotations

import asyncio

import dspy
import matplotlib as mpl
import pytest

from course_lib import desk, lm
from course_lib.caching import Cascade, ask_both, cascade_at, draw_pareto, each_alone, search_agrees
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


def models_called():
    return [call.model for call in lm.ledger().calls]


@pytest.mark.parametrize(
    ("trust", "models", "by"), [(1, ["sim-small"], "small"), (0.4, ["sim-small", "sim-large"], "large")]
)
def test_what_is_trusted_enough_is_not_asked_again(trust, models, by):
    def accepts(inputs, first):
        assert inputs == {"ticket": BILL}
        assert first.category in desk.CATEGORIES
        return trust

    answer = Cascade(on("sim-small"), on("sim-large"), accepts=accepts, threshold=0.5)(ticket=BILL)

    assert models_called() == models
    assert (answer.answered_by, answer.confidence) == (by, trust)


def test_a_reply_nobody_can_read_goes_to_the_large_model_scores_nothing_and_is_paid_for():
    lm.profile("garbled", missing_field_rate=1.0)
    small, large = on("sim-small@garbled"), on("sim-large")
    cascade = Cascade(small, large, accepts=lambda *_: True, threshold=0.0)

    answer = asyncio.run(dspy.asyncify(cascade)(ticket=BILL))
    one = desk.examples("train")[:1]
    ((first, _),) = ask_both(small, large, one, accepts=lambda *_: 1.0, metric=desk.category_match)

    assert (answer.answered_by, answer.confidence) == ("large", 0.0)
    assert (first.confidence, first.score) == (0.0, 0.0)
    assert first.cost_usd > 0


def test_an_outage_of_the_small_model_is_not_hidden():
    lm.profile("down", error_rate=1.0)
    small = on("sim-small@down", num_retries=0)
    cascade = Cascade(small, on("sim-large"), accepts=lambda *_: True, threshold=1.0)

    with pytest.raises(dspy.LMServerError):
        cascade(ticket=BILL)


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
    cascade = Cascade(small, large, accepts=search_agrees, threshold=0.6)
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
