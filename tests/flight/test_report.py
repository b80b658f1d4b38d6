"""The scorecard and the certificate say what was flown, as a page and as text."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from pydantic import TypeAdapter

from course_lib.flight import Flown, keep, kept, report
from course_lib.flight.script import plan
from tests.flight.flown import flown


def whole(*, holds: bool) -> Flown:
    return replace(flown(holds=holds), scenes=list(plan(7).scenes))


class Page(HTMLParser):
    """The words of a page and the tags in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words, self.tags = list[str](), list[str]()
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize(
    "shown", [lambda it: Page(report.as_html(it)).text, report.as_text], ids=["page", "text"]
)
def test_a_scorecard_says_what_held_what_each_scene_took_and_what_to_improve(shown):
    text = " ".join(shown(flown()).split())

    assert "1 of 3 does not hold: availability." in text
    assert "availability at least 97 % 70 % does not hold" in text
    assert "privacy no leak none holds" in text
    assert "availability: give the <model> a fallback" in text
    assert "outage 4 to 8 The <main> model does not answer. 3 degraded, 5 failed" in text
    assert "1 lost" in text
    assert re.search(r"outage 30\b", text), "what the scene took from the level"
    assert "availability, percentage points" in text
    assert "coverage at least 90 % 98 % holds" in text
    assert "cache MyCache" in text
    assert "Seed 7" in text


def test_a_flight_that_holds_says_so():
    assert report.verdict(flown(holds=True)) == "All 2 service levels hold, and all 1 quality gates."
    assert "Nothing: every level holds." in report.as_text(flown(holds=True))


def test_a_page_asks_for_nothing_from_elsewhere_and_has_both_themes():
    for page in (report.as_html(flown()), report.certificate(flown())):
        assert not {"script", "link", "img", "iframe"} & set(Page(page).tags)
        assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
        assert "prefers-color-scheme: dark" in page
        assert "@media print" in page


def test_the_drawing_has_a_line_for_each_outcome_and_a_band_for_each_fault():
    svg = report.timeline(flown())

    assert all(f">{name}<" in svg for name in ("answered", "degraded", "failed", "p99", "outage"))
    assert ">calm<" not in svg
    assert ">refused<" not in svg, "there was none"
    assert "nan" not in svg


def test_a_certificate_names_only_whom_it_was_given():
    passed = ["0.1", "6.2.3"]
    text = Page(report.certificate(whole(holds=True), exercises=passed, name="<b>Ada</b>")).text
    nameless = report.certificate(whole(holds=False), exercises=[])

    assert "Flight passed <b>Ada</b> 2 of 2 service levels held" in text
    assert "2 exercises passed: 0.1, 6.2.3." in text
    assert "Seed 7; 2026-01-02" in text
    assert 'class="name"' not in nameless
    assert "Flight flown" in nameless, "not every level held"


def test_a_certificate_of_some_scenes_says_so():
    text = Page(report.certificate(flown(holds=True))).text

    assert "Some scenes flown" in text
    assert "Of 9 scenes only: calm, outage." in text


def test_the_last_flight_is_kept_and_one_that_cannot_be_read_is_none(work):
    assert kept() is None

    keep(flown())
    assert kept() == flown()

    (work / "last_flight.json").write_text("{")
    assert kept() is None


def test_what_is_written_as_json_can_be_read_again():
    assert TypeAdapter(Flown).validate_json(report.as_json(flown())) == flown()


def test_what_is_no_number_is_left_out_of_the_json():
    made = flown()
    made.levels[0].by_scene["calm"] = math.nan

    assert TypeAdapter(Flown).validate_json(report.as_json(made)) == flown()


def test_a_flight_is_told_scene_by_scene():
    said = list[str]()
    telling, tick = (
        report.Telling(said.append),
        type("Tick", (), {"at_s": 4.2, "scene": "outage", "seen": []}),
    )

    telling(tick)
    telling(tick)

    assert said == ["  4 s  outage; so far none"]
