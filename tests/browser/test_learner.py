"""A learner's half hour, the labs and the watch over a page: in one file, so that one JupyterLab serves all.

Notebook 00 goes from Run All to a passed exercise; labs are used with the keyboard alone, and opened again
without the kernel that ran them, and without their widgets.
"""

from __future__ import annotations

from pathlib import Path

import httpx
import nbformat
import pytest
from nbformat import v4
from playwright.sync_api import expect

from course_lib.authoring import regions
from course_lib.authoring.reading import read
from course_lib.paths import LESSONS
from tests.browser import chromium
from tests.browser.lab import THEMES

pytestmark = pytest.mark.browser

LESSON = read(LESSONS / "00_start_here.py")
(EXERCISE,) = LESSON.cells_of("0.1", "exercise")
(CHECK,) = LESSON.cells_of("0.1", "check")
WRONG = LESSON.cells_of("0.1", "wrong")[0]


def cell_id(name: str) -> str:
    """Return the id of a cell of the lesson, which must have it."""
    return next(cell.id for cell in LESSON.cells if cell.name == name)


def test_a_learner_runs_all_uses_the_map_fails_takes_hints_passes_and_sees_the_board(server, opened, shoot):
    notebook, watch = opened
    row = notebook.output(cell_id("board")).locator("tr", has_text="0.1")

    notebook.open(server.address("00_start_here.ipynb"))
    assert notebook.run_all(), "a cell of the untouched notebook raised"
    expect(notebook.output(CHECK.id)).to_contain_text("0.1 not attempted")
    expect(row).to_contain_text("not attempted")
    shoot(notebook, "1_run_all")

    shown = notebook.output(cell_id("architecture"))
    shown.locator('[data-key="limiter"]').click()
    expect(shown.locator(".arch-told")).to_contain_text("Rate limiter")
    shown.locator('[data-key="router"]').press("Enter")
    expect(shown.locator(".arch-told")).to_contain_text("Router")

    notebook.write(EXERCISE.id, WRONG.source)
    notebook.run(EXERCISE.id)
    notebook.run(CHECK.id)
    expect(notebook.output(CHECK.id)).to_contain_text("0.1 failed")
    expect(notebook.output(CHECK.id).locator(".course-card")).to_contain_text(WRONG.message)
    expect(row).to_contain_text("failed")

    help_cell = cell_id("help-0-1")
    notebook.write(help_cell, 'hint("0.1")')
    notebook.run(help_cell)
    expect(notebook.output(help_cell)).to_contain_text("hint 1 of 3")
    notebook.run(help_cell)
    expect(notebook.output(help_cell)).to_contain_text("hint 2 of 3")
    expect(row).to_contain_text("2 of 3")
    shoot(notebook, "2_failed")

    notebook.write(EXERCISE.id, regions.solved(EXERCISE.source))
    notebook.run(EXERCISE.id)
    notebook.run(CHECK.id)
    expect(notebook.output(CHECK.id)).to_contain_text("0.1 passed")
    expect(row).to_contain_text("passed")
    notebook.write(help_cell, 'solution("0.1")')
    notebook.run(help_cell)
    expect(notebook.output(help_cell)).to_contain_text("Ours")
    shoot(notebook, "3_passed")

    notebook.restart()
    notebook.run(cell_id("board"))
    expect(row).to_contain_text("passed")
    assert watch.problems() == []


def test_a_journal_that_comes_and_goes_is_not_listed(server):
    (server.folder / "progress.sqlite3-journal").touch()
    with httpx.Client(params={"token": server.token}) as client:
        listed = client.get(f"{server.url}/api/contents").json()["content"]

    names = [each["name"] for each in listed]
    assert "00_start_here.ipynb" in names
    assert "progress.sqlite3-journal" not in names


IS_SAVED = """async () => {
  const context = window.jupyterapp.shell.currentWidget.context;
  await context.save();
  const saved = JSON.stringify(context.model.getMetadata('widgets') ?? {});
  const widgets = [...context.model.cells].flatMap(cell => cell.outputs ? cell.outputs.toJSON() : [])
    .map(output => output.data?.['application/vnd.jupyter.widget-view+json']?.model_id).filter(id => id);
  return widgets.length > 0 && widgets.every(id => saved.includes(id));
}"""
SHUT_DOWN = "() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()"
SHOWN = {
    "board": "exercises passed",
    "architecture": "Choose a box",
    "self_test": "What does this print?",
    "cache_explorer": "Done: prediction and measurement differ by",
    "wind_tunnel": "Choose, then press Measure.",
    "streaming_race": "Done: both sides have ended.",
}
MEASURED = "Measured: latency 50 ms, limit 40 per s"
PLOTS = {
    "cache_explorer": "(40% of all answers)",
    "wind_tunnel": "4 at once: ",
    "streaming_race": "When text came, on each side.",
}
"""Words of the alternative texts, with what was chosen and measured."""


def use_with_the_keyboard_alone(notebook):
    explorer = notebook.output("cache_explorer")
    explorer.get_by_role("button", name="1 min", exact=True).focus()
    notebook.page.keyboard.press("Shift+Tab")
    notebook.page.keyboard.press("Enter")
    expect(explorer).to_contain_text("TTL 10 s")

    explorer.get_by_role("button", name="40%", exact=True).press("Enter")
    expect(explorer).to_contain_text("(40% of all answers)")
    expect(explorer.get_by_role("img", name="(40% of all answers)")).to_have_count(1)

    tunnel = notebook.output("wind_tunnel")
    tunnel.get_by_role("button", name="50 ms", exact=True).press("Enter")
    expect(tunnel).to_contain_text("The limit is reached with 2 calls at once.")
    tunnel.get_by_role("button", name="Measure", exact=True).press("Enter")
    expect(tunnel).to_contain_text("Done:", timeout=30_000)
    expect(tunnel).to_contain_text(MEASURED)
    race = notebook.output("streaming_race")
    race.get_by_role("button", name="the composer", exact=True).press("Enter")
    race.get_by_role("button", name="120", exact=True).press("Enter")
    race.get_by_role("button", name="Race", exact=True).press("Enter")
    expect(race).to_contain_text("Asking on both sides")
    expect(race.get_by_role("region", name="streamed")).to_contain_text("I don't know")
    expect(race).to_contain_text("Done: both sides have ended.")
    expect(race.get_by_role("img", name="When text came, on each side.")).to_have_count(1)


def without_widgets(file: Path) -> None:
    """Write a notebook without the state of its widgets, which JupyterLab then does not trust."""
    notebook = nbformat.read(file, as_version=4)
    del notebook.metadata["widgets"]
    nbformat.write(notebook, file)


def expect_results_in_the_dark(notebook):
    notebook.choose_theme(THEMES["dark"])
    for name, alt in PLOTS.items():
        plot = notebook.output(name).get_by_role("img", name=alt)
        expect(plot).to_have_count(1)
        expect(plot).to_have_css("filter", "invert(0.93) hue-rotate(180deg)")


# A page and a kernel for all: each costs some seconds.
def test_labs_are_used_with_the_keyboard_alone_and_all_stand_without_their_kernel(
    write, opened, server, shoot
):
    notebook, watch = opened
    cells = [v4.new_code_cell(f"from course_lib.labs import {name}\n{name}()", id=name) for name in SHOWN]
    address = write("reopened", *cells)
    notebook.open(address)
    assert notebook.run_all()
    for name, words in SHOWN.items():
        expect(notebook.output(name)).to_contain_text(words)

    use_with_the_keyboard_alone(notebook)
    shoot(notebook, "explorer")
    assert watch.problems() == []

    notebook.page.wait_for_function(IS_SAVED)  # the widgets' state too, which comes when it comes
    notebook.page.evaluate(SHUT_DOWN)
    notebook.page.goto("about:blank")
    notebook.open(address)

    for name, words in SHOWN.items() - {("wind_tunnel", SHOWN["wind_tunnel"])}:
        expect(notebook.output(name)).to_contain_text(words)
    expect(notebook.output("wind_tunnel").get_by_text(MEASURED).locator("visible=true")).to_have_count(1)
    expect(notebook.page.get_by_text("Error displaying widget")).to_have_count(0)
    notebook.output("architecture").locator('[data-key="limiter"]').click()
    expect(notebook.output("architecture").locator(".arch-told")).to_contain_text("Rate limiter")
    expect_results_in_the_dark(notebook)
    shoot(notebook, "reopened")

    notebook.page.goto("about:blank")
    without_widgets(server.folder / "reopened.ipynb")
    notebook.open(address)

    expect(notebook.output("wind_tunnel").get_by_text(MEASURED)).to_be_visible()
    expect(notebook.output("streaming_race").get_by_role("img", name=PLOTS["streaming_race"])).to_be_visible()
    notebook.trust()  # before, JupyterLab shows no <style>, so that plots stay light
    expect_results_in_the_dark(notebook)
    shoot(notebook, "without_widgets")


HOME = "http://127.0.0.1:8888"
BAD = '<img src="http://127.0.0.1:9/x.png"><script>console.error("told"); throw new Error("boom")</script>'
OURS = '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="><p>ours</p>'


def test_a_watched_page_tells_of_errors_and_of_requests_to_others_and_lets_ours_through(browser):
    with chromium.page(browser, HOME) as (page, watch):
        page.set_content(OURS)
        page.wait_for_timeout(200)
        assert watch.problems() == []

        page.set_content(BAD)
        page.wait_for_timeout(200)
        problems = "\n".join(watch.problems())

    for expected in ("request to http://127.0.0.1:9/x.png", "page error: boom", "console: told"):
        assert expected in problems
