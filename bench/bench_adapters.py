"""Formatting plus parsing: the custom adapter against ChatAdapter, on the desk's signatures with demos."""

from __future__ import annotations

import time
from typing import Any

from bench.ratio import paired, report

ROUNDS = 9
TURNS = 60
AT_MOST = 1.2


def seconds(adapter: Any, work: list[tuple[Any, list[Any], dict[str, Any], dict[str, Any]]]) -> float:
    """Format each request and parse a good reply to it, TURNS times."""
    replies = [adapter.format_assistant_message_content(sig, outputs) for sig, _, _, outputs in work]
    begun = time.process_time()
    for _ in range(TURNS):
        for (signature, demos, inputs, outputs), reply in zip(work, replies, strict=True):
            adapter.format(signature, demos, inputs)
            assert adapter.parse(signature, reply) == outputs
    return time.process_time() - begun


def main() -> bool:
    import dspy

    from course_lib import desk
    from course_lib.adapters import CustomAdapter
    from course_lib.adapters.prompt.measuring import Item, ReadTicket
    from course_lib.desk.programs import AnswerFromArticles, SortTicket

    ticket = desk.tickets("dev")[0]
    page = desk.article("return-policy").chunk
    work = [
        (
            SortTicket,
            desk.examples("train")[:8],
            {"ticket": ticket.text},
            {"category": "returns", "urgency": "low"},
        ),
        (
            ReadTicket,
            [],
            {"ticket": ticket.text},
            {
                "summary": "A lamp is broken.",
                "products": [Item(product="lamp", quantity=1)],
                "category": "returns",
            },
        ),
        (
            AnswerFromArticles,
            [],
            {"context": [page, page], "question": "How long?"},
            {"answer": "Within 30 days.\nSale items too.", "citations": ["return-policy"]},
        ),
    ]
    ours, theirs = CustomAdapter(), dspy.ChatAdapter()
    ratio = paired(lambda: seconds(ours, work), lambda: seconds(theirs, work), rounds=ROUNDS)
    return report("custom adapter to ChatAdapter, format and parse", ratio, unit="s", at_most=AT_MOST)
