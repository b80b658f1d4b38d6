"""The trace viewer: rows in their places, what an opened one tells, two runs, a search; no text is markup."""

from __future__ import annotations

import json
import time

import dspy
import pytest

from course_lib import desk, lm
from course_lib.debugging import Tracer
from course_lib.debugging.steps import Span
from course_lib.errors import CourseError
from course_lib.labs import trace_viewer
from course_lib.labs.trace_viewer_view import MOST_SPANS, read

HTML = "<img src=x onerror=alert(1)>"


def span(name: str, parent: str | None = None, *, at_s: float = 0.0, took_s: float = 1.0, **more) -> Span:
    kind = more.pop("kind", "module")
    return Span(name.split()[0], parent, kind, name, at_s, at_s + took_s, **more)


def asked(text: str, reply: str = "yes") -> dict[str, str]:
    """Return the attributes of a call of a model."""
    sent, got = (
        json.dumps([{"role": role, "parts": [{"type": "text", "content": words}]}])
        for role, words in (("user", text), ("assistant", reply))
    )
    return {"gen_ai.input.messages": sent, "gen_ai.output.messages": got}


def a_run(prompt: str = "Where is my lamp?", model: str = "sim") -> list[Span]:
    chat = span(f"chat {model}", "sort", at_s=1.0, took_s=2.0, kind="lm", attributes=asked(prompt))
    return [span("Triage", took_s=4.0), span("sort", "Triage", at_s=0.5, took_s=3.0), chat]


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """A traced program: its spans, and the file of them."""
    file = tmp_path_factory.mktemp("traces") / "run.jsonl"
    with dspy.context(lm=lm.connect(cache=False)), Tracer(content=True, file=file) as tracer:
        desk.Triage()(ticket=f"Where is my lamp? {HTML}")
    tracer.close()
    return tracer.spans, file


def test_a_tracers_spans_and_their_file_show_prompt_reply_tokens_and_cost(traced):
    for source in traced:
        lab = trace_viewer(source)

        assert "chat sim-large" in lab.trees[0].html
        for words in ("Where is my lamp?", "[[ ## category ## ]]", " in, ", "gen_ai.request.model=sim-large"):
            assert words in lab.rendered.html, "the first call of a model is open"
        assert "0.00" in lab.rendered.text.split("cost")[1].split("dollars")[0]


def test_rows_stand_below_their_callers_with_the_part_of_their_traces_time():
    later = [span("Other", at_s=100.0, took_s=1.0)]
    rows = read([*reversed(a_run()), *later])

    assert [(row.span.name, len(row.place)) for row in rows] == [
        ("Triage", 1),
        ("sort", 2),
        ("chat sim", 3),
        ("Other", 1),
    ]
    assert [row.bar for row in rows] == [
        "left:0.00%;width:100.00%",
        "left:12.50%;width:75.00%",
        "left:25.00%;width:50.00%",
        "left:0.00%;width:100.00%",
    ]


def test_events_and_errors_are_told_in_words():
    failed = span("sort", error="LMTimeoutError", events=(("retry", {"wait_s": 0.5}),))
    lab = trace_viewer([failed])

    assert "LMTimeoutError" in lab.trees[0].html
    assert "event 1 retry  wait_s=0.5" in lab.rendered.text
    assert "Tracer(content=True) keeps what" in lab.rendered.text


def test_an_opened_row_of_the_first_run_opens_its_counterpart_and_tells_what_differs():
    lab = trace_viewer(a_run(), a_run("Where is my tent?", "other-model"))
    lab.trees[0].opened = 0
    assert lab.trees[1].opened == 0
    assert "What differs in what was asked:\nnothing" in lab.rendered.text

    lab.trees[0].opened = 2

    assert lab.trees[1].opened == 2, "the model's name does not matter"
    assert "- Where is my lamp?\n+ Where is my tent?" in lab.rendered.text.replace("...", "")
    assert "What differs in what was answered:\nnothing" in lab.rendered.text
    assert ", differs</span>" in lab.trees[0].html


def test_a_step_whose_signature_has_another_name_has_its_counterpart_all_the_same():
    first, second = (
        [
            span(f"Predict({name})"),
            span("chat sim", f"Predict({name})", kind="lm", attributes=asked(name)),
        ]
        for name in ("SortTicket", "StringSignature")
    )
    lab = trace_viewer(first, second)

    assert "only here" not in lab.trees[0].html
    assert ", differs</span>" in lab.trees[0].html


def test_after_a_search_a_row_that_is_listed_is_open():
    lab = trace_viewer(a_run(), a_run())

    lab.search.value = "triage"

    assert [tree.opened for tree in lab.trees] == [0, 0]
    assert lab.rendered.text.startswith("Triage\n")
    lab.search.value = "nowhere"
    assert lab.trees[0].opened == 0


def test_a_search_that_only_the_second_run_answers_closes_the_first():
    lab = trace_viewer(a_run(), a_run("Only there?"))

    lab.search.value = "only there"

    assert [tree.opened for tree in lab.trees] == [-1, 2]
    assert "Where is my lamp?" not in lab.rendered.text
    lab.search.value = "where is my lamp"
    assert [tree.opened for tree in lab.trees] == [2, -1]
    assert "Only there?" not in lab.rendered.text


def test_a_row_without_a_counterpart_says_so_and_the_second_run_can_be_opened_alone():
    again = [
        *a_run(),
        span("again", "sort", at_s=3.1, took_s=0.2, kind="lm", attributes=asked("Again?")),
    ]
    lab = trace_viewer(again, a_run())
    lab.trees[0].opened = 3

    assert lab.trees[1].opened == -1
    assert "Again?" in lab.rendered.text
    assert lab.trees[0].html.count(", only here") == 1
    lab.trees[1].opened = 0
    assert "== second run" in lab.rendered.text


def test_a_search_finds_names_prompts_replies_and_figures_in_both_runs():
    lab = trace_viewer(a_run('She said "Hi".\nBye.'), a_run())

    for words, found in (
        ("TRIAGE", [[0], [0]]),
        ('"hi".', [[2], []]),
        ("yes", [[2], [2]]),
        ("", [None, None]),
    ):
        lab.search.value = words
        assert [tree.found for tree in lab.trees] == found, words
    lab.search.value = "nowhere"
    assert [tree.found for tree in lab.trees] == [[], []]
    assert "Found: 0 and 0 rows." in lab._status.value


def test_texts_names_attributes_and_events_are_never_markup():
    attributes = {**asked(HTML, HTML), HTML: HTML, "input.value": json.dumps({HTML: HTML})}
    bad = span(f"a {HTML}", kind=HTML, error=HTML, attributes=attributes, events=((HTML, {HTML: HTML}),))
    lab = trace_viewer([bad], [span(f"a {HTML}", attributes=asked("other"))])

    for html in (
        lab.trees[0].html,
        lab.trees[1].html,
        lab.rendered.html,
        lab.whole().html,
        lab._status.value,
    ):
        assert "<img" not in html
        assert "&lt;img" in html
    assert HTML in lab.rendered.text


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        "[]",
        "[1]",
        '[{"role": null}]',
        '[{"parts": [null, 7, {"a": 1}]}]',
        '[{"content": {"a": 1}}]',
        "7",
    ],
)
def test_content_of_any_form_is_shown(content):
    lab = trace_viewer([span("chat", kind="lm", attributes={"gen_ai.input.messages": content})])

    assert "== this span" in lab.rendered.text


def test_of_very_many_spans_the_first_are_shown_and_a_row_opens_in_100_ms():
    text = "Where is my lamp?\n" * 50
    spans = [span("Run", took_s=9.0)]
    spans += [
        span(f"c{n} chat", "Run", kind="lm", attributes=asked(f"{n} {text}")) for n in range(MOST_SPANS + 9)
    ]
    lab = trace_viewer(spans, spans)
    assert lab.trees[0].html.count("<li") == MOST_SPANS
    assert f"the first {MOST_SPANS:,} spans" in lab.trees[0].html
    assert len(lab.whole().html) < 200_000, "this is stored in the notebook"

    begun_s = time.process_time()
    lab.trees[0].opened = 1_000
    lab.search.value = "1500 where"

    assert time.process_time() - begun_s < 0.1
    assert lab.trees[0].found == [1_501]


def test_very_deep_spans_are_shown():
    deep = [span(f"n{n}", f"n{n - 1}" if n else None, at_s=n) for n in range(1_500)]

    assert len(read(deep)) == 1_500


@pytest.mark.parametrize("bad", [[], [1], "no_file"], ids=["none", "no spans", "no file"])
def test_what_holds_no_spans_is_refused_in_words(bad, tmp_path):
    if bad == "no_file":
        bad = tmp_path / "run.jsonl"
        bad.write_text("", "utf-8")

    with pytest.raises(CourseError, match="no span"):
        trace_viewer(bad)
