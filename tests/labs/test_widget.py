"""What stands in a notebook for a lab: the widget, and its result for where no widget runs."""

from __future__ import annotations

import pytest

from course_lib.labs import widget
from course_lib.labs.reading import Rendered
from course_lib.labs.widget import Lab

VIEW = "application/vnd.jupyter.widget-view+json"


class Page:
    """Keeps the outputs of a cell, as a notebook does."""

    def __init__(self) -> None:
        self.outputs: list[object] = []

    def display(self, what: object, **_: object) -> Page:
        self.outputs.append(what)
        return self

    def update(self, what: object) -> None:
        self.outputs[-1] = what


@pytest.fixture
def page(monkeypatch) -> Page:
    page = Page()
    monkeypatch.setattr(widget, "display", page.display)
    return page


def test_the_result_is_an_output_of_its_own_and_follows_what_the_widget_shows(page):
    lab = Lab("Choose & see.", [])
    lab.show(Rendered("<b>first</b>", "first"))
    assert page.outputs == [], "nothing before it is a cell's last value"

    lab._ipython_display_()
    view, first = page.outputs
    lab.show(Rendered("<b>second</b>", "second"))
    same_view, second = page.outputs

    assert view is same_view, "or the button that was pressed would lose the focus"
    assert view[VIEW]["model_id"] == lab.model_id
    assert (view["text/plain"], "Choose &amp; see." in view["text/html"]) == ("Choose & see.", True)
    assert "<b>first</b>" in first.html
    assert "<b>second</b>" in second.html
    assert second.text == "second"


def test_where_the_widget_is_seen_the_second_output_is_hidden(page):
    lab = Lab("Choose.", [])
    lab._ipython_display_()

    (live,) = lab._dom_classes
    assert f":has(.{live}) .jp-OutputArea-child:has(.{live}-result){{display:none}}" in page.outputs[1].html
