from __future__ import annotations

import matplotlib as mpl
import pytest

from course_lib.caching.semantic import (
    CalibrationError,
    SemanticCache,
    calibrate,
    draw_similarities,
    draw_tradeoff,
    labelled_pairs,
    measured,
    report,
)
from course_lib.caching.semantic.calibration import Share
from course_lib.paths import ROOT

ALL = [*labelled_pairs("calibrate"), *labelled_pairs("test")]


@pytest.fixture(scope="module")
def rows():
    """One half of the pairs, embedded: about 250 questions, which takes seconds of computing."""
    return measured(labelled_pairs("calibrate"))


# From tables of Wilson's interval, 95 %.
KNOWN = ((0, 10, 0.0, 0.2775), (1, 10, 0.0179, 0.4042), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0))
KNOWN += ((0, 0, 0.0, 1.0),)


@pytest.mark.parametrize(("count", "of", "low", "high"), KNOWN)
def test_wilson_s_interval(count, of, low, high):
    assert Share(count, of).interval() == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_no_question_stands_in_both_halves_and_no_pair_twice():
    halves = [
        {text for pair in labelled_pairs(half) for text in (pair.asked, pair.cached)}
        for half in ("calibrate", "test")
    ]
    questions = [(pair.asked, pair.cached) for pair in ALL]

    assert not halves[0] & halves[1]
    assert len(set(questions)) == len(questions)


def test_with_guards_the_bound_is_kept_with_confidence_and_not_by_a_lower_threshold(rows):
    chosen = calibrate(rows, max_false_share=0.05)
    served = [row.nearest_similarity for row in rows if not row.refused_by and not row.is_right]
    below = max(near for near in served if near < chosen.threshold)

    assert chosen.false_hits.upper_bound() <= 0.05 < report(rows, below).false_hits.upper_bound()
    assert chosen.hits.share >= 0.5


def test_figures_are_those_of_one_cache_that_holds_all_the_questions(rows):
    cache = SemanticCache(threshold=0.6)
    for row in rows:
        cache.put(row.pair.cached, row.pair.cached, tenant="t")
    got = {row.pair.id: cache.get(row.pair.asked, tenant="t") for row in rows}
    right = {(row.pair.asked, row.pair.cached) for row in rows if row.pair.is_same}
    wrong = [row for row in rows if (hit := got[row.pair.id]) and (row.pair.asked, hit.answer) not in right]
    found = report(rows, 0.6)

    assert found.false_hits.count == sum(row.pair.label == "near-miss" for row in wrong) > 2
    assert found.hits.count == sum(row.pair.is_same and got[row.pair.id] is not None for row in rows)


@pytest.mark.parametrize("half", ["calibrate", pytest.param("test", marks=pytest.mark.soak)])
def test_the_card_has_the_figures(rows, half):
    chosen = calibrate(rows, max_false_share=0.05)
    card = (ROOT / "course_lib/caching/semantic/data/README.md").read_text(encoding="utf-8")
    of_half = rows if half == "calibrate" else measured(labelled_pairs(half))

    assert f"threshold {chosen.threshold:.3f}" in card
    for is_guarded in (True, False):
        found = report(of_half, chosen.threshold, is_guarded=is_guarded)
        for share in (found.hits, found.false_hits):
            low, high = share.interval()
            interval = f"{100 * low:.1f} to {100 * high:.1f}"
            assert f"{share.count} of {share.of}: {100 * share.share:.1f} % ({interval})" in card


def test_what_cannot_be_calibrated_is_an_error(rows):
    with pytest.raises(CalibrationError, match="one of them is missing"):
        calibrate([row for row in rows if row.pair.is_same], max_false_share=0.05)
    with pytest.raises(CalibrationError, match="Add pairs, add guards"):
        calibrate(rows, max_false_share=0.01)


def test_both_drawings_name_what_they_show(rows):
    with mpl.rc_context({"backend": "agg"}):
        similarities, tradeoff = draw_similarities(rows, 0.6), draw_tradeoff(rows, 0.6)
        mpl.pyplot.close("all")

    titles = [axes.get_title(loc="left") for axes in similarities.axes]
    assert [title.split(":")[0] for title in titles] == ["paraphrase", "near-miss", "unrelated"]
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in tradeoff.axes)
