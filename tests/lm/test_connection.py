"""DSPy on the endpoint: both engines, sync and async, streams, tools, schemas, faults as DSPy's errors."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import dspy
import pytest

from course_lib import lm
from course_lib.lm.connection import UnknownModelError


class Sentiment(dspy.Signature):
    """Say how the writer feels."""

    text: str = dspy.InputField()
    feeling: Literal["glad", "cross"] = dspy.OutputField()


@pytest.fixture(autouse=True, scope="module")
def _stopped() -> Iterator[None]:
    yield
    lm.stop()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    lm.reset()


@pytest.fixture
def _collected() -> Iterator[None]:
    yield
    asyncio.set_event_loop(None)
    gc.collect()  # what LiteLLM leaves open complains here, where that is ignored


def predict(model: dspy.LM, **inputs: str) -> dspy.Prediction:
    with dspy.context(lm=model, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):
        return dspy.Predict(Sentiment)(**(inputs or {"text": "I am glad it came"}))


def test_a_prediction_on_dspys_own_engine_also_after_a_restart_of_the_endpoint() -> None:
    model = lm.connect(cache=False, engine="lm15")
    lm.stop()
    lm.connect()

    assert predict(model).feeling in {"glad", "cross"}

    (call,) = lm.ledger().calls
    assert (call.model, call.profile) == ("sim-large", "calm")
    assert "[[ ## feeling ## ]]" in (call.reply or "")


# Importing LiteLLM takes over two seconds, once; the first of these tests pays for it.
@pytest.mark.filterwarnings("ignore")  # LiteLLM's and its dependencies' own
@pytest.mark.usefixtures("_collected")
def test_a_prediction_through_litellm_in_both_spellings() -> None:
    declared = lm.connect("sim-small", cache=False, engine="litellm")
    plain = dspy.LM("openai/sim-large", api_base=lm.url(), api_key=lm.key(), engine="litellm", cache=False)

    assert predict(declared).feeling == predict(plain).feeling

    assert [call.model for call in lm.ledger().calls] == ["sim-small", "sim-large"]


def settled() -> lm.Ledger:
    """Return the ledger once nothing is under way; the endpoint notices a moment later that a client left."""
    deadline_s = time.monotonic() + 5
    while (seen := lm.ledger()).under_way and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return seen


BOTH = pytest.mark.parametrize(
    "engine", ["lm15", pytest.param("litellm", marks=pytest.mark.filterwarnings("ignore"))]
)


@BOTH
@pytest.mark.usefixtures("_collected")
def test_async_calls_overlap(engine: str) -> None:
    async def ask_six() -> list[dspy.Prediction]:
        with dspy.context(lm=lm.connect("sim-large@mine", cache=False, engine=engine)):
            program = dspy.Predict(Sentiment)
            return await asyncio.gather(*(program.acall(text=f"glad {n}") for n in range(6)))

    lm.profile("mine", ttft_p50_ms=200)

    assert len(asyncio.run(ask_six())) == 6
    assert lm.ledger().most_at_once == 6


@BOTH
@pytest.mark.usefixtures("_collected")
def test_a_stream_arrives_in_pieces(engine: str) -> None:
    async def stream() -> list[object]:
        listeners = [dspy.streaming.StreamListener("answer")]
        with dspy.context(lm=lm.connect(cache=False, engine=engine), adapter=dspy.ChatAdapter()):
            qa = dspy.Predict("question -> answer")
            program = dspy.streamify(qa, stream_listeners=listeners, is_async_program=True)
            return [item async for item in program(question="What is 12 plus 30? Show it as a number.")]

    *pieces, prediction = asyncio.run(stream())

    assert isinstance(prediction, dspy.Prediction)
    text = "".join(piece.chunk for piece in pieces if isinstance(piece, dspy.streaming.StreamResponse))
    assert text == prediction.answer
    assert lm.ledger().calls[0].stream


def test_tools_and_schemas_are_switched_on_and_a_schema_is_answered() -> None:
    model = lm.connect(cache=False)
    with dspy.context(lm=model, adapter=dspy.JSONAdapter()):
        answer = dspy.Predict(Sentiment)(text="I am glad")

    assert model.supports_function_calling
    assert model.supports_response_schema
    assert answer.feeling in {"glad", "cross"}
    assert lm.ledger().requests == 1


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        ("error", dspy.LMServerError, 500),
        ("unavailable", dspy.LMServerError, 503),
        ("cut_before", dspy.LMTransportError, 0),
        ("cut_midway", dspy.LMError, 200),
        ("hang", dspy.LMTransportError, 499),
        ("missing_field", dspy.AdapterParseError, 200),
    ],
)
def test_faults_are_dspys_own_errors(fault: str, error: type[Exception], status: int) -> None:
    lm.profile("mine", **{f"{fault}_rate": 1})
    model = lm.connect("sim-large@mine", cache=False, num_retries=0, timeout=0.5)

    with pytest.raises(error):
        predict(model)

    seen = settled()
    assert set(seen.faults) == {fault}
    assert set(seen.statuses) == {status}


def test_dspys_retries_get_through_a_profile_and_are_seen_in_the_ledger() -> None:
    lm.profile("mine", timeline=[(0, 0.5, {"unavailable_rate": 1})])  # DSPy waits a second before its retry

    predict(lm.connect("sim-large@mine", cache=False, num_retries=1))

    assert lm.ledger().statuses == {200: 1, 503: 1}


def test_the_profile_is_in_the_model_string_so_dspys_cache_keeps_them_apart() -> None:
    lm.profile("mine")
    for _ in range(2):
        predict(lm.connect("sim-large"), text="for the cache")
        predict(lm.connect("sim-large@mine"), text="for the cache")

    assert [call.profile for call in lm.ledger().calls] == ["calm", "mine"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("gpt-9", r"cannot connect to 'gpt-9': no model named 'gpt-9'; known: sim-large, sim-small, local"),
        ("sim@nope", r"cannot connect to 'sim-large@nope': no profile named 'nope'; known: "),
        ("local", r"the package xllamacpp is not installed; install it with: pip install xllamacpp"),
    ],
)
def test_what_does_not_exist_is_refused_before_any_call(model: str, message: str) -> None:
    with pytest.raises(UnknownModelError, match=message):
        lm.connect(model)

    assert lm.ledger().requests == 0


@BOTH
@pytest.mark.usefixtures("_collected")
def test_past_the_spending_cap_a_hosted_model_is_a_billing_error(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    monkeypatch.setenv("COURSE_LM_CAP_USD", "0")
    lm.stop()  # the endpoint reads both when it starts

    model = lm.connect("openai/gpt-4o-mini@busy", cache=False, engine=engine)

    assert model.model == "course/openai/gpt-4o-mini@busy"
    with pytest.raises(dspy.LMBillingError, match=r"the spending cap is reached: .* raise the cap"):
        predict(model)
    lm.stop()


def test_the_environment_chooses_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lm.connect().model == "course/sim-large"
    monkeypatch.setenv("COURSE_LM", "sim-small@busy")
    assert lm.connect().model == "course/sim-small@busy"


def test_a_program_saved_and_loaded_finds_the_endpoint(tmp_path: Path) -> None:
    program = dspy.Predict(Sentiment)
    program.set_lm(lm.connect(cache=False))
    program.save(tmp_path / "program.json")

    loaded = dspy.Predict(Sentiment)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded.load(tmp_path / "program.json")

    assert loaded(text="glad").feeling in {"glad", "cross"}
    assert lm.key() not in (tmp_path / "program.json").read_text()


def test_embeddings_come_from_the_endpoint() -> None:
    first, second = lm.embed(["a green tent", "the green tents"])

    assert sum(a * b for a, b in zip(first, second, strict=True)) > 0.3


# A process of its own imports DSPy: about two seconds.
def test_a_proxy_in_the_environment_does_not_come_between() -> None:
    code = "from course_lib import lm; lm.connect(cache=False)('Hello'); print(lm.ledger().requests)"
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")

    printed = subprocess.check_output([sys.executable, "-c", code], env={**os.environ, **proxies}, text=True)

    assert printed == "1\n"
