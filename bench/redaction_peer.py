"""Another way to find personal data, for bench_redaction: Presidio's patterns, without a model of language.

Presidio finds names with a model of spaCy's, which is no package of an index, and takes 300 MB itself:
too much for the dev extra. A virtual environment of its own, with this project in it, runs the bench
with it. The corpus is ours, with what ours looks for: what Presidio leaves of it says where they differ,
not which is better.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

KINDS = ("email", "phone", "iban", "card", "ip")
"""Of the corpus, those for which Presidio has patterns; an address below .example is none to it."""


def presidio() -> Callable[[str], str] | None:
    """Return what takes personal data out of an English text; None where Presidio is not installed."""
    if find_spec("presidio_analyzer") is None:
        print("Presidio: not compared, since presidio_analyzer is not installed")
        return None
    import spacy
    import tldextract
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    class Blank(SpacyNlpEngine):
        def __init__(self) -> None:
            super().__init__()
            self.nlp = {"en": spacy.blank("en")}

    tldextract.extract = tldextract.TLDExtract(
        suffix_list_urls=()
    )  # it would fetch its list at the first address
    analyzer = AnalyzerEngine(nlp_engine=Blank(), supported_languages=["en"])

    def redact(text: str) -> str:
        for found in sorted(analyzer.analyze(text, language="en"), key=lambda each: -each.start):
            text = f"{text[: found.start]}[{found.entity_type}]{text[found.end :]}"
        return text

    return redact
