"""Real providers behind the endpoint: one endpoint forwards to another, as it would to OpenAI."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from pathlib import Path

import openai
import pytest

from course_lib.lm.endpoint import upstream
from course_lib.lm.endpoint.server import Endpoint
from course_lib.lm.endpoint.upstream import CapError, Upstream
from tests.lm.conftest import Echo, Served
from tests.lm.endpoint.test_server import TOOL, ask, define, final_choice, ledger

Chain = Callable[..., Served]
KEY = "sk-a-secret-key"


@pytest.fixture
def chain(echo: Served, serve: Callable[[Endpoint], Served]) -> Chain:
    """Start an endpoint whose way out leads to the echo endpoint."""

    def start(**environ: str) -> Served:
        way_out = {"OPENAI_API_BASE": echo.url, "OPENAI_API_KEY": KEY, **environ}
        return serve(Endpoint(Echo(), upstream=Upstream(way_out)))

    return start


@pytest.mark.parametrize("stream", [False, True])
def test_a_hosted_model_is_asked_with_its_own_name_and_key(chain: Chain, echo: Served, stream: bool) -> None:
    front = chain()

    answer = ask(front, "openai/sim-small", stream=stream)

    assert {part.model for part in (answer if stream else [answer])} == {"openai/sim-small"}
    assert said_and_counted(front) == ("openai/sim-small", "one two three", 7, 3)
    assert [call["model"] for call in ledger(echo, KEY)["calls"]] == ["sim-small"]
    assert KEY not in str(ledger(front))
    called = final_choice(front, "openai/sim-large", stream=stream, tools=[TOOL]).message.tool_calls[0]
    assert called.function.name == "search"


def said_and_counted(front: Served) -> tuple[str, str, int, int]:
    call = ledger(front)["calls"][0]
    return call["model"], call["reply"], call["prompt_tokens"], call["completion_tokens"]


def test_faults_work_in_front_of_a_hosted_model(chain: Chain, echo: Served) -> None:
    front = chain()
    define(front, "down", unavailable_rate=1)
    define(front, "odd", prose_around_rate=1)

    with pytest.raises(openai.InternalServerError):
        ask(front, "openai/sim-large@down")
    assert ledger(echo, KEY)["requests"] == 0
    assert ask(front, "openai/sim-large@odd").choices[0].message.content.startswith("Sure!")


@pytest.mark.parametrize("stream", [False, True])
def test_the_providers_errors_come_through_without_the_key(chain: Chain, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError, match=r"openai/gpt-9: no model named"):
        ask(chain(), "openai/gpt-9", stream=stream)
    with pytest.raises(openai.NotFoundError, match=r"no model named .*\(key\)"):
        ask(chain(OPENAI_API_KEY="gpt-9"), "openai/gpt-9")  # the provider repeats the model's name
    with pytest.raises(openai.AuthenticationError, match="anthropic/claude-9 needs ANTHROPIC_API_KEY"):
        ask(chain(), "anthropic/claude-9")
    with pytest.raises(openai.InternalServerError, match=r"cannot be reached") as caught:
        ask(chain(OPENAI_API_BASE="http://127.0.0.1:9/v1"), "openai/sim-large", stream=stream)
    assert caught.value.status_code == 502


@pytest.mark.parametrize("stream", [False, True])
def test_past_the_cap_there_is_no_more_money(chain: Chain, echo: Served, stream: bool) -> None:
    front = chain(COURSE_LM_CAP_USD="0.00001")

    ask(front, "openai/sim-large", stream=True)
    with pytest.raises(openai.RateLimitError, match="the spending cap is reached") as caught:
        ask(front, "openai/sim-large", stream=stream)

    assert caught.value.code == "insufficient_quota"
    assert ledger(echo, KEY)["requests"] == 1
    with front.http() as http:
        http.post("/course/reset")
    with pytest.raises(openai.RateLimitError):  # a reset of the ledger gives no money back
        ask(front, "openai/sim-large", stream=stream)
    assert ask(front, "sim-large").choices


@pytest.mark.parametrize("cap", ["lots", "-1", "nan"])
def test_a_cap_that_is_no_amount_is_refused(cap: str) -> None:
    with pytest.raises(CapError, match=f"COURSE_LM_CAP_USD is '{cap}'; it should be an amount in dollars"):
        Upstream({"COURSE_LM_CAP_USD": cap})


# Importing LiteLLM takes over two seconds, once.
@pytest.mark.filterwarnings("ignore")  # LiteLLM's own
@pytest.mark.parametrize("stream", [False, True])
def test_other_model_strings_go_through_litellm(
    serve: Callable[[Endpoint], Served], echo: Served, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setenv("HOSTED_VLLM_API_BASE", echo.url)
    monkeypatch.setenv("HOSTED_VLLM_API_KEY", "vllm")
    front = serve(Endpoint(Echo(), upstream=Upstream()))

    choice = final_choice(front, "hosted_vllm/sim-large", stream=stream)

    assert choice.message.content == "one two three"
    assert said_and_counted(front) == ("hosted_vllm/sim-large", "one two three", 7, 3)
    with pytest.raises(openai.NotFoundError, match="no model named"):
        ask(front, "hosted_vllm/gpt-9")
    gc.collect()  # LiteLLM leaves sockets to the collector; let it complain here, where that is ignored


LLAMA = """
import http.server, json, threading

class CommonParams:
    def __init__(self):
        self.model = self.cpuparams = self.cpuparams_batch = type("Group", (), {})()

class Server:
    def __init__(self, params):
        if "broken" in params.model.path:
            raise RuntimeError("not a GGUF file")
        server = http.server.HTTPServer(("127.0.0.1", params.port), Answer)
        self.listening_address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()

class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        message = {"role": "assistant", "content": asked["messages"][-1]["content"].upper()}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
        sent = json.dumps({"id": "x", "created": 0, "choices": [choice], "usage": usage})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(sent.encode())
"""


@pytest.fixture
def llama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Stand in for the package xllamacpp, which is not locked; returns what makes a model file."""
    (tmp_path / "xllamacpp.py").write_text(LLAMA)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def file(name: str) -> str:
        (tmp_path / name).write_text("GGUF")
        return str(tmp_path / name)

    return file


def test_a_local_model_answers_from_a_process_of_its_own(chain: Chain, llama: Callable[[str], str]) -> None:
    front = chain(COURSE_LM_MODEL_FILE=llama("small.gguf"))

    assert [ask(front, "local").choices[0].message.content for _ in range(2)] == ["ONE TWO THREE"] * 2

    assert ledger(front)["cost_usd"] == 0
    with upstream._running as child:  # ends when its stdin does
        pass
    assert child.returncode == 0


def test_a_local_model_that_cannot_be_loaded_says_why(chain: Chain, llama: Callable[[str], str]) -> None:
    front = chain(COURSE_LM_MODEL_FILE=llama("broken.gguf"))

    with pytest.raises(openai.InternalServerError, match=r"could not load .*broken.gguf.*not a GGUF file"):
        ask(front, "local")


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "COURSE_LM_MODEL_FILE is not set; let it name a GGUF file, or use COURSE_LM=sim"),
        ({"COURSE_LM_MODEL_FILE": "/no/such.gguf"}, "names '/no/such.gguf', which is not a file"),
    ],
)
def test_a_local_model_that_is_not_set_up_says_what_is_missing(
    chain: Chain, llama: Callable[[str], str], environ: dict[str, str], message: str
) -> None:
    with pytest.raises(openai.NotFoundError, match=re.escape(message)):
        ask(chain(**environ), "local")
