"""A model name that DSPy does not know loses native tools and JSON schemas without a word."""

from __future__ import annotations

import warnings

import dspy

from course_lib import lm
from tests.traps.conftest import SOLVED


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


class Plan(dspy.Signature):
    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    calls: dspy.ToolCalls = dspy.OutputField()


def ask_both(model: dspy.LM) -> None:
    """Ask once for a plain answer, and once for calls of tools."""
    with dspy.context(lm=model, adapter=dspy.JSONAdapter()):
        dspy.Predict("question -> answer")(question="2 + 2?")
        dspy.Predict(Plan)(question="weather in Oslo?", tools=[dspy.Tool(weather)])


def test_plain_dspy_sends_neither_schema_nor_tools_to_a_server_of_ones_own_and_says_nothing(script):
    served = script('{"answer": "4"}', '{"calls": {"tool_calls": []}}')

    with warnings.catch_warnings(record=True) as said:
        ask_both(served.plain_lm())

    plain, planned = served.bodies
    assert "response_format" not in plain, SOLVED.format("unknown models get a JSON schema")
    assert "tools" not in planned, SOLVED.format("unknown models get native tools")
    assert said == []


def test_a_declared_provider_sends_both(script, monkeypatch):
    served = script('{"answer": "4"}', '{"calls": {"tool_calls": []}}')
    monkeypatch.setenv("COURSE_LM_URL", served.url)
    monkeypatch.setenv("COURSE_LM_KEY", "k")

    ask_both(lm.connect("sim-large", cache=False))

    plain, planned = served.bodies
    assert plain["response_format"]["type"] == "json_schema"
    assert [tool["function"]["name"] for tool in planned["tools"]] == ["weather"]
