"""Photographs of a notebook in JupyterLab, run or not, light or dark.

python -m tests.browser.shots notebooks/00_start_here.ipynb OUTDIR --theme dark
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from course_lib.authoring import kernel
from tests.browser import chromium
from tests.browser.lab import THEMES, lab
from tests.browser.notebook import Notebook


def shoot(notebook: Path, out: Path, *, theme: str, runs: bool) -> list[Path]:
    """Open a copy of a notebook, run it if asked, photograph it, and print what the page complains of."""
    kernel.install()
    with tempfile.TemporaryDirectory(prefix="course-shots-") as scratch:
        work, state = Path(scratch) / "work", Path(scratch) / "state"
        for folder in (work, state):
            folder.mkdir()
        shutil.copy(notebook, work)
        with (
            lab(work, state, theme=theme) as server,
            chromium.launched() as browser,
            chromium.page(browser, server.url) as (page, watch),
        ):
            opened = Notebook(page)
            opened.open(server.address(notebook.name))
            if runs and not opened.run_all():
                print("a cell raised", file=sys.stderr)
            page.wait_for_timeout(1500)  # widgets draw themselves after the kernel is done
            paths = opened.shoot(out, f"{notebook.stem}_{theme}")
            for problem in watch.problems():
                print(problem, file=sys.stderr)
    return paths


def main() -> None:
    """Read the command line and print the files made."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebook", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--theme", choices=THEMES, default="light")
    parser.add_argument("--no-run", action="store_true", help="show it as shipped")
    given = parser.parse_args()
    if chromium.find() is None:
        sys.exit(f"no browser found; install one of {', '.join(chromium.NAMES)}")
    for path in shoot(given.notebook, given.out, theme=given.theme, runs=not given.no_run):
        print(path)


if __name__ == "__main__":
    main()
