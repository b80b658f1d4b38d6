"""A provider's prompt cache, simulated: the beginning of a long prompt is cheaper and faster the next time.

Main path: Prefixes.read(model, body, prompt_tokens, now_s) -> how many of the prompt's tokens were there.
Source: OpenAI's guide to prompt caching: from 1,024 tokens on, in steps of 128, exact prefixes only, tools
and response schema before the messages, 5 to 10 minutes in memory without use, or 24 hours if asked for.

What is simulated is the account-keeping. Nothing is computed faster; a profile with latency waits less.
Left out: the routing between a provider's machines, which loses hits; so `prompt_cache_key` has no effect.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import islice, takewhile
from typing import Any

from course_lib.lm import tokens
from course_lib.lm.endpoint.wire import prompt_parts

MIN_TOKENS = 1024
"""Shorter prompts are never cached."""
STEP_TOKENS = 128
IDLE_S = 300.0
"""A prefix that nobody has used for this long is forgotten."""
LONG_IDLE_S = 24 * 3600.0
"""The same for a request with `prompt_cache_retention="24h"`."""
MAX_MARKS = 4_000
"""Steps remembered per client, about 300 KB; those longest unused go first."""

_MAX_PIECES = MIN_TOKENS + STEP_TOKENS * (MAX_MARKS // 2)
"""Of a prompt, what lies behind is not remembered."""


class Prefixes:
    """What one client's prompts began with, lately."""

    def __init__(self) -> None:
        self._forget_at_s: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._forget_at_s)

    def read(self, model: str, body: Mapping[str, Any], prompt_tokens: int, now_s: float) -> int:
        """Return how many tokens of the prompt are remembered, and remember all of it from now on."""
        if prompt_tokens < MIN_TOKENS:
            return 0
        marks = list(_marks(model, body))
        kept = self._forget_at_s
        known = takewhile(lambda marked: kept.get(marked[1], 0.0) > now_s, marks)
        cached = max((tokens_so_far for tokens_so_far, _ in known), default=0)
        idle_s = LONG_IDLE_S if body.get("prompt_cache_retention") == "24h" else IDLE_S
        for _, mark in reversed(marks):  # the shortest last, so that it is dropped last
            kept[mark] = max(kept.pop(mark, 0.0), now_s + idle_s)
        while len(kept) > MAX_MARKS:
            kept.popitem(last=False)
        return cached


def shared_tokens(first: Mapping[str, Any], second: Mapping[str, Any]) -> int:
    """Return how many tokens two request bodies have in common from the beginning, uncut.

    >>> body = {"messages": [{"role": "user", "content": "Where is my parcel?"}]}
    >>> shared_tokens(body, {"messages": [{"role": "user", "content": "Where is my tent?"}]})
    7
    """
    pairs = zip(_pieces(first), _pieces(second), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def cacheable_tokens(shared: int) -> int:
    """Return how many of the `shared` first tokens of two prompts the second gets from the cache.

    >>> [cacheable_tokens(n) for n in (1023, 1024, 1300)]
    [0, 1024, 1280]
    """
    return shared // STEP_TOKENS * STEP_TOKENS if shared >= MIN_TOKENS else 0


def _pieces(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield the prompt's tokens; what is no text is one piece, and empty ones for the rest of its tokens."""
    for text, fixed in prompt_parts(body):
        yield from [text, *[""] * (fixed - 1)] if fixed else tokens.split(text)


def _marks(model: str, body: Mapping[str, Any]) -> Iterator[tuple[int, bytes]]:
    """Yield (tokens so far, digest of all of them) at each step where a prefix can end."""
    pieces = list(islice(_pieces(body), _MAX_PIECES))
    digest = hashlib.blake2b(model.encode(), digest_size=16)
    for end in range(STEP_TOKENS, len(pieces) + 1, STEP_TOKENS):
        digest.update("\x1f".join(["", *pieces[end - STEP_TOKENS : end]]).encode("utf-8", "surrogatepass"))
        if end >= MIN_TOKENS:
            yield end, digest.digest()
