"""A learner's JupyterLab in headless Chromium, or a clear reason why not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import v4
from playwright.sync_api import Browser

from course_lib.authoring import kernel
from course_lib.copies import work as learner
from tests.browser import chromium
from tests.browser.chromium import Watch
from tests.browser.lab import Lab, lab
from tests.browser.notebook import Notebook

REMEDY = f"install one of {', '.join(chromium.NAMES)} (on Debian: apt install chromium)"


@pytest.fixture(scope="session", autouse=True)
def _browser() -> None:
    if chromium.find() is not None:
        return
    if chromium.is_required():
        pytest.fail(f"COURSE_REQUIRE_BROWSER=1, but no browser was found; {REMEDY}")
    pytest.skip(f"no browser was found; {REMEDY}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab on a learner's copies of the notebooks, as `make lab` leaves it."""
    work, state = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_WORK", str(work))
        kernel.install()
        learner.make_copies()
    with lab(work, state) as running:
        yield running


@pytest.fixture(
    scope="package"
)  # no longer: while it is open, Playwright keeps this thread's event loop running
def browser() -> Iterator[Browser]:
    """One browser for many tests: each has a page in a context of its own."""
    with chromium.launched() as running:
        yield running


@pytest.fixture
def opened(server: Lab, browser: Browser) -> Iterator[tuple[Notebook, Watch]]:
    """A notebook's page, still empty, and what watches over it."""
    with chromium.page(browser, server.url) as (page, watch):
        yield Notebook(page), watch


@pytest.fixture(scope="session")
def write(server: Lab) -> Callable[..., str]:
    """Make a notebook of some cells on the server, with the course's kernel, and return its address."""

    def written(name: str, *cells: object) -> str:
        spec = {"name": kernel.NAME, "display_name": kernel.DISPLAY_NAME, "language": "python"}
        notebook = v4.new_notebook(cells=list(cells), metadata={"kernelspec": spec})
        nbformat.write(notebook, server.folder / f"{name}.ipynb")
        return server.address(f"{name}.ipynb")

    return written


@pytest.fixture
def shoot(request: pytest.FixtureRequest) -> Callable[[Notebook, str], object]:
    """Photograph a notebook below the folder COURSE_SHOTS, where that is set: for people to look at."""
    if not (kept := os.environ.get("COURSE_SHOTS")):
        return lambda notebook, name: None
    return lambda notebook, name: notebook.shoot(Path(kept) / request.node.name, name)
