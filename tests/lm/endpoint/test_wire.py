import contextlib
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.lm.endpoint import wire
from course_lib.lm.reply import Reply, ToolCall

HELLO = {"role": "user", "content": "Hello"}


def asked(**fields: object) -> wire.ChatRequest:
    return wire.parse(orjson.dumps({"model": "sim-large", "messages": [HELLO], **fields}))


BAD: dict[str, tuple[bytes | dict[str, object], str]] = {
    "not JSON": (b"{model:", "the body is not JSON .* send one JSON object, for instance"),
    "empty": (b"", "the body is not JSON"),
    "not UTF-8": (b'{"model": "\xff"}', "the body is not JSON"),
    "a list": (b"[]", r"the body is JSON, but \[\]; send one JSON object"),
    "no model": ({"model": None}, 'model is missing; it should be a name such as "sim-large"'),
    "model a number": ({"model": 5}, "model is 5; it should be a name"),
    "no messages": ({"messages": None}, r"messages is missing; it should be a list such as \[\{"),
    "messages empty": ({"messages": []}, r"messages is \[\]"),
    "message a text": ({"messages": ["Hello"]}, r"messages\[0\] is 'Hello'"),
    "no role": ({"messages": [{"content": "x"}]}, r"messages\[0\].role is missing"),
    "odd role": ({"messages": [HELLO, {"role": "me"}]}, r"messages\[1\].role is 'me'; .* one of"),
    "no content": ({"messages": [{"role": "user"}]}, r"messages\[0\].content is missing"),
    "content a number": ({"messages": [{"role": "user", "content": 5}]}, "content is 5"),
    "parts without type": ({"messages": [{"role": "user", "content": [{}]}]}, "or parts such as"),
    "temperature": ({"temperature": 3}, "temperature is 3; .* from 0 to 2"),
    "n": ({"n": 0}, "n is 0; .* from 1 to 128"),
    "max_tokens": ({"max_tokens": -1}, "max_tokens is -1"),
    "stream": ({"stream": "yes"}, "stream is 'yes'; .* true or false"),
    "stop": ({"stop": [1]}, r"stop is \[1\]"),
    "tools": ({"tools": [{"name": "f"}]}, "tools is"),
    "response_format": ({"response_format": "json"}, "response_format is 'json'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_body_is_400_and_says_what_to_fix(case: str) -> None:
    body, said = BAD[case]

    with pytest.raises(wire.ApiError, match=said) as caught:
        wire.parse(body) if isinstance(body, bytes) else asked(**body)

    assert caught.value.status == 400
    assert json.loads(caught.value.body())["error"]["type"] == "invalid_request_error"


def test_the_profile_is_split_off_the_model_but_comes_back_in_the_answer() -> None:
    request = asked(model="sim-large@storm")

    assert (request.model, request.profile, request.body["model"]) == ("sim-large", "storm", "sim-large")
    assert wire.completion(request, [Reply("Hi")])["model"] == "sim-large@storm"


def test_prompt_tokens_count_messages_tools_and_schema() -> None:
    tool = {"type": "function", "function": {"name": "search", "description": "Search the articles."}}

    plain, more = asked().prompt_tokens, asked(tools=[tool]).prompt_tokens

    assert plain == 4 + 1
    assert more > plain + 10


@pytest.mark.parametrize(
    ("fields", "text", "reason"),
    [
        ({}, "one two three four", "stop"),
        ({"max_tokens": 2}, "one two", "length"),
        ({"max_completion_tokens": 3}, "one two three", "length"),
        ({"max_tokens": 4}, "one two three four", "stop"),
        ({"stop": " three"}, "one two", "stop"),
        ({"stop": [" four", " two"]}, "one", "stop"),
        ({"stop": " three", "max_tokens": 1}, "one", "length"),
    ],
)
def test_stop_and_the_token_limit_cut_the_answer(fields: dict[str, object], text: str, reason: str) -> None:
    body = wire.completion(asked(**fields), [Reply("one two three four")])

    choice = body["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, reason)
    assert body["usage"]["completion_tokens"] == len(text.split())


def test_tool_calls_get_ids_of_their_request_and_arguments_as_json() -> None:
    reply = Reply(None, (ToolCall("search", {"query": "tent"}), ToolCall("submit", {})))

    choice = wire.completion(asked(), [reply])["choices"][0]
    again = wire.completion(asked(stream=True), [reply])["choices"][0]
    other = wire.completion(asked(temperature=1), [reply])["choices"][0]

    calls = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"query": "tent"}, {}]
    assert again == choice
    ids = {call["id"] for each in (choice, other) for call in each["message"]["tool_calls"]}
    assert len(ids) == 4


def test_a_stream_is_role_tokens_finish_and_usage_if_asked() -> None:
    body = wire.completion(asked(), [Reply("one two")])

    chunks = [json.loads(chunk.removeprefix(b"data: ")) for chunk in wire.chunks(body, with_usage=True)]

    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "one"}, {"content": " two"}, {}]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], body["usage"])
    assert len(list(wire.chunks(body, with_usage=False))) == len(chunks) - 1


KEYS = "role content type text tool_calls function name arguments model messages n".split()  # noqa: SIM905
FIELDS = "model messages tools stop n stream stream_options temperature response_format".split()  # noqa: SIM905
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-3, 3) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), JSON)
def test_any_json_is_either_answered_or_refused(fields: dict[str, object], message: object) -> None:
    body = {"model": "sim-large", "messages": [HELLO, message], **fields}

    with contextlib.suppress(wire.ApiError):
        request = wire.parse(orjson.dumps(body))

        answer = wire.completion(request, [Reply("one two")])
        assert list(wire.chunks(answer, with_usage=request.wants_usage))
        assert request.identity()
