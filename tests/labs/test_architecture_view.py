from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from course_lib.errors import CourseError
from course_lib.labs import architecture_view as picture
from course_lib.labs import chapters
from course_lib.labs.architecture_view import BOXES, architecture, draw

SVG = "{http://www.w3.org/2000/svg}"


def test_every_part_of_the_syllabus_has_a_box_and_a_place():
    asked = "balancer gateway router auth limiter application modules optimizer services cache queue database"
    asked += " model observability metrics traces logs"

    assert set(asked.split()) <= set(BOXES)
    assert set(picture.PLACES) == set(BOXES)
    assert {number for box in BOXES.values() for number in box.notebooks} == set(chapters.CHAPTERS)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_a_box_says_all_that_is_asked_of_it(box):
    assert box.does.endswith(".")
    assert box.asks.endswith("?")
    assert box.without.endswith(".")
    assert box.notebooks
    assert not box.group or box.group in picture.FRAMES


def test_boxes_are_labelled_buttons_in_tab_order():
    drawn = ElementTree.fromstring(draw())
    buttons = [group for group in drawn.iter(f"{SVG}g") if group.get("role") == "button"]

    assert [button.get("data-key") for button in buttons] == list(BOXES)
    assert all(button.get("tabindex") == "0" and button.get("aria-label") for button in buttons)


@pytest.mark.parametrize("key", ["cache", "gateway"], ids=["a box", "a frame"])
def test_a_highlighted_box_is_outlined_named_and_told_from_the_start(key):
    svg = draw(key)

    assert (svg.count("arch-here"), svg.count("this notebook</text>")) == (1, 1)
    assert (
        architecture(highlight=key).html.count(f"{BOXES[key].name} (this notebook)") == 2
    )  # and in the list


def test_an_unknown_box_is_refused_with_the_names_of_all():
    with pytest.raises(CourseError, match=r"no box 'redis'.*limiter"):
        architecture(highlight="redis")


def test_it_stands_without_a_kernel_and_where_no_script_may_run_the_list_is_open():
    shown = architecture()

    assert not hasattr(shown, "_repr_mimebundle_"), "no widget"
    assert "<details open>" in shown.html
    assert all(shown.html.count(f'data-of="{key}"') == 1 for key in BOXES)
    assert all(f"- {box.name}: {box.does}" in repr(shown) for box in BOXES.values())


def test_a_notebook_beside_this_one_is_linked(tmp_path, monkeypatch):
    (tmp_path / "02_caching.ipynb").touch()
    monkeypatch.chdir(tmp_path)

    html = architecture().html

    assert '<a href="02_caching.ipynb">02 Caching and performance</a>' in html
    assert '"05_deployment.ipynb"' not in html
    assert chapters.label("02") == "02 Caching and performance"
    assert "06 The flight test" in html
