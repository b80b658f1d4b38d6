from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import combinations

import pytest

from course_lib.labs import chapters, picture
from course_lib.labs.architecture_view import BOXES, UnknownBoxError, architecture, as_list, as_text

SVG = "{http://www.w3.org/2000/svg}"


def _picture(**options):
    return ElementTree.fromstring(picture.draw(BOXES, **options))


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
    assert set(box.notebooks) <= set(chapters.CHAPTERS)
    assert not box.group or box.group in picture.FRAMES


@pytest.mark.parametrize("key", BOXES)
def test_a_box_lies_inside_its_frame_and_inside_the_picture(key):
    x, y, width, height = picture.PLACES[key]
    outer = picture.PLACES[BOXES[key].group] if BOXES[key].group else (0, 0, picture.WIDTH, picture.HEIGHT)

    assert outer[0] <= x < x + width <= outer[0] + outer[2]
    assert outer[1] <= y < y + height <= outer[1] + outer[3]


def test_no_two_boxes_overlap():
    places = [place for key, place in picture.PLACES.items() if key not in picture.FRAMES]
    for a, b in combinations(places, 2):
        is_beside = a.x + a.width <= b.x or b.x + b.width <= a.x
        assert is_beside or a.y + a.height <= b.y or b.y + b.height <= a.y, (a, b)


def test_clickable_boxes_are_labelled_buttons_in_tab_order():
    buttons = [
        group for group in _picture(is_clickable=True).iter(f"{SVG}g") if group.get("role") == "button"
    ]

    assert [button.get("data-key") for button in buttons] == list(BOXES)
    assert all(button.get("tabindex") == "0" and button.get("aria-label") for button in buttons)


@pytest.mark.parametrize("key", ["cache", "gateway"], ids=["a box", "a frame"])
def test_a_highlighted_box_is_outlined_and_named(key):
    svg = picture.draw(BOXES, highlight=key, is_clickable=True)

    assert svg.count("arch-here") == 1
    assert svg.count("this notebook</text>") == 1


def test_an_unknown_box_is_refused_with_the_names_of_all():
    with pytest.raises(UnknownBoxError, match=r"no box 'redis'.*limiter"):
        architecture(highlight="redis")


def test_viewers_without_widgets_get_a_picture_a_list_and_text():
    data, _ = architecture(highlight="cache")._repr_mimebundle_()

    assert set(data) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
    assert data["text/plain"] == as_text("cache")
    assert all(box.name in data["text/plain"] for box in BOXES.values())
    assert "Cache (this notebook)" in data["text/plain"]
    assert 'role="img"' in data["text/html"]
    assert "tabindex" not in data["text/html"]
    assert data["text/html"].endswith(as_list("cache"))


def test_a_notebook_beside_this_one_is_linked_and_a_missing_one_is_not(tmp_path, monkeypatch):
    (tmp_path / "02_caching.ipynb").touch()
    monkeypatch.chdir(tmp_path)

    boxes = architecture().boxes

    assert boxes["cache"]["notebooks"] == [["02 Caching and performance", "02_caching.ipynb"]]
    assert boxes["auth"]["notebooks"] == [["05 Deployment (in preparation)", ""]]
