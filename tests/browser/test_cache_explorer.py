"""The cache explorer in JupyterLab: chosen with the keyboard alone, it draws anew and says so."""

from __future__ import annotations

import json
import urllib.request

import nbformat
import pytest
from playwright.sync_api import expect

from course_lib.authoring import kernel
from tests.browser.lab import Lab

pytestmark = pytest.mark.browser

NAME = "explorer.ipynb"
CELL = "explorer"


def put_notebook(server: Lab) -> str:
    """Give the server a notebook with the lab in it; returns its address."""
    cell = nbformat.v4.new_code_cell("from course_lib.labs import cache_explorer\ncache_explorer()", id=CELL)
    spec = {"name": kernel.NAME, "display_name": "Advanced DSPy", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": spec})
    request = urllib.request.Request(
        f"{server.url}/api/contents/{NAME}",
        json.dumps({"type": "notebook", "content": notebook}).encode(),
        {"Authorization": f"token {server.token}", "Content-Type": "application/json"},
        method="PUT",
    )
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20).close()
    return server.address(NAME)


def test_the_explorer_is_used_with_the_keyboard_alone(server, opened, shots):
    notebook, watch = opened
    notebook.open(put_notebook(server))
    notebook.run(CELL)
    output = notebook.output(CELL)
    expect(output).to_contain_text("Done: prediction and measurement differ by")

    output.get_by_role("button", name="1 min", exact=True).focus()
    notebook.page.keyboard.press("Shift+Tab")
    notebook.page.keyboard.press("Enter")
    expect(output).to_contain_text("TTL 10 s")

    output.get_by_role("button", name="40%", exact=True).press("Enter")
    expect(output).to_contain_text("(40% of all answers)")
    expect(output.locator("svg polyline")).to_have_count(1)

    notebook.shoot(shots, "explorer")
    assert watch.problems() == []
