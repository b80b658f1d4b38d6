from __future__ import annotations

import json

import numpy as np
import pytest

from course_lib.caching.semantic import pairs as pairs_module
from course_lib.caching.semantic.calibration import (
    CalibrationError,
    at_most,
    calibrate,
    clopper_pearson,
    measured,
    report,
    upper_bound,
)
from course_lib.caching.semantic.pairs import Pair, UnknownHalfError, labelled_pairs


@pytest.fixture(scope="module")
def calibrate_rows():
    return measured(labelled_pairs("calibrate"))


@pytest.fixture(scope="module")
def held_out_rows():
    return measured(labelled_pairs("test"))


# From tables of exact binomial intervals, 95 %.
KNOWN = ((0, 10, 0.0, 0.3085), (1, 10, 0.0025, 0.4450), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0))
KNOWN += ((2, 40, 0.0061, 0.1692), (10, 126, 0.0387, 0.1411))


@pytest.mark.parametrize(("count", "of", "low", "high"), KNOWN)
def test_clopper_and_pearson_s_interval(count, of, low, high):
    assert clopper_pearson(count, of) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_nothing_seen_in_nothing_says_nothing():
    assert clopper_pearson(0, 0) == (0.0, 1.0)


def test_the_binomial_s_sum_is_right():
    assert at_most(1, 3, 0.5) == pytest.approx(0.5)
    assert (at_most(0, 5, 0.0), at_most(4, 5, 1.0), at_most(5, 5, 1.0)) == (1.0, 0.0, 1.0)


def test_the_interval_covers_the_true_share_as_often_as_it_says():
    drawn = np.random.default_rng(7).binomial(60, 0.05, size=2000)

    covered = np.mean([low <= 0.05 <= high for low, high in (clopper_pearson(int(k), 60) for k in drawn)])

    assert covered >= 0.95


# -- the pairs ------------------------------------------------------------------------------------------


def test_there_are_enough_pairs_of_each_label_and_ids_are_unique():
    pairs = labelled_pairs()

    assert len({pair.id for pair in pairs}) == len(pairs) >= 240
    for half in ("calibrate", "test"):
        labels = [pair.label for pair in labelled_pairs(half)]
        assert min(map(labels.count, ("paraphrase", "near-miss", "unrelated"))) >= 40


def test_no_question_stands_in_both_halves_and_no_pair_twice():
    halves = [
        {text for pair in labelled_pairs(half) for text in (pair.asked, pair.cached)}
        for half in ("calibrate", "test")
    ]
    asked = [(pair.asked, pair.cached) for pair in labelled_pairs()]

    assert not halves[0] & halves[1]
    assert len(set(asked)) == len(asked)


def test_near_misses_name_what_decides_and_every_pair_an_article():
    from course_lib import desk

    articles = {article.id for article in desk.articles()}

    for pair in labelled_pairs():
        assert pair.article in articles
        assert bool(pair.decisive and pair.kind and pair.form) == (pair.label == "near-miss")


def test_the_file_is_plain_lines_of_json():
    lines = pairs_module._FILE.read_text(encoding="utf-8").splitlines()

    assert [json.loads(line)["id"] for line in lines] == [pair.id for pair in labelled_pairs()]


def test_another_half_is_an_error():
    with pytest.raises(UnknownHalfError, match="calibrate and test"):
        labelled_pairs("train")


# -- calibration ----------------------------------------------------------------------------------------


def test_no_threshold_alone_keeps_the_bound(calibrate_rows):
    with pytest.raises(CalibrationError, match="add guards"):
        calibrate(calibrate_rows, max_false_share=0.05, is_guarded=False)


def test_no_threshold_alone_separates_the_labels(calibrate_rows):
    hits = sorted(row.similarity for row in calibrate_rows if row.pair.is_same)
    misses = [row.similarity for row in calibrate_rows if row.pair.label == "near-miss"]

    assert max(misses) > hits[-1], "the nearest pair of all is a near-miss"
    assert np.mean([near > hits[len(hits) // 2] for near in misses]) > 0.4


def test_with_guards_the_bound_is_kept_with_confidence(calibrate_rows):
    chosen = calibrate(calibrate_rows, max_false_share=0.05)

    false = chosen.report.false_hits
    assert upper_bound(false.count, false.of) <= 0.05
    assert chosen.report.hits.share >= 0.7
    assert chosen.report.unrelated_hits.count == 0


def test_a_lower_threshold_would_have_broken_the_bound(calibrate_rows):
    chosen = calibrate(calibrate_rows, max_false_share=0.05)
    lower = max(r.similarity for r in calibrate_rows if r.similarity < chosen.threshold and not r.refused_by)

    broken = [report(calibrate_rows, near) for near in (lower, chosen.threshold - 0.01)]

    assert any(upper_bound(r.false_hits.count, r.false_hits.of) > 0.05 for r in broken)


def test_the_card_tells_the_figures_of_the_test_half(calibrate_rows, held_out_rows):
    threshold = calibrate(calibrate_rows, max_false_share=0.05).threshold
    card = (pairs_module._FILE.parent / "README.md").read_text(encoding="utf-8")

    for is_guarded in (True, False):
        found = report(held_out_rows, threshold, is_guarded=is_guarded)
        for share in (found.hits, found.false_hits, found.unrelated_hits):
            assert f"{share.count} of {share.of}" in card
    assert f"{threshold:.3f}" in card


def test_an_empty_label_cannot_be_calibrated():
    pair = Pair("P-1", "calibrate", "paraphrase", "a", "b", "gift-cards")

    with pytest.raises(CalibrationError, match="one of them is missing"):
        calibrate(measured([pair], lambda texts: np.ones((len(texts), 2))))


def test_a_report_reads_as_lines(calibrate_rows):
    text = str(report(calibrate_rows, 0.9, is_guarded=False))

    assert text.startswith("threshold 0.900, without guards\n  paraphrases served: ")
