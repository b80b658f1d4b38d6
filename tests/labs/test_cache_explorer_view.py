import pytest

from course_lib.labs.cache_explorer_view import SHARES, cache_explorer, explore, show


@pytest.fixture(scope="module")
def lab():
    return cache_explorer()


@pytest.mark.parametrize("setting", [(0.6, 300, "none", 1), (1.2, 1000, "10 s", 100), (1.0, 300, "1 min", 1)])
def test_prediction_and_measurement_agree(setting):
    explored = explore(*setting)

    assert [point.share for point in explored.points] == list(SHARES)
    for point in explored.points:
        assert point.measured_share == pytest.approx(point.predicted_share, abs=0.03)


def test_money_saved_is_hits_times_the_price_of_a_call():
    explored = explore()

    assert explored.usd_per_day(0.5) == pytest.approx(0.5 * 10 * 86_400 * 0.00255)
    assert f"${explored.usd_per_day(explored.at(1.0).measured_share):,.0f}" in show(explored).text


def test_the_plot_has_an_alternative_text_and_no_two_dollar_signs_which_a_notebook_would_typeset():
    shown = show(explore(), 0.4)

    assert 'alt="Predicted and measured hit rate over the size of the cache. A cache of' in shown.html
    assert "40% of all answers" in shown.text
    assert shown.html.split("<table")[0].count("$") == 0


def test_every_choice_redraws_and_says_what_came_of_it_and_a_size_needs_no_new_measurement(lab):
    before = lab._out.value
    lab.ttl.value = "10 s"
    redrawn, known = lab._out.value, explore.cache_info().misses
    lab.share.value = 0.4

    assert redrawn != before
    assert "TTL 10 s" in redrawn
    assert "Done: prediction and measurement differ by" in lab._status.value
    assert 'role="status"' in lab._status.value
    assert explore.cache_info().misses == known
    assert "40% of all answers" in lab.rendered.text


def test_the_plot_and_the_figures_are_told_as_text_too(lab):
    assert "<img" in lab.rendered.html
    assert "predicted" in lab.rendered.text
    assert "Hit rate: skew 0.8, 1,000 answers, TTL 10 min, 10 requests/s" in show(explore()).text
