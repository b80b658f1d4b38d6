"""Text tools: right on the desk's texts, quick on any text."""

from __future__ import annotations

import pytest

from course_lib.adapters.tools.limits import ToolRefused
from course_lib.adapters.tools.text import PATTERNS, cut_at_sentence, extract, text_tools

EXTRACTED = {
    "email": (
        "Write ann.b+shop@mail.lantern.example, <x@y.de> or o'brien@shop.example; not a@b, @c.de, x@@y.de.",
        ["ann.b+shop@mail.lantern.example", "x@y.de", "o'brien@shop.example"],
    ),
    "email at its edges": (
        "'a@x.de' *b@x.de* “c@x.de”; .d@x.de e@x.de's f@xy@z.de a*g@x.de",
        ["a@x.de", "b@x.de", "c@x.de", "a*g@x.de"],
    ),
    "order": ("O-10001 and (O-10002), not O-1, XO-10003, O-100044 or O-10001", ["O-10001", "O-10002"]),
    "customer": ("C-001, C-0011, c-002", ["C-001"]),
    "ticket": ("T-0001? T-00012", ["T-0001"]),
    "amount": ("79.90 EUR, €12, 5 euros and 1,50 €; not 12 kg", ["79.90 EUR", "€12", "5 euros", "1,50 €"]),
    "amount with groups": ("It was €1,250.00, then 1.250,00 €.", ["€1,250.00", "1.250,00 €"]),
    "amount with other blanks": ("€1\u202f250,50 or 1\u00a0250 EUR", ["€1\u202f250,50", "1\u00a0250 EUR"]),
    "amount below nothing": ("-5 EUR, \u22127 EUR and €-3", ["-5 EUR", "\u22127 EUR", "€-3"]),
    "amount in part": (
        "0,125 EUR, €1,25,000, 1.2345 EUR, 1,250,00 EUR, 10001 250 EUR, 2x12 EUR, €1.250.00",
        [],
    ),
    "amount of another kind": ("5-10 EUR, €5-10, 1/2 EUR, €5 million, €12:50, EUR 12 USD, €12€, 12%EUR", []),
    "date": ("from 2026-05-31 to 2026-13-01", ["2026-05-31"]),
}


@pytest.mark.parametrize(
    ("kind", "text", "found"), [(k.split()[0], *v) for k, v in EXTRACTED.items()], ids=EXTRACTED
)
def test_things_are_extracted_once_and_in_order(kind, text, found):
    assert extract(text, kind) == found


def test_a_text_is_cut_at_a_sentence_or_else_at_a_word():
    text = "The pole broke, e.g. in wind. I want a new one! Soon."

    assert cut_at_sentence(text, 100) == text
    assert cut_at_sentence(text, 50) == "The pole broke, e.g. in wind. I want a new one!"
    assert cut_at_sentence(text, 29) == "The pole broke, e.g. in wind."
    assert cut_at_sentence(text, 22) == "The pole broke, e.g.…"
    assert cut_at_sentence("x" * 30, 5) == "xxxx…"


def test_the_tools_answer_text_and_refuse_what_is_too_long():
    tools = {tool.name: tool for tool in text_tools()}

    assert tools["extract"](text="O-10001", kind="order") == '["O-10001"]'
    assert tools["extract"](text="x", kind="iban").startswith("refused: bad argument: kind")
    with pytest.raises(ToolRefused, match="100001 characters"):
        extract("x" * 100_001, "order")


HOSTILE = "a a. a@ a@a. a.a@a O-1000 €1 1 1, 2026-05-3 ' a' .) -a"


@pytest.mark.parametrize("unit", [*HOSTILE.split(), " ", ". "])
def test_no_text_makes_a_tool_slow(unit):
    text = unit * (100_000 // len(unit))  # minutes, if a pattern's time grew with the square

    for characters in (1, 2, 90_000):
        assert len(cut_at_sentence(text, characters)) <= characters
    for kind in PATTERNS:
        extract(text, kind)
