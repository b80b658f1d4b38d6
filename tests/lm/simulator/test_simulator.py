"""The simulator as a whole: determinism, samples, own formats, format errors; no body makes it raise."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from typing import Any

import dspy
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib import desk, lm
from course_lib.desk.programs import AnswerFromArticles, SortTicket
from course_lib.lm.simulator.engine import answer
from tests.lm.signatures import drawn
from tests.lm.wire import body_for

CHAT = dspy.ChatAdapter()
FIELDS = """Your input fields are:
1. `ticket` (str):
Your output fields are:
1. `category` (Literal['shipping', 'returns']):
2. `urgency` (Literal['low', 'high']):
"""


def _chat(*turns: str, system: str = "", **settings: Any) -> str:
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": ("user", "assistant")[at % 2], "content": turn} for at, turn in enumerate(turns)]
    return answer({"model": "sim-large", "messages": messages, **settings}).text or ""


def _triage_body(
    ticket: str = "Where is my parcel? I have waited for two weeks.", **settings: Any
) -> dict[str, Any]:
    demos = [
        {"ticket": t.text, "category": t.category, "urgency": t.urgency} for t in desk.tickets("train")[:8]
    ]
    return body_for(CHAT, SortTicket, {"ticket": ticket}, demos=demos, **settings)


def test_a_fresh_process_with_other_hash_seeds_gives_the_same_bytes() -> None:
    asked = {"context": [article.chunk for article in desk.articles()[:5]], "question": "Returns?"}
    bodies = [
        _triage_body(temperature=1.0),
        _triage_body(temperature=1.0) | {"model": "sim-small"},
        body_for(CHAT, AnswerFromArticles, asked),
    ]
    here = [answer(body, sample=2).text for body in bodies]
    script = (
        "import json, sys; from course_lib.lm.simulator.engine import answer; "
        "print(json.dumps([answer(body, sample=2).text for body in json.load(sys.stdin)]))"
    )

    for seed in ("1", "20077"):
        command, environ = [sys.executable, "-c", script], {**os.environ, "PYTHONHASHSEED": seed}
        printed = subprocess.check_output(command, input=json.dumps(bodies), env=environ, text=True)
        assert json.loads(printed) == here


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_samples_repeat_and_differ_with_a_temperature_only_and_most_are_the_likeliest(
    temperature: float,
) -> None:
    body = _triage_body(temperature=temperature)

    first = [answer(body, sample=n).text for n in range(60)]

    streamed = body | {"stream": True, "user": "me"}  # what does not shape the answer
    assert first == [answer(streamed, sample=n).text for n in range(60)]
    assert (len(set(first)) > 1) == (temperature > 0)
    assert Counter(first).most_common(1)[0][0] == answer(_triage_body()).text


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("What is the capital of France?", "Paris"),
        ("hi", "help"),
        ("What is 17 * 23?", "391"),
        ("Who won the village fête of 1962?", "I don't know"),
        ("Context: The tent weighs 2 kg. It is blue.\nQuestion: How much does the tent weigh?", "2 kg"),
    ],
)
def test_plain_chat_is_answered_in_plain_words(said: str, heard: str) -> None:
    assert heard in _chat(said)


@pytest.mark.parametrize("said", ["What is 2 + 3?", "hi", "Tell me a story.", "[1, 2]"])
@pytest.mark.parametrize("tools", [{}, {"tools": [{"type": "function", "function": {"name": "look_up"}}]}])
def test_a_json_object_is_what_it_is_asked_for(said: str, tools: dict[str, Any]) -> None:
    reply = _chat(said, response_format={"type": "json_object"}, **tools)

    assert isinstance(json.loads(reply), dict)


def test_a_bare_schema_is_filled_with_what_the_text_is_about() -> None:
    kinds = {"name": "string", "visitors": "integer", "tags": "array"}
    schema = {"properties": {name: {"type": kind} for name, kind in kinds.items()}}
    wanted = {"type": "json_schema", "json_schema": {"schema": schema}}

    reply = _chat("Extract: Porto has 1200 visitors; tags: river, wine", response_format=wanted)

    assert json.loads(reply) == {"name": "Porto", "visitors": 1200, "tags": ["river", "wine"]}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("Reply with one line per output field, exactly `name: value`.", "category: shipping\nurgency: low"),
        ("Reply in YAML, nothing else.", "category: shipping\nurgency: low"),
        ("Answer in XML.", "<category>\nshipping\n</category>\n\n<urgency>\nlow\n</urgency>"),
        ("Answer with JSON.", '{"category": "shipping", "urgency": "low"}'),
        ("Use this form:\n\n<<{category}>>\n|{urgency}|\n\nGo.", "<<shipping>>\n|low|"),
    ],
)
def test_a_format_of_ones_own_is_followed_from_its_words(asked: str, expected: str) -> None:
    assert _chat("ticket: where is my parcel? no rush", system=FIELDS + asked) == expected


@pytest.mark.parametrize(
    ("demo", "expected"),
    [
        ("category: returns\nurgency: low", "category: shipping\nurgency: high"),
        ("**Category**: returns\n**Urgency**: low", "**Category**: shipping\n**Urgency**: high"),
        ("## category\nreturns\n\n## urgency\nlow", "## category\nshipping\n\n## urgency\nhigh"),
        ("category = returns; urgency = low", None),
        ('{"category": "returns", "urgency": "low"}', '{"category": "shipping", "urgency": "high"}'),
    ],
)
def test_a_format_of_ones_own_is_followed_from_a_demo(demo: str, expected: str | None) -> None:
    reply = _chat(
        "ticket: I want to send it back", demo, "ticket: where is my parcel? urgent!", system=FIELDS
    )

    assert reply == expected or (expected is None and "shipping" in reply and "high" in reply)


def test_a_prompt_without_a_field_list_is_answered_in_the_keys_it_names() -> None:
    reply = _chat("Where is my parcel?", system="Reply with JSON, key `kind` (shipping, returns or billing).")

    assert json.loads(reply) == {"kind": "shipping"}


def test_an_answer_program_answers_from_its_context_or_says_that_it_does_not_know() -> None:
    question = "How many days do I have to return a tent?"
    chunks = [desk.article(name).chunk for name in ("return-policy", "tent-care")]
    beside = ["[stove-safety] Stoves\nNever light a stove indoors."]
    with dspy.context(lm=lm.connect(cache=False)):
        program = dspy.Predict(AnswerFromArticles)
        grounded, *others = [program(context=each, question=question) for each in (chunks, [], beside)]

    assert "30 days" in grounded.answer
    assert grounded.citations == ["return-policy"]
    assert all("I don't know" in other.answer and other.citations == [] for other in others)


def test_reasoning_names_what_the_answer_rests_on() -> None:
    with dspy.context(lm=lm.connect(cache=False)):
        told = dspy.ChainOfThought("question -> answer: float")(question="What is 12.5 plus 7?")

    assert told.answer == 19.5
    assert "12.5 + 7" in told.reasoning


def test_two_steps_extract_what_the_first_one_wrote() -> None:
    fields = "customer, order_id, amount: float, kind: Literal['refund', 'question']"
    model = lm.connect(cache=False)
    with dspy.context(lm=model, adapter=dspy.TwoStepAdapter(model)):
        got = dspy.Predict(f"note -> {fields}")(
            note="My name is Ann Bell, I want a refund: order O-10003 cost 35.50 EUR."
        )

    assert (got.customer, got.order_id, got.amount, got.kind) == ("Ann Bell", "O-10003", 35.5, "refund")


def test_a_model_that_holds_itself_is_filled_to_a_depth() -> None:
    class Node(pydantic.BaseModel):
        name: str
        parent: Node | None
        children: list[Node]

    Node.model_rebuild(_types_namespace={"Node": Node})
    signature = dspy.make_signature({"text": (str, dspy.InputField()), "tree": (Node, dspy.OutputField())})

    for adapter in (dspy.ChatAdapter(), dspy.JSONAdapter()):
        reply = answer(
            body_for(adapter, signature, {"text": "Ann has two children:\n- Bo, 3\n- Cy, 5\n- Di, 7"})
        )
        assert adapter.parse(signature, reply.text)["tree"].name


def test_sim_small_errs_in_format_now_and_then_and_sim_large_never_and_it_is_weaker_at_the_task() -> None:
    def parsed_and_right(model: str) -> tuple[int, int]:
        parsed = []
        for ticket in desk.tickets("dev") + desk.tickets("test"):
            with contextlib.suppress(dspy.AdapterParseError):
                text = answer(_triage_body(ticket.text) | {"model": model}).text
                parsed.append(CHAT.parse(SortTicket, text)["category"] == ticket.category)
        return len(parsed), sum(parsed)

    (total, right), (parsed, right_of_small) = map(parsed_and_right, ("sim-large", "sim-small"))
    assert total == 80
    assert 0.8 * total <= parsed < total
    assert right_of_small / parsed < right / total


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_PIECES = """[[ ## answer ## ]]|[[ ## completed ## ]]|Your output fields are:\n1. `x` (|Literal['a|{|<x>|</x>
«|must adhere to the JSON schema: {|Respond with a JSON object|# note: the value you produce must be|```json\n
12 / 0|9 ^ 9 ^ 9|2026-13-45|of type: [|1. `y` (list[int]): z\nConstraints: x: y|`a`, `b`|A 0: b"""
_pieces = st.sampled_from(_PIECES.split("|"))
_content = st.one_of(st.text(max_size=60), st.lists(_pieces, max_size=6).map("\n".join), _json)
_bodies = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["sim-large", "sim-small"]),
        "messages": st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": _content}
            ),
            max_size=5,
        ),
    },
    optional={
        "temperature": st.sampled_from([None, 0, 0.7, 2]),
        "response_format": st.one_of(
            st.none(),
            st.just({"type": "json_object"}),
            st.dictionaries(st.text(max_size=5), _json, max_size=2).map(
                lambda parts: {"type": "json_schema", "json_schema": {"schema": {"properties": {"a": parts}}}}
            ),
        ),
        "tools": st.one_of(st.none(), st.lists(_json, max_size=2)),
    },
)


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.soak)])
def test_no_body_makes_it_raise(count: int) -> None:
    @drawn(count)
    @given(_bodies)
    def holds(body: dict[str, Any]) -> None:
        assert isinstance(answer(body).text, str)

    holds()
