"""Runs a solution notebook and keeps outputs that say nothing of when and where it ran.

Main path: execute(notebook) -> the same notebook with outputs, scrubbed.
Source: nbclient 0.11 (record_timing, coalesce_streams, store_widget_state).
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import nbformat

from course_lib.authoring.kernel import NAME, install, isolated
from course_lib.authoring.lesson import AuthoringError
from course_lib.authoring.notebook import METADATA, Notebook
from course_lib.paths import ROOT

CELL_DEADLINE_S = 300
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
CELL_FILE = re.compile(r"(?<!\S)\S*ipykernel_\d+/\d+\.py")


def execute(notebook: Notebook, *, name: str) -> Notebook:
    """Run a notebook from top to bottom in a kernel of its own, in a work folder as `make setup` leaves it.

    Raises:
        AuthoringError: a cell raised or ran out of time; the message names the cell.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    from course_lib.copies.work import make_copies

    install()
    with tempfile.TemporaryDirectory(prefix="course-build-") as scratch, mock.patch.dict(os.environ):
        os.environ |= isolated(Path(scratch))  # for kernels and servers that are started meanwhile
        os.environ["COURSE_WORK"] = scratch
        make_copies()
        client = NotebookClient(
            notebook.copy(),
            kernel_name=NAME,
            timeout=CELL_DEADLINE_S,
            record_timing=False,
            coalesce_streams=True,
            store_widget_state=False,
            extra_arguments=["--log-level=ERROR"],  # each kernel warns that loopback is not encrypted
            resources={"metadata": {"path": scratch}},
        )
        try:
            done = client.execute()
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise AuthoringError(
                f"solutions/{name} does not run: {COLOUR.sub('', str(error))}\n"
                "Correct its lesson, then run: make build"
            ) from None
        work = {str(Path(scratch).resolve()): "work", scratch: "work"}
        return scrubbed(done, {**work, sys.prefix: ".venv", str(ROOT): ".", str(Path.home()): "~"})


def scrubbed(notebook: Notebook, places: dict[str, str]) -> Notebook:
    """Remove what differs from run to run: widgets, addresses, and `places` (path -> name, innermost first).

    A widget is nothing that a stored notebook can show: what else it brings stands there.
    """
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = METADATA["language_info"]
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)
        if "outputs" in cell:
            cell.outputs = nbformat.from_dict(_plain(cell.outputs, places))
    return notebook


def _plain(value: Any, places: dict[str, str]) -> Any:
    """Return a value with every text in it, at any depth, made plain."""
    if isinstance(value, dict):
        return {name: _plain(inner, places) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, places) for inner in value]
    if isinstance(value, str):
        value = CELL_FILE.sub("<cell>", ADDRESS.sub("at 0x...", value))
        for path, word in places.items():
            value = value.replace(path, word)
    return value
