from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

from course_lib import desk
from course_lib.caching.semantic import (
    CalibrationError,
    Pair,
    UnknownHalfError,
    calibrate,
    draw_similarities,
    draw_tradeoff,
    labelled_pairs,
    measured,
    report,
)
from course_lib.caching.semantic.calibration import upper_bound, wilson
from course_lib.paths import ROOT

from .conftest import bag


@pytest.fixture(scope="module")
def rows():
    return measured(labelled_pairs("calibrate"))


# -- intervals ------------------------------------------------------------------------------------------

# From tables of Wilson's interval, 95 %.
KNOWN = ((0, 10, 0.0, 0.2775), (1, 10, 0.0179, 0.4042), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0))
KNOWN += ((0, 0, 0.0, 1.0),)


@pytest.mark.parametrize(("count", "of", "low", "high"), KNOWN)
def test_wilson_s_interval(count, of, low, high):
    assert wilson(count, of) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


# -- the pairs ------------------------------------------------------------------------------------------


def test_there_are_enough_pairs_of_each_label_and_ids_are_unique():
    pairs = labelled_pairs()

    assert len({pair.id for pair in pairs}) == len(pairs) >= 240
    for half in ("calibrate", "test"):
        labels = [pair.label for pair in labelled_pairs(half)]
        assert min(map(labels.count, ("paraphrase", "near-miss", "unrelated"))) >= 40


def test_no_question_stands_in_both_halves_no_pair_twice_and_near_misses_name_what_decides():
    halves = [
        {text for pair in labelled_pairs(half) for text in (pair.asked, pair.cached)}
        for half in ("calibrate", "test")
    ]
    questions = [(pair.asked, pair.cached) for pair in labelled_pairs()]

    assert not halves[0] & halves[1]
    assert len(set(questions)) == len(questions)
    articles = {article.id for article in desk.articles()}
    for pair in labelled_pairs():
        assert pair.article in articles
        assert bool(pair.decisive and pair.kind and pair.form) == (pair.label == "near-miss")


def test_another_half_is_an_error():
    with pytest.raises(UnknownHalfError, match="calibrate and test"):
        labelled_pairs("train")


# -- calibration ----------------------------------------------------------------------------------------


def test_no_threshold_alone_keeps_the_bound(rows):
    with pytest.raises(CalibrationError, match="add guards"):
        calibrate(rows, max_false_share=0.05, is_guarded=False)


def test_no_threshold_alone_separates_the_labels(rows):
    hits = sorted(row.similarity for row in rows if row.pair.is_same)
    misses = [row.similarity for row in rows if row.pair.label == "near-miss"]

    assert max(misses) > hits[-1], "the nearest pair of all is a near-miss"
    assert np.mean([near > hits[len(hits) // 2] for near in misses]) > 0.4


def test_with_guards_the_bound_is_kept_with_confidence_and_not_by_a_lower_threshold(rows):
    chosen = calibrate(rows, max_false_share=0.05)
    nearest_below = max(r.similarity for r in rows if r.similarity < chosen.threshold and not r.refused_by)

    false, broken = chosen.false_hits, report(rows, nearest_below).false_hits

    assert upper_bound(false.count, false.of) <= 0.05 < upper_bound(broken.count, broken.of)
    assert chosen.hits.share >= 0.7
    assert chosen.unrelated_hits.count == 0


def test_the_card_has_the_figures_of_both_halves(rows):
    chosen = calibrate(rows, max_false_share=0.05)
    card = (ROOT / "course_lib/caching/semantic/data/README.md").read_text(encoding="utf-8")

    assert f"threshold {chosen.threshold:.3f}" in card
    for half in (rows, measured(labelled_pairs("test"))):
        for is_guarded in (True, False):
            found = report(half, chosen.threshold, is_guarded=is_guarded)
            for share in (found.hits, found.false_hits):
                interval = f"{100 * share.low:.1f} to {100 * share.high:.1f}"
                assert f"{share.count} of {share.of}: {100 * share.share:.1f} % ({interval})" in card
            assert f"{found.unrelated_hits.count} of {found.unrelated_hits.of}" in card


def test_an_empty_label_cannot_be_calibrated():
    pair = Pair("P-1", "calibrate", "paraphrase", "a", "b", "gift-cards")

    with pytest.raises(CalibrationError, match="one of them is missing"):
        calibrate(measured([pair], lambda texts: np.ones((len(texts), 2))))


def test_a_report_reads_as_lines(rows):
    text = str(report(rows, 0.9, is_guarded=False))

    assert text.startswith("threshold 0.900, without guards\n  paraphrases served: ")


@pytest.mark.parametrize("threshold", [None, 0.6])
def test_both_drawings_can_be_drawn_and_name_what_they_show(threshold):
    few = measured(labelled_pairs("calibrate")[:60], bag)
    with mpl.rc_context({"backend": "agg"}):
        similarities, tradeoff = draw_similarities(few, threshold), draw_tradeoff(few, threshold)
        similarities.canvas.draw()
        tradeoff.canvas.draw()
        mpl.pyplot.close("all")

    titles = [axes.get_title(loc="left") for axes in similarities.axes]
    assert [title.split(":")[0] for title in titles] == ["paraphrase", "near-miss", "unrelated"]
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in tradeoff.axes)
