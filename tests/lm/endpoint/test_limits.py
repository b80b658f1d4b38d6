"""No request brings the endpoint down, fills its memory, or keeps other clients waiting."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from course_lib import lm
from course_lib.lm.endpoint import running, wire
from course_lib.lm.simulator import engine
from tests.lm.conftest import MESSAGES

LISTED = "Your output fields are:\n"


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "sim-large", "messages": MESSAGES, **more}


def says(text: str, **more: Any) -> dict[str, Any]:
    return chat(messages=[{"role": "user", "content": text}], **more)


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"schema": {"properties": properties}}}


LOOP = {"type": "object", "properties": {name: {"$ref": "#/$defs/A"} for name in "abcdef"}}
ODD = {
    "deep JSON": '{"model": "sim-large", "messages": %s}' % ("[" * 300 + "]" * 300),
    "deep JSON in the text": says("[" * 20_000),
    "a type that never ends": says(f"{LISTED}1. `a` ({'list[' * 1500}int{']' * 1500}): x"),
    "a definition that holds itself": chat(
        response_format={"type": "json_schema", "json_schema": {"schema": {**LOOP, "$defs": {"A": LOOP}}}}
    ),
    "counts without end": chat(
        response_format=schema(
            a={"type": "string", "minLength": 10**9},
            b={"type": "array", "items": {"type": "string"}, "minItems": 10**8},
            c={"type": "string", "pattern": "^a{99999999}$"},
        )
    ),
    "keywords of wrong types": chat(
        response_format=schema(
            a={"type": "integer", "minimum": "x", "multipleOf": []},
            b={"enum": []},
            c={"type": ["x", 5], "anyOf": 7},
            d=True,
            e={"type": "array", "items": 5, "minItems": "many"},
            f={"$ref": 5, "pattern": 5, "format": []},
        )
    ),
    "a pattern that backtracks": says("a" * 60 + "b", response_format=schema(a={"pattern": "^(a+)+$"})),
    "thousands of fields": says(LISTED + "".join(f"{n}. `f{n}` (int):\n" for n in range(1, 9000))),
    "digits and blanks": says("1 " * 200_000),
    "many samples": says("What is 3 + 4? " * 1000, n=128, temperature=1),
    "many stops": chat(n=128, stop=[f"s{n}" for n in range(80_000)]),
    "a long name of a model": chat(model="x" * 500_000),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    yield lm.url()
    lm.stop()


# A child of its own imports the simulator and works on large requests: some seconds.
@pytest.mark.parametrize("case", ODD)
def test_others_are_answered_meanwhile_and_the_request_is_answered_or_refused(case: str, url: str) -> None:
    raw = ODD[case] if isinstance(ODD[case], str) else json.dumps(ODD[case])
    statuses: dict[str, int] = {}

    def ask(key: str, content: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx.post(f"{url}/chat/completions", content=content, headers=headers, timeout=60)
        statuses[key] = answer.status_code

    thread = threading.Thread(target=ask, args=("odd", raw))
    thread.start()
    ask("other", json.dumps(says("What is 2 + 2?")))
    thread.join()

    assert statuses["other"] == 200
    assert statuses["odd"] in (200, 400, 404)


def test_an_answer_that_takes_too_long_is_stopped_even_within_a_regular_expression(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "MAX_S", 0.05)
    before = signal.signal(signal.SIGVTALRM, running._interrupt)
    began_s = time.process_time()

    with pytest.raises(wire.ApiError, match=r"within 0\.05 s; make the request smaller") as caught:
        running.simulate(ODD["a pattern that backtracks"], sample=0)

    signal.signal(signal.SIGVTALRM, before)
    assert caught.value.status == 400
    assert time.process_time() - began_s < 5  # to the end it would take years
    assert running.simulate(says("What is 3 + 4?"), sample=0).text == "3 + 4 = 7"


def test_what_the_simulator_keeps_in_mind_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[None] = []
    monkeypatch.setattr(running, "forget", lambda: forgotten.append(engine.forget()))
    monkeypatch.setattr(running, "MAX_CACHED_CHARS", 1000)

    texts = [running.simulate(says(f"What is 3 + {n}?" + " " * 300), sample=0).text for n in range(8)]

    assert len(forgotten) == 2
    assert texts == [f"3 + {n} = {3 + n}" for n in range(8)]
