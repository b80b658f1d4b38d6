"""Exercise 4.4, record and replay: a program's requests on a tape, and the program from the tape.

Main path: EXERCISE -> engine.registry; most models are LMs with an engine of the check's own, which keeps
what it is asked, so that a request too many is seen.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import asyncio
import json
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from types import FrameType
from typing import Any
from unittest.mock import patch

import dspy
from dspy.lm15 import Message, Request, Response, ServerError, TextPart

from course_lib import lm
from course_lib.exercises.debugging.spending import CheckEngine, response
from course_lib.exercises.engine.checks import expect, expect_equal, expect_error, run, without_error
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import in_another_process

_LM_HINT = (
    'dspy.LM("tape/...", engine=..., async_engine=..., cache=False), with the settings of model.kwargs.'
)
_KEY_HINT = (
    "A key of everything in the request but the model's name: json.dumps(asdict(...), sort_keys=True)."
)
_MANY = 20
_QUESTIONS = tuple(f"What is {a} + {b}?" for a, b in ((3, 4), (12, 30), (7, 7), (90, 9), (5, 61), (8, 13)))


class _Model(CheckEngine):
    """The engine of a model that numbers its answers and keeps its requests; the first few may fail."""

    def __init__(self, failures: int = 0) -> None:
        self.requests: list[Request] = []
        self.held_up = 0
        """Requests that were answered on the thread of an event loop, and not as its tasks."""
        self._failures, self._lock = failures, threading.Lock()

    def complete(self, request: Request) -> Response:
        """Answer with a number."""
        with self._lock:
            self.requests.append(replace(request, model="-"))
            number = len(self.requests)
        if number <= self._failures:
            raise ServerError("the model is down", retry_after=0.01)
        self.held_up += asyncio._get_running_loop() is not None  # noqa: SLF001  None in a thread of its own
        return response(request, f"answer {number}")

    async def answered(self) -> None:
        """Let others have their turn; it was a task's request, which holds nobody up."""
        self.held_up -= 1
        await super().answered()


class _Quoting(CheckEngine):
    """The engine of a model that answers with the same words each time."""

    def __init__(self, words: str, *, is_cut: bool = False) -> None:
        self.words, self._end = words, "length" if is_cut else "stop"

    def complete(self, request: Request) -> Response:
        """Answer with these words, and nothing around them."""
        made = Message.assistant([TextPart(text=self.words)])
        return replace(response(request, "-"), message=made, finish_reason=self._end)


def _model(engine: _Model, **settings: Any) -> dspy.LM:
    return engine.lm("check/model", **{"temperature": 0.7, **settings})


def _asker(instructions: str = "Answer.", **settings: Any) -> dspy.Predict:
    return dspy.Predict(dspy.Signature("question -> answer", instructions), **settings)


def _answers(model: dspy.LM, questions: Any, *, is_async: bool = False, **settings: Any) -> list[str]:
    """Return the answers of a program to questions, one after the other or as tasks at the same time."""
    program = _asker(**settings)

    async def as_tasks() -> list[Any]:
        return await asyncio.gather(*(program.acall(question=each) for each in questions))

    with dspy.context(lm=model):
        made = run(as_tasks()) if is_async else [program(question=each) for each in questions]
    return [each.answer for each in made]


def _fields(request: Request) -> dict[str, Any]:
    said = {f"message {number}": repr(each) for number, each in enumerate(request.messages, 1)}
    return {"system": request.system} | said | asdict(request.config)


def _what_differs(got: list[Request], wanted: list[Request]) -> tuple[object, object]:
    """Return the fields in which the first request differs from the one that was wanted, of each of both."""
    for each, other in zip(sorted(got, key=repr), sorted(wanted, key=repr), strict=False):
        ours, plain = _fields(each), _fields(other)
        names = [name for name in plain | ours if ours.get(name) != plain.get(name)]
        if names:
            return {name: ours.get(name) for name in names}, {name: plain.get(name) for name in names}
    return f"{len(got)} requests", f"{len(wanted)} requests"


@contextmanager
def _taking_turns() -> Iterator[None]:
    """Have new threads take turns at each line of the notebook's, so that what has no lock shows it."""

    def traced(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_globals.get("__name__") != "__main__":
            return None
        if event == "line":
            time.sleep(1e-4)
        return traced

    before = threading.gettrace()
    threading.settrace(traced)
    try:
        yield
    finally:
        threading.settrace(before)


def _answers_in_threads(model: dspy.LM, questions: Any) -> list[str]:
    parallel = dspy.Parallel(num_threads=8, disable_progress_bar=True)
    pairs = [(_asker(), {"question": each}) for each in questions]
    with dspy.context(lm=model), _taking_turns():
        return [each.answer for each in parallel(pairs)]


def works_as_model(recorded: Any, _: Any) -> None:
    """A recorded LM asks as `model` does, with its settings, sync and async, each time anew."""
    some, of_call = (
        {"temperature": 0.2, "max_tokens": 77, "top_p": 0.5},
        {"temperature": 0.4, "max_tokens": 55},
    )
    for settings, own in (({}, {}), (some, {}), ({}, of_call)):
        for is_async in (False, True):
            plain, ours = _Model(), _Model()
            asked = [*_QUESTIONS[:2], _QUESTIONS[0]]
            wanted = _answers(_model(plain, **settings), asked, is_async=is_async, **own)
            got = _answers(recorded(_model(ours, **settings), []), asked, is_async=is_async, **own)
            settled = f"settings {settings}, of the call {own}"
            what = f"answers of a recorded {'async' if is_async else 'sync'} program, {settled}"
            expect_equal(sorted(got), sorted(wanted), what, hint=_LM_HINT)
            what = f"the requests that `model` gets from a recorded program, {settled}"
            expect_equal(*_what_differs(ours.requests, plain.requests), what, hint=_LM_HINT)
            what, hint = "requests of tasks during which the event loop stood still", "await model.acall(...)"
            expect_equal(ours.held_up if is_async else 0, 0, what, hint=hint)


def keeps_words(recorded: Any, replayed: Any) -> None:
    """A text is replayed to the letter, in any alphabet, with its white space."""
    long = "".join(f"{number:04} " for number in range(1000))
    texts = " zwölf Größen\n\n", "\t三个 \u2028 🏕 ", '{"a": "\\u00fc"}\n', "", long, "and the answer was"
    for words, is_async in product(texts, (False, True)):
        tape, model = list[Any](), _Quoting(words, is_cut=words.endswith("was")).lm("check/quoting")
        for kind, make in (("recorded", recorded), ("replayed", replayed)):
            asked, what = make(model, tape), f"what a {kind} model answers"
            ask = (lambda asked=asked: run(asked.acall("What?"))) if is_async else partial(asked, "What?")
            made = without_error(ask, what)
            expect_equal(made, [words], what, hint="As it came: response.text.")


def replays(recorded: Any, replayed: Any) -> None:
    """A replayed program returns what the recorded one did, in threads and tasks too, and asks nobody."""
    engine = _Model()
    ways: dict[str, Callable[..., list[str]]] = {
        "one after the other": _answers,
        "in threads": _answers_in_threads,
        "as tasks": partial(_answers, is_async=True),
    }
    for way, answers in ways.items():
        tape, order = list[Any](), random.sample(_QUESTIONS, len(_QUESTIONS))
        said = dict(zip(_QUESTIONS, answers(recorded(_model(engine), tape), _QUESTIONS), strict=True))
        before = len(engine.requests)
        for again, replay in ways.items():
            what = f"answers recorded {way}, and replayed {again}, in another order"
            said_again = without_error(partial(replay, replayed(_model(engine), tape), order), what)
            got = dict(zip(order, said_again, strict=True))
            expect_equal(got, {each: said[each] for each in order}, what)
        expect_equal(
            len(engine.requests) - before, 0, "requests to the model while its answers were replayed"
        )


def holds_nobody_up(recorded: Any, replayed: Any) -> None:
    """A task that waits for an answer does not stop the event loop."""
    tape, slept, naps_s = list[Any](), time.sleep, list[float]()

    def sleep(wait_s: float) -> None:
        if asyncio._get_running_loop() is not None:  # noqa: SLF001  None in a thread of its own
            naps_s.append(wait_s)
        slept(wait_s)

    with patch("time.sleep", sleep):
        for kind, make in (("recorded", recorded), ("replayed", replayed)):
            _answers(make(_model(_Model()), tape), [*_QUESTIONS, *_QUESTIONS], is_async=True)
            what = f"calls of time.sleep in the event loop of {kind} tasks"
            expect_equal(naps_s, [], what, hint="Others stand still meanwhile.")


def comes_in_order(recorded: Any, replayed: Any) -> None:
    """The same request gets its answers in their order, then the last again; each replay begins anew."""
    engine, tape, question = _Model(), list[Any](), random.choice(_QUESTIONS)
    said = _answers(recorded(_model(engine), tape), [question, "What is 1 + 1?", question])
    said += _answers(recorded(_model(engine), tape), [question])  # another time, on the same tape
    own = [said[0], *said[2:]]
    kept = deepcopy(tape)
    hint = "How many of an answer's kind were given is the replay's own business; the tape stays as it is."
    for number in (1, 2):
        what = f"answers to a request that was recorded 3 times and comes 5 times, in replay {number}"
        got = without_error(
            partial(_answers, replayed(_model(engine), tape), [question] * 5), what, hint=hint
        )
        expect_equal(got, [*own, own[-1], own[-1]], what, hint=hint)
    expect_equal(tape, kept, "the tape after two replays", hint=hint)
    replay, what = replayed(_model(engine), tape), "answers to one request from two threads, then from a task"
    got = [*_answers_in_threads(replay, [question] * 2), *_answers(replay, [question], is_async=True)]
    expect_equal(sorted(got), sorted(own), what, hint=hint)
    tape, quoting = [], _Quoting("one")
    for words in ("one", "one", "two"):
        quoting.words = words
        recorded(quoting.lm("check/quoting"), tape)("What?")
    replay = replayed(quoting.lm("check/quoting"), tape)
    what = "answers to a request that was answered one, one and two"
    got = [without_error(partial(replay, "What?"), what) for _ in range(3)]
    expect_equal(
        got, [["one"], ["one"], ["two"]], what, hint="Each answer is on the tape, as often as it came."
    )
    tape, what = [], f"different answers to a request of {_MANY} on the tape that comes as often, in threads"
    for is_async in (False, True):
        _answers(recorded(_model(engine), tape), _MANY // 2 * [question], is_async=is_async)
    got = _answers_in_threads(replayed(_model(engine), tape), _MANY * [question])
    expect_equal(
        len({*got}), _MANY, what, hint="Which answer is the next one is read and counted in one lock."
    )


_Said = list[tuple[str, Any]]
_TALK: _Said = [("user", "user"), ("assistant", "assistant"), ("user", "usual")]
_LONG: _Said = [("user", "word " * 800 + "one")]
_IN_PARTS: _Said = [("user", [{"type": "text", "text": text} for text in ("one", "two")])]


def _messages(said: _Said) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in said]


def _alike() -> dict[str, _Said]:
    """Return requests of which none is on the tape, though each resembles one of it."""
    (_, first), *others = _TALK
    forged = {
        f"whose one message holds what was said, with the roles, joined by {between!r} and {after!r}": [
            ("user", first + "".join(f"{between}{role}{after}{text}" for role, text in others))
        ]
        for between, after in (("", ""), ("\n", ": "), ("\n", "\n"), (" ", " "))
    }
    return forged | {
        "whose one message holds the texts of the three on the tape": [
            ("user", "\n".join(text for _, text in _TALK))
        ],
        "whose messages are cut in other places": [
            ("user", "usera"),
            ("assistant", "ssistant"),
            ("user", "usual"),
        ],
        "with other roles of its messages": [("user", text) for _, text in _TALK],
        "whose user has become a developer": [*_TALK[:2], ("developer", "usual")],
        "with its messages in another order": _TALK[::-1],
        "with another end of a long text": [("user", "word " * 800 + "two")],
        "with another second part of a message": [
            ("user", [{"type": "text", "text": text} for text in ("one", "three")])
        ],
    }


def fails_loudly(recorded: Any, replayed: Any) -> None:
    """A request that is not on the tape raises an LMError, and no model is asked."""
    engine, tape = _Model(), list[Any]()
    _answers(recorded(_model(engine), tape), _QUESTIONS[:2], max_tokens=100)
    _answers(recorded(_model(engine, temperature=None), tape), _QUESTIONS[3:4], max_tokens=100)
    _answers(recorded(_model(engine), tape), ["Is the caf\u00e9 open?"], max_tokens=100)
    for said in (_TALK, _LONG, _IN_PARTS):
        recorded(_model(engine), tape)(messages=_messages(said))
    before = len(engine.requests)
    others: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
        "another question": ({}, _QUESTIONS[2], {"max_tokens": 100}),
        "another temperature of the model": ({"temperature": 0.1}, _QUESTIONS[0], {"max_tokens": 100}),
        "another max_tokens of the call": ({}, _QUESTIONS[0], {"max_tokens": 50}),
        "other instructions": ({}, _QUESTIONS[0], {"max_tokens": 100, "instructions": "Answer in Dutch."}),
        "an additional stop": ({}, _QUESTIONS[1], {"max_tokens": 100, "stop": ["\n"]}),
        "temperature 0 in place of none": ({"temperature": 0.0}, _QUESTIONS[3], {"max_tokens": 100}),
        "an additional logit_bias": ({}, _QUESTIONS[0], {"max_tokens": 100, "logit_bias": {"11": 3}}),
        **{
            f"an additional {name}": ({}, _QUESTIONS[0], {"max_tokens": 100, name: value})
            for name, value in (
                ("seed", 7),
                ("top_p", 0.9),
                ("frequency_penalty", 0.5),
                ("presence_penalty", 0.5),
            )
        },
        "a temperature that is higher by 0.01": ({"temperature": 0.71}, _QUESTIONS[0], {"max_tokens": 100}),
        "an accent that is a character of its own": ({}, "Is the cafe\u0301 open?", {"max_tokens": 100}),
        "small letters": ({}, _QUESTIONS[0].lower(), {"max_tokens": 100}),
        "other white space": ({}, _QUESTIONS[0].replace(" ", "  "), {"max_tokens": 100}),
    }
    for other, (of_model, question, of_call) in others.items():
        what = f"a replayed request with {other}, which is not on the tape"
        for is_async in (False, True):
            model = replayed(_model(engine, **of_model), tape)
            ask = partial(_answers, model, [question], is_async=is_async, **of_call)
            for again in ("", ", and comes again"):
                expect_error(dspy.LMError, ask, f"{what}{again}", hint=_KEY_HINT)
    what, asked = "a replayed request where the tape is empty", _QUESTIONS[:1]
    expect_error(dspy.LMError, lambda: _answers(replayed(_model(engine), []), asked), what, hint=_KEY_HINT)
    for how, pairs in _alike().items():
        ask = partial(replayed(_model(engine), tape), messages=_messages(pairs))
        expect_error(dspy.LMError, ask, f"a replayed request {how}", hint=_KEY_HINT)
    expect_equal(len(engine.requests) - before, 0, "requests to the model for what is not on the tape")


def knows_same(recorded: Any, replayed: Any) -> None:
    """Neither the order of settings nor the API key makes a difference; the key is nowhere on the tape."""
    engine, tape = _Model(), list[Any]()
    settings: Any = {"seed": 7, "top_p": 0.9, "verbosity": "low", "logit_bias": {"11": 3}}
    (said,) = _answers(recorded(_model(engine), tape), _QUESTIONS[:1], **settings)
    what, again = "the answer with settings in another order", dict(reversed(settings.items()))
    got = without_error(lambda: _answers(replayed(_model(engine), tape), _QUESTIONS[:1], **again), what)
    expect_equal(got, [said], what, hint=_KEY_HINT)
    secret, tape = secrets.token_hex(8), list[Any]()
    models = [lm.connect(cache=False, api_key=key) for key in (f"sk-check-{secret}", "sk-another")]
    hint = "dspy.LM with an engine refuses connection settings (api_key, api_base): leave them with `model`."
    what, asked = "a model that has an API key", ["What is 2 + 2?"]
    said_by = without_error(lambda: _answers(recorded(models[0], tape), asked), what, hint=hint)
    seen = [part for part in (secret[at : at + 8] for at in range(9)) if part in repr(tape)]
    expect(not seen, "the API key on the tape", observed=f"{seen[:1]} of it", expected="nothing", hint=hint)
    got = without_error(lambda: _answers(replayed(models[1], tape), asked), what, hint=hint)
    expect_equal(got, said_by, "the answer to the same request of a model with another API key", hint=hint)


def _replay_elsewhere(replayed: Any, tape: str, questions: list[str]) -> list[str]:
    model = lm.connect(cache=False, temperature=0.7).copy(api_base="http://127.0.0.1:9/v1")
    return _answers(replayed(model, json.loads(tape)), questions)


def is_json(recorded: Any, replayed: Any) -> None:
    """json.loads(json.dumps(tape)) replays as the tape does, in another process too."""
    model, tape = lm.connect(cache=False, temperature=0.7), list[Any]()
    asked = [f'{each} Say it twice: “zwölf” \u2028 \\ "' for each in _QUESTIONS[:3]]
    said = _answers(recorded(model, tape), asked)
    hint = "Lists, dicts, texts and numbers. hash() and id() are others in each process."
    text = without_error(lambda: json.dumps(tape), "json.dumps(tape)", hint=hint)
    args, what = (_replay_elsewhere, replayed, text, asked), "a replay in another process"
    elsewhere = in_another_process(*args, what=what, expected="the recorded answers", hint=hint)
    expect_equal(elsewhere, said, "answers replayed in another process", hint=hint)


def passes_errors(recorded: Any, replayed: Any) -> None:
    """A request that fails is repeated as often as `model` says, its error comes out, the tape has none."""
    for retries, is_async in ((0, False), (2, False), (2, True)):
        engine, tape = _Model(failures=9), list[Any]()
        model = recorded(_model(engine, num_retries=retries), tape)
        what = f"a request that fails, where num_retries of the model is {retries}"
        hint = "`model` has its own retries: give the LM of the tape num_retries=0."
        ask = partial(_answers, model, _QUESTIONS[:1], is_async=is_async)
        expect_error(dspy.LMServerError, ask, what, hint=hint)
        expect_equal(len(engine.requests), retries + 1, f"attempts at {what}", hint=hint)
        expect_equal(tape, [], f"the tape after {what}")
    engine, tape = _Model(failures=1), []
    said = _answers(recorded(_model(engine, num_retries=1), tape), _QUESTIONS[:1])
    got = _answers(replayed(_model(engine), tape), _QUESTIONS[:1])
    expect_equal(got, said, "the replayed answer to a request whose first attempt had failed")
    for is_async in (False, True):
        tape, what = [], "the replayed answer to a request that failed, and came again"
        ask = partial(_answers, recorded(_model(_Model(1)), tape), _QUESTIONS[:1], is_async=is_async)
        expect_error(dspy.LMServerError, ask, "a request that fails at first")
        said = without_error(ask, "the answer to a request that failed, and comes again")
        got = without_error(partial(_answers, replayed(_model(engine), tape), _QUESTIONS[:1]), what)
        expect_equal(got, said, what)


EXERCISE = Exercise(
    title="Record and replay",
    minutes=15,
    difficulty="hard",
    hints=(
        f"{_LM_HINT} Connection settings such as api_key stay with `model`; so do the retries.",
        "The recording engine: `response = model(replace(request, model=model.model))`, then append the key "
        f"and response.text. {_KEY_HINT}",
        "The replaying engine keeps for each key how many answers it has given, under a lock: "
        "`answers[min(given, len(answers) - 1)]`. Async engines do the same, with `await model.acall(...)`.",
    ),
    checks=(
        *(works_as_model, replays, keeps_words, comes_in_order, fails_loudly, knows_same, passes_errors),
        *(holds_nobody_up, is_json),
    ),
    deadline_s=40.0,
    why="The engine is the narrowest place: everything a program asks goes through it, whatever adapter or "
    "module asked. A key of all that the model reads makes a change loud; answers in order per key make "
    "threads harmless; a plain list of JSON outlives the process, and can be read in a diff.",
)
