"""Of a corpus of personal data, nothing is in any span, log line or metric, whatever brought it there."""

from __future__ import annotations

import json

import dspy
import pytest

from course_lib import lm
from course_lib.debugging import MetricsCollector, TraceLogger, Tracer, record
from course_lib.redaction import redact
from tests.redaction import corpus

ITEMS = corpus.items(9)


class Echoes(dspy.Module):
    """Gives back what it gets, and asks a tool that fails with it."""

    def __init__(self):
        super().__init__()
        self.look_up = dspy.Tool(self._look_up, name="look_up")

    def _look_up(self, note: str) -> str:
        """Look something up."""
        raise LookupError(f"nothing for {note}")

    def forward(self, ticket, history):
        with pytest.raises(LookupError):
            self.look_up(note=ticket)
        return dspy.Prediction(answer=ticket, seen=[{"turn": ticket}, *history])


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """All that was written: attributes and status of spans, in memory and in a file; log lines; metrics."""
    path, lines = tmp_path_factory.mktemp("spans") / "run.jsonl", []
    tracer, logger, metrics = (
        Tracer(content=True, file=path),
        TraceLogger(lines.append, content=True),
        MetricsCollector(),
    )
    with tracer, logger, metrics:
        for item in ITEMS:
            Echoes()(ticket=item.text, history=[item.text])
    spans = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    kept = [f"{dict(span.attributes)}{span.status.description}" for span in tracer.spans]
    filed = [json.dumps([span["attributes"], span["status"]], ensure_ascii=False) for span in spans]
    ids = ("trace_id", "span_id", "parent_id", "ms")
    logged = [str([value for name, value in json.loads(line).items() if name not in ids]) for line in lines]
    return kept, filed, logged, metrics.text()


def test_nothing_personal_is_in_any_span_file_or_log_line(said):
    *written, _ = said
    for texts in written:
        assert len(texts) == 2 * len(ITEMS)
        left = [
            (item.kind, item.value, text)
            for number, item in enumerate(ITEMS)
            for text in texts[2 * number : 2 * number + 2]
            if any(part in text for part in item.telling)
        ]
        assert left == []


def test_what_is_no_secret_is_still_there(said):
    kept, *_ = said
    assert sum("[" in text for text in kept) > len(ITEMS)
    assert any("Where is [id]?" in text for text in kept)
    assert "LookupError: nothing for" in "".join(kept)


def test_nothing_of_it_is_in_the_metrics(said):
    assert {"Echoes", "look_up"} & set(said[-1].split('"')) == {"Echoes"}
    assert [item.value for item in ITEMS if item.value in said[-1]] == []


CUSTOMER = {"last_name": "Kovács", "street": "Váci utca", "pin": "4821", "phone": 12345}


class Asks(dspy.Module):
    """Asks a model about a customer, and fails with what it knows of one."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("customer: dict, question -> answer")

    def forward(self, customer):
        self.ask(customer=customer, question="What is 2 + 3?")
        raise ValueError({"last_name": customer["last_name"]})


def test_what_a_fields_name_tells_is_in_no_span_line_or_recording_of_a_model(tmp_path):
    path, lines = tmp_path / "run.jsonl", []
    with (
        dspy.context(lm=lm.connect("sim-small", cache=False)),
        TraceLogger(lines.append, content=True) as tracer,
        record(path, redact=redact),
        pytest.raises(ValueError, match="Kovács"),
    ):
        Asks()(customer=CUSTOMER)

    shown = [f"{dict(span.attributes)}{span.status.description}" for span in tracer.spans]
    assert any("gen_ai.input.messages" in each for each in shown)
    for text in (*shown, *lines, path.read_text("utf-8")):
        assert [each for each in ("Kovács", "Váci", "4821", "12345") if each in text] == []
