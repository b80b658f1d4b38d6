"""A model name that DSPy does not know loses native tools and JSON schemas without a word."""

from __future__ import annotations

import warnings

import dspy
import pytest

from course_lib import lm
from tests.traps.conftest import SOLVED


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


class Plan(dspy.Signature):
    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    calls: dspy.ToolCalls = dspy.OutputField()


@pytest.fixture
def declared(script, monkeypatch):
    """A script, and the LM that lm.connect() makes for it."""
    served = script('{"answer": "4"}')
    monkeypatch.setenv("COURSE_LM_URL", served.url)
    monkeypatch.setenv("COURSE_LM_KEY", "k")
    return served, lm.connect("sim-large", cache=False)


def test_plain_dspy_sends_no_schema_to_a_server_of_ones_own_and_says_nothing(script):
    served = script('{"answer": "4"}')

    json_only = dspy.context(lm=served.plain_lm(), adapter=dspy.JSONAdapter())
    with warnings.catch_warnings(record=True) as said, json_only:
        dspy.Predict("question -> answer")(question="2 + 2?")

    assert "response_format" not in served.bodies[0], SOLVED.format("unknown models get a JSON schema")
    assert said == []


def test_plain_dspy_sends_no_tools_to_a_server_of_ones_own(script):
    served = script('{"calls": {"tool_calls": []}}')

    with dspy.context(lm=served.plain_lm(), adapter=dspy.JSONAdapter()):
        dspy.Predict(Plan)(question="weather in Oslo?", tools=[dspy.Tool(weather)])

    assert "tools" not in served.bodies[0], SOLVED.format("unknown models get native tools")


def test_a_declared_provider_sends_the_schema(declared):
    served, model = declared

    with dspy.context(lm=model, adapter=dspy.JSONAdapter()):
        dspy.Predict("question -> answer")(question="2 + 2?")

    assert served.bodies[0]["response_format"]["type"] == "json_schema"


def test_a_declared_provider_sends_the_tools(declared):
    served, model = declared

    with dspy.context(lm=model, adapter=dspy.JSONAdapter()):
        dspy.Predict(Plan)(question="weather in Oslo?", tools=[dspy.Tool(weather)])

    assert [tool["function"]["name"] for tool in served.bodies[0]["tools"]] == ["weather"]
