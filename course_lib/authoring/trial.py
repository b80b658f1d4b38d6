"""One exercise, tried in a process of its own, as a notebook's kernel would run it.

Main path: main(plan, folder, environment) -> one Verdict per attempt, as JSON in the folder.
Source: IPython 9 InteractiveShell.run_cell_async, inside a running event loop as in ipykernel.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ANSWER, LOG = "answer.json", "log.txt"
"""The files of a trial's folder: its verdicts, and whatever its cells print."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: set-up once, then from that state each attempt and the checks after it."""

    needs: list[str]
    attempts: list[list[str]]
    """For each answer, the exercise's cells with that answer in them."""
    checks: list[str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checks said of one attempt."""

    outcome: str
    """`passed`, `failed`, `crashed` or `not attempted`: the first that is not `passed`.

    `raised` where a cell raised into the notebook, which no check should let happen.
    """
    message: str
    """The check's line."""
    text: str
    """All that the learner sees, the card included."""


class _CellRaisedError(Exception):
    """A cell of the plan raised."""


async def _run(shell: Any, source: str, what: str) -> Any:
    result = await shell.run_cell_async(
        source, store_history=True, transformed_cell=shell.transform_cell(source)
    )
    error = result.error_before_exec or result.error_in_exec
    if error is not None:
        raise _CellRaisedError(f"{what} raised {type(error).__name__}: {error}")
    return result.result


async def _attempt(shell: Any, cells: list[str], checks: list[str]) -> Verdict:
    try:
        for cell in cells:
            await _run(shell, cell, "the exercise's cell")
        results = [await _run(shell, check, "the check's cell") for check in checks]
    except _CellRaisedError as error:
        return Verdict("raised", str(error), str(error))
    result = next((result for result in results if result.outcome != "passed"), results[-1])
    return Verdict(result.outcome, result.message, result.text)


async def run(plan: Plan) -> list[Verdict]:
    """Run a plan in this process's IPython shell and return one verdict per attempt."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        for cell in plan.needs:
            await _run(shell, cell, "a set-up cell")
    except _CellRaisedError as error:
        return [Verdict("raised", str(error), str(error))] * len(plan.attempts)
    ready = dict(shell.user_ns)
    verdicts = []
    for attempt in plan.attempts:
        shell.user_ns.clear()
        shell.user_ns.update(ready)
        verdicts.append(await _attempt(shell, attempt, plan.checks))
    return verdicts


def main(plan: Plan, folder: Path, environment: dict[str, str]) -> None:
    """Try a plan in this process, which was forked or begun for it, and write the verdicts to the folder."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None  # where TMPDIR says
    with (folder / LOG).open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    verdicts = asyncio.run(run(plan))
    (folder / ANSWER).write_text(json.dumps([asdict(verdict) for verdict in verdicts]), "utf-8")
    atexit._run_exitfuncs()  # noqa: SLF001  servers are stopped by them, and multiprocessing runs none
