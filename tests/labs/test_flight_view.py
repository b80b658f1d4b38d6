"""The flight in the notebook: what is told while it flies, and what stands there at the end."""

from __future__ import annotations

import asyncio

import pytest

from course_lib.flight import Parts, ScriptError, Tick, keep, kept
from course_lib.labs import flight_lab, scorecard
from tests.flight.flown import flown

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("work")]


def test_a_scorecard_is_read_as_html_and_as_text():
    shown = scorecard(flown())

    assert "give the &lt;model&gt; a fallback" in shown.html
    assert shown.html.count("<table") == 5
    assert 'role="img"' in shown.html
    assert "1 of 3 does not hold: availability." in shown.text


def test_a_lab_says_what_there_is_to_press_and_refuses_scenes_that_there_are_not():
    lab = flight_lab()

    assert "Press Start" in lab._status.value
    assert "Nothing has been flown yet." in lab.rendered.text
    with pytest.raises(ScriptError):
        flight_lab(only=["no such scene"])


def test_what_flies_is_told_in_words():
    lab = flight_lab(only=["outage"])

    lab._ticked(Tick(6.2, "outage", flown().seen[:9]))
    live = lab._live()

    assert live.text.startswith("After 6 s: 6 answered, 2 cached, 1 degraded. Since 4 s, outage: ")
    assert f'aria-label="{live.text}"' in live.html


async def test_a_flight_is_drawn_and_its_scorecard_stands_at_the_end():
    """Starts servers, and flies fourteen seconds."""
    lab, shown = flight_lab(only=["outage"], gates=lambda: flown().gates), list[str]()
    lab._out.observe(lambda change: shown.append(lab.rendered.text), "value")

    told = await lab.run()

    assert told is not None
    assert kept() is not None
    assert lab.flown == told
    assert any(each.startswith("After ") for each in shown)
    assert lab.rendered.text == scorecard(told).text
    assert "coverage  at least 90 %" in lab.rendered.text
    assert "service levels" in lab._status.value or "not hold" in lab._status.value
    assert lab.button.description == "Start"


def test_the_last_flight_stands_there_again():
    keep(flown())
    lab = flight_lab()

    assert lab.flown == flown()
    assert lab.rendered.text == scorecard(flown()).text


async def test_a_part_that_cannot_be_made_is_named_and_the_last_flight_is_kept():
    """Starts servers."""
    keep(flown())

    def runner(_: object) -> None:
        raise LookupError("no places")

    lab = flight_lab(Parts(runner=runner), only=["outage"])

    assert await lab.run() is None
    assert "the part runner could not be made: LookupError: no places" in lab._status.value
    assert lab.flown == flown()
    assert lab.button.description == "Start"


async def test_a_flight_can_be_stopped_and_another_lab_ends_it():
    first = flight_lab(only=["outage"])
    first.button.click()
    assert first.button.description == "Start", "it begins with the loop's next turn"
    async with asyncio.timeout(60):
        while not first._tick.seen:  # noqa: ASYNC110  (the lab tells no event of it)
            await asyncio.sleep(0.05)

    flight_lab()
    await first.flight

    assert first.flown is None
    assert "Ended before its time" in first._status.value
    assert not first.is_flying


async def test_a_flight_that_is_stopped_at_once_does_not_begin():
    lab = flight_lab(only=["outage"])
    lab.begin()
    await asyncio.sleep(0)
    lab.button.click()

    await lab.flight

    assert lab.flown is None
    assert "Ended before its time" in lab._status.value
