"""The one place where the endpoint meets DSPy: connect() returns a dspy.LM.

Main path: connect() starts the endpoint, imports dspy meanwhile, declares provider `course`, returns the LM.
Source: dspy.lm15.register_provider (dspy/lm15.py, DSPy 3.4.1); without the declaration an unknown model
name would lose native tool calls and JSON schemas.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

from course_lib.errors import CourseError
from course_lib.lm import client, process
from course_lib.lm.profiles import PROFILES, split_model

if TYPE_CHECKING:
    import dspy

PROVIDER = "course"
_registering = threading.Lock()


class UnknownModelError(CourseError):
    """A model or profile that the endpoint does not have."""


def connect(model: str | None = None, *, cache: bool = True, **lm_kwargs: Any) -> dspy.LM:
    """Return a dspy.LM on the course's endpoint, which is started if it is not running.

    `model` is `sim-large`, `sim-small`, `local` or a hosted model such as `openai/gpt-4o-mini`, with
    `@profile` if faults are wanted; None takes COURSE_LM, or else `sim-large`. The rest goes to dspy.LM.

    Raises:
        UnknownModelError: for a model or profile that does not exist, before any call is made.
        EndpointError: when the endpoint cannot be started or reached.
    """
    name = full_name(model)
    address = process.url()
    _spare_loopback_the_proxy()
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it is downloaded
    import dspy

    process.check_alive()
    client.restore_profiles()
    _check(name)
    with _registering:  # an LM binds the declaration that holds when it is made
        _register(address, has_tools=split_model(name)[0] != "local")
        made = dspy.LM(f"{PROVIDER}/{name}", cache=cache, **lm_kwargs)
    _engines[made._engine_lock] = made._engine_store  # noqa: SLF001  copies of the model share both
    return made


def full_name(model: str | None) -> str:
    """Return the model string that the endpoint is asked for.

    >>> full_name("sim@storm"), full_name("course/sim-small")
    ('sim-large@storm', 'sim-small')
    """
    name = (model or os.environ.get("COURSE_LM") or "sim").removeprefix(f"{PROVIDER}/")
    head, at, profile = name.partition("@")
    return f"{'sim-large' if head == 'sim' else head}{at}{profile}"


def _check(name: str) -> None:
    model, profile = split_model(name)
    is_own = not os.environ.get("COURSE_LM_URL")
    if is_own and model in ("sim-large", "sim-small") and profile in (*PROFILES, *client.own_profiles):
        return  # nothing to ask, so nothing to wait for
    try:
        client.call("GET", f"/course/check?model={quote(name, safe='')}")
    except client.RefusedError as error:
        raise UnknownModelError(f"cannot connect to {name!r}: {error}") from None


def _register(address: str, *, has_tools: bool) -> None:
    """Declare the provider; small local models answer a tool call as text, so they are declared without."""
    from dspy import lm15

    access = lm15.AccessPolicy(provider=PROVIDER, base_url=address)
    definition = lm15.ProviderDefinition.chat(
        access, compat=lm15.OpenAIChatCompat(), placeholder_key=process.key()
    )
    supports = lm15.ModelSupport(function_calling=has_tools, response_schema=True)
    lm15.register_provider(definition, supports=supports, replace=True)


def _spare_loopback_the_proxy() -> None:
    """Keep proxies of the environment out of the way to 127.0.0.1."""
    if any(os.environ.get(name) for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")):
        for name in ("NO_PROXY", "no_proxy"):
            spared = os.environ.get(name, "")
            if "127.0.0.1" not in spared and spared != "*":
                os.environ[name] = f"{spared},127.0.0.1,localhost".lstrip(",")


_engines: WeakKeyDictionary[Any, dict[Any, Any]] = WeakKeyDictionary()
_of_the_parent: list[Any] = []


def _after_fork() -> None:
    """Let the models of a forked child open connections of their own; its parent's are only kept.

    On a connection that two processes read, each may get the reply to the other's question. Closing one here
    could take it out of the parent's event loop.
    """
    for lock, engines in list(_engines.items()):
        _of_the_parent.append(dict(engines))
        engines.clear()
        lock._at_fork_reinit()  # noqa: SLF001  another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork)
