from __future__ import annotations

import matplotlib as mpl
import pytest

from course_lib.caching.semantic.calibration import measured
from course_lib.caching.semantic.pairs import labelled_pairs
from course_lib.caching.semantic.plots import draw_similarities, draw_tradeoff

from .conftest import bag


@pytest.fixture
def rows():
    mpl.use("Agg")
    yield measured(labelled_pairs("calibrate")[:60], bag)
    mpl.pyplot.close("all")


@pytest.mark.parametrize("threshold", [None, 0.6])
def test_both_drawings_can_be_drawn_and_name_what_they_show(rows, threshold):
    similarities, tradeoff = draw_similarities(rows, threshold), draw_tradeoff(rows, threshold)

    similarities.canvas.draw()
    tradeoff.canvas.draw()
    titles = [axes.get_title(loc="left") for axes in similarities.axes]
    assert [title.split(":")[0] for title in titles] == ["paraphrase", "near-miss", "unrelated"]
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in tradeoff.axes)
