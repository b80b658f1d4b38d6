"""A model that answers by script behind a real endpoint, and keeps every request it got."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dspy
import pytest
from dspy.clients.cache import Cache

from course_lib.lm.endpoint.server import Endpoint
from course_lib.lm.reply import Reply
from tests.lm.conftest import Served

SOLVED = "DSPy itself no longer does this ({}): tell the lesson, and keep the green test."


def reply(text: str, field: str = "answer") -> str:
    """Return a model's reply in ChatAdapter's form."""
    return f"[[ ## {field} ## ]]\n{text}\n\n[[ ## completed ## ]]"


def plain_cache() -> Cache:
    """Return DSPy's own cache, in memory."""
    return Cache(enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir=None)


@pytest.fixture
def give_dspy(monkeypatch: pytest.MonkeyPatch) -> Callable[[Cache], Cache]:
    """Put a cache under DSPy for one test."""

    def give(cache: Cache) -> Cache:
        monkeypatch.setitem(vars(dspy), "cache", cache)
        return cache

    return give


class Script:
    """Answers request n with reply n, the last one from then on."""

    def __init__(self, *replies: str) -> None:
        self.replies = replies
        self.bodies: list[Mapping[str, Any]] = []
        self.url = ""

    def __call__(self, body: Mapping[str, Any], *, sample: int) -> Reply:
        self.bodies.append(body)
        return Reply(self.replies[min(len(self.bodies), len(self.replies)) - 1])

    @property
    def prompts(self) -> list[str]:
        """Each request's messages as one text."""
        return ["\n".join(str(message["content"]) for message in body["messages"]) for body in self.bodies]

    def plain_lm(self, **options: Any) -> dspy.LM:
        """A dspy.LM as one makes it for a server of one's own."""
        options = {"api_base": self.url, "api_key": "k", "cache": False} | options
        return dspy.LM("openai/sim-large", **options)  # a name in no price list


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    """Serve scripts; all are stopped at the end."""
    started: list[Served] = []

    def serve(*replies: str) -> Script:
        script = Script(*replies)
        started.append(Served(Endpoint(script)))
        script.url = started[-1].url
        return script

    yield serve
    for served in started:
        served.stop()
