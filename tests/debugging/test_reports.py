"""Graph and advice follow from a run's spans: what is planted is found, and nothing where nothing is."""

from __future__ import annotations

import html
import json
import re
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import dspy
import pytest

from course_lib import desk, lm
from course_lib.debugging import Graph, Tracer, bottlenecks, execution_graph, tree
from course_lib.debugging.steps import Span, SpanError, spans_of, steps_of

QUESTIONS = ["How long is the warranty of a tent?", "When is my refund paid out?"]


class Desk(dspy.Module):
    """Sorts a ticket, then answers it."""

    def __init__(self) -> None:
        super().__init__()
        self.triage, self.answer = desk.Triage(), desk.Answer()

    def forward(self, ticket: str) -> dspy.Prediction:
        category = self.triage(ticket=ticket).category
        return self.answer(question=f"{category}: {ticket}")


def traced(call: Any, model: str = "sim-large", **options: Any) -> Tracer:
    with (
        dspy.context(lm=lm.connect(model, cache=False, **options)),
        Tracer(content=True) as tracer,
    ):
        call()
    return tracer


def kinds(tracer: Tracer) -> list[str]:
    return [each.kind for each in bottlenecks(tracer.spans).advice]


def found(tracer: Tracer, kind: str) -> Any:
    (advice,) = [each for each in bottlenecks(tracer.spans).advice if each.kind == kind]
    return advice


# -- graph -----------------------------------------------------------------------------------------------


def test_the_graph_shows_who_called_whom_how_often_with_a_title_and_a_text() -> None:
    program = Desk()
    graph = execution_graph(
        traced(lambda: [program(ticket=each) for each in QUESTIONS]).spans, title="The desk"
    )

    edges = [(graph.boxes[above][0], graph.boxes[below][0]) for above, below in graph.arrows]
    assert graph.boxes[0][1].startswith("2 calls, ")
    assert edges == [
        ("Desk", "Triage"),
        ("Triage", "Predict(SortTicket)"),
        ("Predict(SortTicket)", "chat sim-large"),
        ("Desk", "Answer"),
        ("Answer", "FindArticles"),
        ("Answer", "Predict(AnswerFromArticles)"),
        ("Predict(AnswerFromArticles)", "chat sim-large"),
    ]
    assert "    Predict(SortTicket): 2 calls" in repr(graph)
    assert f'aria-label="The desk. {html.escape(repr(graph))}"' in graph._repr_html_()


def test_a_box_stands_above_the_middle_of_its_own_and_takes_the_colours_of_the_theme() -> None:
    graph = Graph("", [("a", "b"), ("c",), ("d",), ("x" * 99,)], [(0, 1), (0, 2), (1, 3), (2, 3)], "")
    picture = ElementTree.fromstring(graph._repr_html_())

    boxes = picture.findall(".//rect")
    x, y = ([float(box.get(axis)) for box in boxes] for axis in "xy")
    assert x[0] == (x[1] + x[2]) / 2
    assert y[0] < y[1] == y[2] < y[3]
    assert x[3] == x[1]  # below the first of two
    assert len(picture.findall(".//path")) == 4
    assert [text.text for text in picture.iter("text")] == ["a", "b", "c", "d", f"{'x' * 39}…"]
    styles = [each.get("style") for each in picture.findall(".//svg/*")]
    assert all("var(--jp-" in style for style in styles)


def test_adapters_are_left_out_and_no_name_breaks_the_drawing() -> None:
    spans = [
        Span("1", None, "module", 'a "b" <c>; d', 0, 1),
        Span("2", "1", "format", "ChatAdapter.format", 0, 1),
    ]

    drawn = execution_graph(spans)._repr_html_()
    assert "ChatAdapter" not in drawn
    assert ">a &quot;b&quot; &lt;c&gt;; d</text>" in drawn


# -- advice ----------------------------------------------------------------------------------------------


def test_a_program_that_wastes_nothing_gets_no_advice_of_a_waste() -> None:
    wasteful = {"repeated", "sequential", "adapter_fallback", "retries", "truncated"}

    assert wasteful.isdisjoint(kinds(traced(lambda: Desk()(ticket=QUESTIONS[0]))))
    assert bottlenecks([]).advice == ()


def test_equal_requests_are_found_and_what_a_cache_would_save() -> None:
    tracer = traced(lambda: [desk.Triage()(ticket=QUESTIONS[0]) for _ in range(3)])
    advice = found(tracer, "repeated")
    usages = [s.attributes["gen_ai.usage.input_tokens"] for s in tracer.spans if s.name.startswith("chat")]

    assert len(advice.spans) == 2
    assert advice.seen.startswith("2 of 3 requests were asked before")
    assert advice.saves_tokens > 2 * usages[0]
    assert "repeated" not in kinds(traced(lambda: [desk.Triage()(ticket=each) for each in QUESTIONS]))


def test_calls_that_need_not_wait_are_found_and_such_as_need_a_result_are_not() -> None:
    class Both(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.triage, self.answer = desk.Triage(), desk.Answer()

        def forward(self, ticket: str) -> None:
            self.triage(ticket=ticket)
            self.answer(question=ticket)

    lm.profile("steady", ttft_p50_ms=100)
    advice = found(
        traced(lambda: [Both()(ticket=each) for each in QUESTIONS], "sim-large@steady"), "sequential"
    )

    assert advice.seen.startswith("Triage, Answer wait in Both")
    assert len(advice.spans) == 4
    assert advice.saves_s > 0.2
    assert "sequential" not in kinds(traced(lambda: Desk()(ticket=QUESTIONS[0]), "sim-large@steady"))


def test_an_adapter_that_asks_twice_is_found() -> None:
    lm.profile("first_broken", first=["missing_field"])

    advice = found(
        traced(lambda: desk.Triage()(ticket=QUESTIONS[0]), "sim-large@first_broken"), "adapter_fallback"
    )

    assert advice.seen.startswith("1 answers could not be parsed")
    assert advice.saves_tokens > 100


def test_answers_that_were_cut_off_are_found() -> None:
    program = dspy.Predict("context: list[str], question -> answer")
    context = desk.FindArticles()(question=QUESTIONS[0]).context

    advice = found(
        traced(lambda: program(question=QUESTIONS[0], context=context), max_tokens=25), "truncated"
    )

    assert "cut off by max_tokens" in advice.seen
    assert "Raise max_tokens" in str(advice)


def lm_span(number: int, begin: float, end: float, **attributes: Any) -> Span:
    return Span(
        f"l{number}", "m", "lm", "chat x", begin, end, {f"gen_ai.{k}": v for k, v in attributes.items()}
    )


def test_time_spent_on_waiting_for_a_retry_is_added_up() -> None:
    waits = tuple(("retry", {"attempt": n, "wait_s": 0.5}) for n in (1, 2))
    spans = [Span("m", None, "module", "M", 0, 2, {}, waits), lm_span(1, 1, 2)]

    (advice,) = [each for each in bottlenecks(spans).advice if each.kind == "retries"]

    assert advice.saves_s == 1.0
    assert "2 attempts failed and were repeated after 1.0 s" in advice.seen


def test_a_step_with_most_of_the_time_or_the_tokens_is_named_with_its_numbers() -> None:
    usage = {"usage.input_tokens": 2000, "usage.output_tokens": 20}
    spans = [
        Span("m", None, "module", "M", 0, 10),
        Span("t", "m", "tool", "execute_tool search", 0, 2),
        lm_span(1, 2, 10, **usage),
    ]

    report = bottlenecks(spans)

    advice = {each.kind: str(each) for each in report.advice}
    assert "80% of the time is M > chat x" in advice["slow_step"]
    assert "20 tokens a call at 400.0 ms each" in advice["slow_step"]
    assert "100% of the tokens are those of M > chat x, 99% of them sent" in advice["long_prompt"]
    assert re.search(r"80%\s+100%\s+1  M > chat x", repr(report))


def test_time_of_calls_that_overlap_is_counted_once() -> None:
    spans = [Span("m", None, "module", "M", 0, 10), lm_span(1, 1, 6), lm_span(2, 2, 8)]

    steps = steps_of(spans)

    assert steps["M",].self_s == 3
    assert steps["M", "chat x"].took_s == 11


def test_a_trace_without_content_says_what_cannot_be_told(tmp_path: Path) -> None:
    with dspy.context(lm=lm.connect(cache=False)), Tracer(file=tmp_path / "run.jsonl") as tracer:
        Desk()(ticket=QUESTIONS[0])

    report = repr(bottlenecks(tracer.spans))

    assert "Tracer(content=True)" in report
    assert repr(bottlenecks(tmp_path / "run.jsonl")) == report
    assert execution_graph(tmp_path / "run.jsonl") == execution_graph(tracer.spans)


def test_cached_calls_are_counted_and_cost_nothing() -> None:
    program = desk.Triage()
    with dspy.context(lm=lm.connect()), Tracer(content=True) as tracer:
        for _ in range(3):
            program(ticket="Is this one in the cache?")

    report = bottlenecks(tracer.spans)

    assert (report.calls, report.cached) == (3, 2)
    assert "repeated" not in [each.kind for each in report.advice]


def test_what_is_no_span_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_text(json.dumps({"name": "half"}) + "\n")

    with pytest.raises(SpanError, match=r"\{'name': 'half'\} is no span that has ended"):
        spans_of(tmp_path / "run.jsonl")


def test_long_prompts_that_begin_alike_are_not_taken_for_equal_ones() -> None:
    asked = json.dumps([{"role": "user", "parts": "x" * 20_000}])[:16_384]  # as a span's attribute is cut
    spans = [lm_span(n, n, n + 1, **{"input.messages": asked, "usage.input_tokens": 9}) for n in range(3)]

    assert "repeated" not in [each.kind for each in bottlenecks(spans).advice]


def test_the_time_between_two_runs_is_not_counted() -> None:
    assert bottlenecks([lm_span(1, 0, 1), lm_span(2, 9_000, 9_001), lm_span(3, 9_000.5, 9_002)]).took_s == 3


def test_a_torn_line_is_refused_with_its_file_and_number(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Tracer(file=path) as tracer:
        desk.Triage()(ticket="Where is my parcel?")
    tracer.flush()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])

    with pytest.raises(SpanError, match=rf"run.jsonl, line {len(whole.splitlines()) + 1}: no JSON"):
        spans_of(path)


@pytest.mark.parametrize(
    ("content", "wanted"), [(True, "LookupError: no such order"), (False, "LookupError")]
)
def test_a_span_has_the_error_s_words_where_content_is_kept(content: bool, wanted: str) -> None:
    with Tracer(content=content) as tracer, pytest.raises(LookupError), tracer.span("a step"):
        raise LookupError("no such order")

    assert [span.error for span in spans_of(tracer.spans)] == [wanted]


def written(number: int, parent: str | None = None, **changed: Any) -> dict[str, Any]:
    """Return a span as it stands in a file."""
    begun = f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z"
    times = {"start_time": begun, "end_time": begun}
    return {"name": "n", "context": {"span_id": f"{number}"}, "parent_id": parent, **times, **changed}


ODD = {
    "tokens in words": {"attributes": {"gen_ai.usage.input_tokens": "many"}},
    "tokens that are no number": {"attributes": {"gen_ai.usage.output_tokens": float("nan")}},
    "a cost without end": {"attributes": {"gen_ai.usage.cost": "inf"}},
    "a name that is no text": {"name": 5},
    "a list as parent": {"parent_id": ["1"]},
    "an empty list as parent": {"parent_id": []},
    "content that is a list": {"attributes": {"gen_ai.input.messages": [{"role": "user"}]}},
    "content that is a number": {"attributes": {"dspy.kind": "lm", "input.value": 5}},
    "reasons that are a number": {"attributes": {"gen_ai.response.finish_reasons": 5}},
    "a model that is a list": {"attributes": {"gen_ai.request.model": ["a"]}},
    "facts that are none": {"events": [{"name": "retry", "attributes": "soon"}]},
    "a wait in words": {"events": [{"name": "retry", "attributes": {"wait_s": "soon"}}]},
    "its own parent": {"parent_id": "1"},
}


@pytest.mark.parametrize("changed", ODD.values(), ids=ODD)
@pytest.mark.parametrize("report", [bottlenecks, execution_graph])
def test_an_odd_span_is_refused(changed: dict[str, Any], report: Any) -> None:
    with pytest.raises(SpanError):
        report([written(1, **changed), written(2)])


def test_spans_that_stand_in_one_another_and_endless_nesting_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpanError, match="stands in the next"):
        spans_of([written(1, "2"), written(2, "3"), written(3, "1"), written(4)])
    (tmp_path / "run.jsonl").write_text("[" * 100_000)
    with pytest.raises(SpanError, match="line 1: no JSON"):
        spans_of(tmp_path / "run.jsonl")


def test_deep_wide_and_doubled_runs_are_reported_soon() -> None:
    deep = [written(n, f"{n - 1}" if n else None, name=f"n{n % 3}") for n in range(1_500)]
    assert len(execution_graph(deep + deep).text.splitlines()) == len(spans_of(deep + deep)) == 1_500
    assert bottlenecks(deep).calls == 0
    assert len(tree(deep).splitlines()) == 1_500

    wide = [Span("r", None, "module", "r", 0, 2_000)]
    for number in range(2_000):
        told = {"input.value": json.dumps({"q": f"{number}?"}), "output.value": json.dumps("yes")}
        wide.append(Span(f"m{number}", "r", "module", "m", number, number + 1, told))
        wide.append(Span(f"l{number}", f"m{number}", "lm", "chat", number, number + 1))
    begun = time.process_time()
    (advice,) = [each for each in bottlenecks(wide).advice if each.kind == "sequential"]
    assert time.process_time() - begun < 10
    assert advice.saves_s == pytest.approx(1_980)
