import pytest

from course_lib.labs import streaming_race as lab_of
from course_lib.labs.streaming_race_view import QUESTIONS, Lane, run, show

QUESTION = QUESTIONS["washing down"]


@pytest.fixture(scope="module")
def raced():
    """A race, and what was shown while it ran."""
    seen = []
    lanes = run(QUESTION, speed=400, wait_ms=20, changed=lambda lanes: seen.append(show(lanes).text))
    return lanes, seen


def test_both_sides_end_with_the_same_text_and_the_stream_shows_it_in_pieces(raced):
    (whole, streamed), _ = raced

    assert whole.text == streamed.text
    assert len(whole.came_s) == 1
    assert len(streamed.came_s) > 20
    assert streamed.came_s == sorted(streamed.came_s)
    assert streamed.came_s[-1] <= streamed.end_s


def test_it_is_shown_while_it_is_written(raced):
    _, seen = raced

    assert "whole: waiting …\n" in seen[0]
    assert "streamed: waiting …" in seen[0]
    assert len(set(seen)) > 20
    assert any("streamed: first text after" in text and ", end after" not in text for text in seen)


def test_the_end_has_a_drawing_with_an_alternative_text_and_a_sentence(raced):
    lanes, _ = raced
    shown = show(lanes)

    assert 'alt="When text came, on each side. The first words came' in shown.html
    assert "times sooner as a stream" in shown.text
    assert "the model still writes the citations" in shown.text, "the end comes after the last piece"


def test_text_of_a_model_is_shown_as_text():
    assert "&lt;img" in show((Lane("whole", [1.0], "<img src=x>"), Lane("streamed"))).html


def test_the_button_races_with_what_is_chosen_and_says_what_came_of_it():
    lab = lab_of()
    before = lab._out.value
    lab.speed.value, lab.wait.value, lab.question.value = 120, 50, QUESTIONS["the composer"]
    lab.button.click()

    assert lab._out.value != before
    assert "I don&#x27;t know" in lab._out.value
    assert "Done: both sides have ended." in lab._status.value
    assert not lab.button.disabled
    assert "times sooner" in lab.rendered.text
