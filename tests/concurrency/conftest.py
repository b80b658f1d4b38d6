"""What holds for every test of this folder: nothing blocks an event loop, and no task is left in one."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from blockbuster import BlockBuster, blockbuster

from course_lib import desk, lm

_OF_TESTS = ["course_lib.lm", "course_lib.measure", "course_lib.services"]
_MAY_BLOCK = {
    "<frozen importlib._bootstrap>": "_find_and_load",  # once in a process
    "lazy_loader/__init__.py": "attach_stub",  # once, too
    "logging/__init__.py": "emit",  # to pytest's handlers
}
_ARE_OTHERS = ("TestRunner", "_shutdown_watcher")  # of anyio, and of sse_starlette: one in each loop


@pytest.fixture(autouse=True, scope="session")
def _catalogues() -> None:
    """Read what is read once in a process: what DSPy knows of models, and the help centre."""
    lm.connect().supported_params  # noqa: B018
    desk.search_articles("?")


@pytest.fixture(autouse=True)
def _nothing_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail if code of course_lib blocks an event loop, also where the error that is raised then is caught.

    What tests themselves call on a loop is left out.
    """
    blocked: list[str] = []

    class Noted(blockbuster.BlockingError):
        def __init__(self, name: str) -> None:
            blocked.append(f"{name}:\n{''.join(traceback.format_stack()[-12:-2])}")
            super().__init__(name)

    monkeypatch.setattr(blockbuster, "BlockingError", Noted)
    watching = BlockBuster("course_lib", excluded_modules=_OF_TESTS)
    for function in watching.functions.values():
        for place in _MAY_BLOCK.items():
            function.can_block_in(*place)
    watching.activate()
    try:
        yield
    finally:
        watching.deactivate()
    if blocked:
        pytest.fail("\n".join(blocked))


@pytest.fixture(autouse=True)
def left_tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Fail if an event loop ends with a task in it; a test that means to do that clears the list."""
    left: list[str] = []

    def noting(cancel: Callable[[Any], None]) -> Callable[[Any], None]:
        def cancel_all(loop: Any) -> None:
            tasks = map(repr, asyncio.all_tasks(loop))
            left.extend(task for task in tasks if not any(name in task for name in _ARE_OTHERS))
            cancel(loop)

        return cancel_all

    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", noting(asyncio.runners._cancel_all_tasks))
    yield left
    if left:
        pytest.fail("left in an event loop:\n" + "\n".join(left))
