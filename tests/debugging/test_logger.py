"""One line a span, that a program can read and that holds nothing personal."""

from __future__ import annotations

import json
import logging
import threading

import dspy
import pytest

from course_lib import desk, lm
from course_lib.debugging import TraceLogger

TICKET = "my lamp is dead, anna@example.com"


def test_each_span_is_one_line_of_json_with_its_place_times_and_events():
    lines = []
    with TraceLogger(lines.append), dspy.context(lm=lm.connect("sim-small@sloppy", cache=False)):
        for number in range(6):
            try:
                desk.Triage()(ticket=f"{TICKET} {number}\n")
            except dspy.AdapterParseError:
                continue

    said = [json.loads(line) for line in lines]
    assert all("\n" not in line for line in lines)
    first = {line["span"]: line for line in said[:5]}
    triage, predict, call = first["Triage"], first["Predict(SortTicket)"], first["chat sim-small@sloppy"]
    assert triage["parent_id"] is None
    assert predict["parent_id"] == triage["span_id"]
    assert {line["trace_id"] for line in said[:5]} == {triage["trace_id"]}
    assert 0 < call["ms"] < triage["ms"]
    assert call["gen_ai.usage.input_tokens"] > 0
    events = [event["event"] for line in said for event in line.get("events", ())]
    failed = [line for line in said if line["span"] == "ChatAdapter.parse" and line["status"] == "error"]
    assert events.count("adapter.fallback") == len(failed) > 0
    assert failed[0]["error.type"] == "AdapterParseError"
    assert "anna" not in "".join(lines)


def test_a_fact_never_stands_in_the_place_of_what_a_line_says_itself():
    lines, facts = [], {"status": "paid", "ms": 0, "trace_id": "x", "span": "y", "order": "o-1"}
    logger = TraceLogger(lines.append)
    with logger, pytest.raises(ValueError, match="no"), logger.span("refund", **facts) as span:  # noqa: PT012
        span.add_event("retry", {"event": "z"})
        raise ValueError("no")

    (line,), (kept,) = map(json.loads, lines), logger.spans
    assert (line["span"], line["status"], line["order"]) == ("refund", "error", "o-1")
    assert line["trace_id"] == f"{kept.context.trace_id:032x}"
    assert line["ms"] > 0
    assert line["events"] == [{"event": "retry"}]
    assert list(line)[:6] == ["trace_id", "span_id", "parent_id", "span", "ms", "status"]


def test_lines_go_to_the_standard_library_where_nothing_else_is_said(caplog):
    with caplog.at_level(logging.INFO, "course_lib.trace"), TraceLogger(content=True):
        desk.Triage()(ticket=TICKET)

    assert len(caplog.records) == 5
    assert json.loads(caplog.messages[-1])["input.value"] == '{"ticket": "my lamp is dead, [email]"}'


def test_a_log_that_cannot_be_written_breaks_nothing():
    def full(line):
        raise OSError("no space left")

    with TraceLogger(full) as logger:
        answer = desk.Triage()(ticket=TICKET)

    assert answer.category in desk.CATEGORIES
    assert logger.lines_lost == 5
    assert len(logger.spans) == 5


@pytest.mark.anyio
async def test_lines_of_tasks_are_whole_lines():
    import asyncio

    lines = []
    with TraceLogger(lines.append):
        await asyncio.gather(*(desk.Triage().acall(ticket=f"{TICKET} {number}") for number in range(20)))

    assert len({json.loads(line)["trace_id"] for line in lines}) == 20
    assert len(lines) == 100


def test_content_is_redacted_in_a_thread_and_all_lines_are_there_when_the_block_ends():
    threads, lines = set(), []

    def redact(value):
        threads.add(threading.current_thread())
        return "[redacted]"

    with TraceLogger(lines.append, content=True, redact=redact) as logger:
        desk.Triage()(ticket=TICKET)

    assert threading.current_thread() not in threads
    assert len(lines) == len(logger.spans) == 5
    assert "anna" not in "".join(lines)


@pytest.mark.parametrize("content", [True, False])
def test_half_an_emoji_loses_no_line(tmp_path, content):
    with (tmp_path / "log").open("w", encoding="utf-8") as file:

        def write(line):
            file.write(f"{line}\n")

        with TraceLogger(write, content=content) as logger, logger.span("half \ud83d", what="\ud83d"):
            pass

    assert len((tmp_path / "log").read_text("utf-8").splitlines()) == 1
    assert logger.lines_lost == 0


def test_a_log_that_cannot_be_written_in_its_thread_counts_the_lines_too():
    def full(line):
        raise OSError("no space left")

    with TraceLogger(full, content=True) as logger:
        desk.Triage()(ticket=TICKET)

    assert logger.lines_lost == 5
