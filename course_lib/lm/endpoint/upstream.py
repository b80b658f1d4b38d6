"""Real providers behind the endpoint, so that faults and the ledger work in front of them too.

Main path: Upstream.complete(request) -> completion body; Upstream.stream(request) -> chunks.
OpenAI's own format is passed through its client; other DSPy model strings go through LiteLLM. Both are
imported when needed.
A local model is served by a process of its own on loopback, which ends with this one.
Source: xllamacpp 2026.10 (CommonParams, Server).
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from course_lib.errors import CourseError
from course_lib.lm import prices, tokens
from course_lib.lm.endpoint import wire
from course_lib.lm.endpoint.wire import ApiError, ChatRequest, unknown_model

_PROVIDERS = "openai anthropic gemini groq mistral deepseek openrouter xai fireworks_ai"
KEY_VARIABLES = {name: f"{name.upper()}_API_KEY" for name in _PROVIDERS.split()}
KEY_VARIABLES["together_ai"] = "TOGETHERAI_API_KEY"
"""Where the best-known providers' keys are looked for; others are left to LiteLLM."""

_OPENAI = "https://api.openai.com/v1"
_WAIT_S = 600.0


class CapError(CourseError):
    """COURSE_LM_CAP_USD is not an amount."""


class Upstream:
    """The way out to providers, and what has been spent there."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self._cap_usd = _cap_usd(self._environ.get("COURSE_LM_CAP_USD", ""))
        self._client: Any = None
        self.spent_usd = 0.0

    def check(self, model: str) -> None:
        """Make sure that `model` can be asked: its key is there, or its file.

        Raises:
            ApiError: 401 for a missing key, 404 for a local model that is not installed.
        """
        if model == "local":
            local_file(self._environ)
            return
        variable = KEY_VARIABLES.get(model.partition("/")[0])
        if variable and not self._environ.get(variable):
            message = f"{model} needs {variable}, which the endpoint does not have; set it before the first "
            message += "lm.connect(), or call lm.stop() after setting it, then connect again"
            raise ApiError(401, "invalid_api_key", message)

    async def complete(self, request: ChatRequest) -> dict[str, Any]:
        """Ask the provider for a whole answer.

        Raises:
            ApiError: what the provider answered instead, or why it could not be reached.
        """
        self._afford(request)
        with self._reported(request.model):
            answer = _plain(await self._ask(request.unstreamed))
        written = sum(wire.count_message(choice["message"]) for choice in answer["choices"])
        answer.setdefault("usage", wire.usage(request.prompt_tokens, written))
        self._spend(request.model, answer["usage"])
        return {**answer, "model": request.full_model}

    async def stream(self, request: ChatRequest) -> AsyncIterator[dict[str, Any]]:
        """Ask for a stream; yields OpenAI chunks, among them one with usage.

        Raises:
            ApiError: as in `complete`.
        """
        self._afford(request)
        body = {**request.body, "stream": True, "stream_options": {"include_usage": True}}
        used: dict[str, Any] | None = None
        text: list[str] = []
        try:
            with self._reported(request.model):
                async for event in await self._ask(body):
                    chunk = _plain(event)
                    used, choices = chunk.get("usage") or used, chunk.get("choices", ())
                    text += [choice.get("delta", {}).get("content") or "" for choice in choices]
                    yield chunk
        finally:  # a stream that is left in the middle has been paid for as well
            self._spend(request.model, used or wire.usage(request.prompt_tokens, tokens.count("".join(text))))

    async def aclose(self) -> None:
        """Close the connections to providers."""
        if self._client is not None:
            await self._client.close()

    def _afford(self, request: ChatRequest) -> None:
        if self.spent_usd >= self._cap_usd and request.model != "local":
            reached = f"${self.spent_usd:.4f} of COURSE_LM_CAP_USD={self._cap_usd:g}"
            remedy = "raise the cap, call lm.stop() and connect again, or use sim-large"
            raise ApiError(429, "insufficient_quota", f"the spending cap is reached: {reached}; {remedy}")

    def _spend(self, model: str, used: Mapping[str, Any]) -> None:
        self.spent_usd += prices.cost_usd(model, *tokens.reported(used))

    async def _ask(self, body: dict[str, Any]) -> Any:
        """Return what the provider answers, or for a stream what yields its chunks."""
        provider, _, name = body["model"].partition("/")
        if provider not in ("local", "openai"):
            os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it downloads its price list
            litellm = await asyncio.to_thread(importlib.import_module, "litellm")
            return await litellm.acompletion(**body, timeout=_WAIT_S, num_retries=0)
        openai = await asyncio.to_thread(importlib.import_module, "openai")
        if self._client is None:
            wait = openai.Timeout(_WAIT_S, connect=20.0)
            self._client = openai.AsyncOpenAI(api_key="none", timeout=wait, max_retries=0)
        base = self._environ.get("OPENAI_API_BASE") or self._environ.get("OPENAI_BASE_URL") or _OPENAI
        if provider == "local":
            base = await asyncio.to_thread(local_url, self._environ)  # seconds, the first time
        return await self._client.with_options(base_url=base, api_key=self._key(provider) or "none").post(
            "/chat/completions",
            body={**body, "model": name or provider},
            cast_to=dict[str, Any],  # as it comes, fields included that this client does not know
            stream=body.get("stream", False),
            stream_cls=openai.AsyncStream[dict[str, Any]],
        )

    def _key(self, provider: str) -> str:
        return self._environ.get(KEY_VARIABLES.get(provider, ""), "")

    @contextmanager
    def _reported(self, model: str) -> Iterator[None]:
        """Turn what a provider's client raises into ApiError."""
        try:
            yield
        except ApiError:
            raise
        except ImportError:
            message = f"{model} needs LiteLLM; install it with: pip install litellm"
            raise ApiError(404, "model_not_found", message) from None
        except json.JSONDecodeError:
            message = f"{model} answered with something that is not JSON"
            raise ApiError(502, "bad_upstream", message) from None
        except Exception as error:  # border: LiteLLM has classes of its own for what a provider said
            raise _refusal(error, model, self._key(model.partition("/")[0])) from None


def _plain(answer: Any) -> dict[str, Any]:
    if isinstance(answer, str):  # a server that does not say that it sends JSON
        answer = orjson.loads(answer)
    return dict(answer) if isinstance(answer, dict) else answer.model_dump(exclude_none=True)


def _refusal(error: Exception, model: str, key: str) -> ApiError:
    """Return what a provider answered instead, without the key that was sent."""
    import openai

    if isinstance(error, openai.APITimeoutError):
        return ApiError(504, "upstream_timeout", f"{model} did not answer in time ({error!r})")
    status, body = getattr(error, "status_code", None), getattr(error, "body", None)
    if isinstance(error, openai.APIConnectionError) and status is None:
        return ApiError(502, "bad_upstream", f"{model} cannot be reached ({error.__cause__ or error!r})")
    message = str(body.get("message") or error) if isinstance(body, dict) else str(error)
    code = getattr(error, "code", None) or getattr(error, "type", None) or "bad_upstream"
    if key:
        message = message.replace(key, "(key)")
    wait = getattr(getattr(error, "response", None), "headers", {}).get("retry-after", "")
    retry_after_s = float(wait) if wait.replace(".", "", 1).isdigit() else None
    return ApiError(int(status or 502), str(code), f"{model}: {message}", retry_after_s=retry_after_s)


def _cap_usd(text: str) -> float:
    try:
        cap = float(text or "inf")
    except ValueError:
        cap = -1.0
    if not cap >= 0:  # nan is neither
        raise CapError(f"COURSE_LM_CAP_USD is {text!r}; it should be an amount in dollars, such as 2.50")
    return cap


# -- a small real model on this machine, through llama.cpp's own server (the optional package xllamacpp) ---

_SERVE = """
import os, sys, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.port = sys.argv[1], 0                     # on 127.0.0.1, its default, at a free port
p.n_ctx, p.n_parallel, p.use_jinja = 8192, 1, True
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1   # on a shared machine two are slower than one
server = xllamacpp.Server(p)
print(server.listening_address, flush=True)
while os.read(0, 4096): pass                              # the endpoint ended, however it did
os._exit(0)
"""

_lock = threading.Lock()
_running: subprocess.Popen[str] | None = None
_address = ""


def local_file(environ: Mapping[str, str]) -> Path:
    """Return the model file.

    Raises:
        ApiError: 404 when llama.cpp or the file is missing, with the remedy.
    """
    named = environ.get("COURSE_LM_MODEL_FILE", "")
    if importlib.util.find_spec("xllamacpp") is None:
        why = "the package xllamacpp is not installed; install it with: pip install xllamacpp"
    elif not named:
        why = "COURSE_LM_MODEL_FILE is not set; let it name a GGUF file"
    elif not Path(named).expanduser().is_file():
        why = f"COURSE_LM_MODEL_FILE names {named!r}, which is not a file; let it name a GGUF file"
    else:
        return Path(named).expanduser()
    raise unknown_model(f"the local model is not available: {why}, or use COURSE_LM=sim")


def local_url(environ: Mapping[str, str]) -> str:
    """Return the address of the local model's server; starts it if it is not running, which takes seconds.

    Raises:
        ApiError: 404 as in `local_file`, 503 when llama.cpp could not load the file.
    """
    global _running, _address
    file = local_file(environ)
    with _lock, tempfile.TemporaryFile("w+") as log:
        if _running is None or _running.poll() is not None:
            command = [sys.executable, "-P", "-c", _SERVE, str(file)]
            pipe = subprocess.PIPE
            _running = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True)  # noqa: S603
            assert _running.stdout is not None
            _address = _running.stdout.readline().strip()
            if not _address:
                log.seek(0)
                said = " / ".join(log.read().strip().splitlines()[-3:])
                message = f"llama.cpp could not load {str(file)!r}: {said}"
                raise ApiError(503, "local_model_failed", message)
    return f"{_address if '://' in _address else f'http://{_address}'}/v1"
