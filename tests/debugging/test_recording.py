"""A DSPy program's run is captured, replayed in another process without a model, walked, edited, compared."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import dspy
import pytest

from course_lib import desk, lm
from course_lib.debugging import GoldenError, Recording, ask, diff, golden, record, replay
from course_lib.lm.recordings import Recorded, RecordingError
from course_lib.paths import ROOT

TICKETS = [ticket.text for ticket in desk.tickets("dev")[:3]]


@pytest.fixture(autouse=True)
def _model():
    with dspy.context(lm=lm.connect("sim-small")):
        yield


def sort_all() -> list[str]:
    program = desk.Triage()
    return [program(ticket=text).category for text in TICKETS]


async def stream_of(question: str) -> str:
    listener = dspy.streaming.StreamListener(signature_field_name="answer")
    streamed = dspy.streamify(dspy.Predict("question -> answer"), stream_listeners=[listener])
    return "".join([each.chunk async for each in streamed(question=question) if hasattr(each, "chunk")])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with record(tmp_path / "run.jsonl"):
        sort_all()
    return tmp_path / "run.jsonl"


CODE = f"""
import asyncio, dspy
from course_lib import desk, lm
from course_lib.debugging import replay
from tests.debugging.test_recording import sort_all, stream_of
lm.profile("never", error_rate=1)
dspy.configure(lm=lm.connect("sim-small", num_retries=0))
with replay({{path!r}}):
    print(sort_all(), asyncio.run(stream_of("What is 2 + 3?")))
assert lm.ledger().statuses == {{{{200: {len(TICKETS) + 1}}}}}
"""


def test_another_process_gets_the_answers_of_the_run_streams_too(tmp_path: Path) -> None:
    sort_all()  # these are in DSPy's cache now, and are recorded all the same
    with record(tmp_path / "run.jsonl"):
        live = f"{sort_all()} {asyncio.run(stream_of('What is 2 + 3?'))}"

    edited = Recording.load(tmp_path / "run.jsonl").with_reply(0, answer("warranty"))
    edited.save(tmp_path / "edited.jsonl")
    for path, said in (
        ("run.jsonl", live),
        ("edited.jsonl", live.replace(live.split("'")[1], "warranty", 1)),
    ):
        code = CODE.format(path=str(tmp_path / path))
        command = [sys.executable, "-c", code]
        assert subprocess.check_output(command, text=True, cwd=ROOT).strip() == said


def answer(category: str) -> str:
    return f"[[ ## category ## ]]\n{category}\n\n[[ ## urgency ## ]]\nlow\n\n[[ ## completed ## ]]"


def test_a_prompt_that_changed_ends_the_block_with_the_line_that_differs(file: Path) -> None:
    with pytest.raises(dspy.LMInvalidRequestError, match="not_recorded"), replay(file):
        desk.Triage()(ticket=TICKETS[0].replace("e", "i", 1))

    def swallow() -> None:
        with suppress(dspy.LMError):
            desk.Triage()(ticket="Hello?")

    with pytest.raises(RecordingError, match=r"1 requests were not recorded.*\n.*\n\+ Hello\?"), replay(file):
        swallow()


def test_dspys_cache_is_as_before_and_holds_nothing_of_a_replay(file: Path) -> None:
    before, recorded = dspy.cache, Recording.load(file)

    with replay(recorded.with_reply(0, answer("account"))):
        assert sort_all()[0] == "account"

    assert dspy.cache is before
    assert sort_all()[0] != "account"


def test_dspys_cache_comes_back_when_the_last_of_several_blocks_ends(file: Path, tmp_path: Path) -> None:
    before, first, second = dspy.cache, record(tmp_path / "a.jsonl"), record(tmp_path / "b.jsonl")
    first.__enter__()
    second.__enter__()
    sort_all()
    first.__exit__(None, None, None)
    assert dspy.cache is not before
    second.__exit__(None, None, None)

    assert dspy.cache is before
    assert len(Recording.load(tmp_path / "a.jsonl")) == len(Recording.load(tmp_path / "b.jsonl")) == 3


KILLED = """
import dspy, os, signal, sys
from course_lib import desk, lm
from course_lib.debugging import record
dspy.configure(lm=lm.connect())
with record(sys.argv[1]):
    for number in range(20):
        desk.Triage()(ticket=f"Ticket {number}")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.filterwarnings("ignore::course_lib.lm.recordings.TornLineWarning")
def test_a_process_that_is_killed_leaves_what_it_had(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "run.jsonl")]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9

    run = Recording.load(tmp_path / "run.jsonl")

    assert 5 < len(run) <= 20  # the last ones may still have been on their way to the file
    assert all(f"Ticket {at}" in step.prompt for at, step in enumerate(run))


def test_a_run_is_walked_through_and_each_step_is_readable(file: Path) -> None:
    run = Recording.load(file)

    assert len(run) == 3
    assert TICKETS[1] in run[1].prompt
    assert "[[ ## category ## ]]" in run[1].reply
    assert [len(run[:2]), run[-1].reply] == [2, run[2].reply]
    assert repr(run).count("->") == 3


def test_a_step_with_another_prompt_is_asked_again_and_the_program_goes_on_from_there(file: Path) -> None:
    run = Recording.load(file)
    changed = run.with_prompt(0, TICKETS[0], "My parcel is lost, where is it?")

    reply = ask(changed[0])

    assert run[0].prompt != changed[0].prompt
    with replay(run.with_reply(0, reply), asks=True):
        assert sort_all()[0] == "shipping"
        assert desk.Triage()(ticket="My parcel is lost, where is it?").category == "shipping"
    with pytest.raises(RecordingError, match="'nowhere' is nowhere in the messages of step 1"):
        run.with_prompt(1, "nowhere", "")


def test_a_diff_shows_the_step_whose_prompt_or_answer_differs_and_one_that_is_new(
    file: Path, tmp_path: Path
) -> None:
    with record(tmp_path / "later.jsonl"):
        sort_all()
        desk.Triage()(ticket="Is this new?")
    run, later = Recording.load(file), Recording.load(tmp_path / "later.jsonl")

    assert not diff(run, run)
    assert not diff(run, later[:3])  # other ids and times
    (only,) = diff(run, later).changes
    assert (only.before, only.after) == (None, 3)
    assert "+ Is this new?" in only.prompt

    edited = run.with_prompt(1, TICKETS[1][:20], "Something else").with_reply(2, answer("warranty"))
    first, second = diff(run, edited).changes
    assert (first.before, first.after, first.reply) == (1, 1, ())
    assert any(line.startswith("+ Something else") for line in first.prompt)
    assert (second.before, second.prompt) == (2, ())
    assert "+ warranty" in second.reply
    assert "2 of 3 steps differ" in repr(diff(run, edited))


def test_a_recording_is_redacted_on_wish_and_replayed_by_what_was_asked(tmp_path: Path) -> None:
    ticket = "I am Ada (ada@lantern.example). Where is my parcel?"
    with record(tmp_path / "run.jsonl", redact=lambda text: text.replace("ada@lantern.example", "(e-mail)")):
        category = desk.Triage()(ticket=ticket).category

    assert "ada@lantern" not in (tmp_path / "run.jsonl").read_text()
    with replay(tmp_path / "run.jsonl"):
        assert desk.Triage()(ticket=ticket).category == category


# -- golden runs -----------------------------------------------------------------------------------------


def test_a_run_like_the_kept_one_passes_and_another_says_what_differs(tmp_path, monkeypatch) -> None:
    kept = tmp_path / "golden" / "triage.jsonl"
    with pytest.raises(GoldenError, match=r"there is no kept run .*COURSE_GOLDEN=update"), golden(kept):
        sort_all()
    monkeypatch.setenv("COURSE_GOLDEN", "update")
    with golden(kept):
        sort_all()
    monkeypatch.delenv("COURSE_GOLDEN")

    with golden(kept):
        sort_all()
    shouted = TICKETS[1].upper()
    monkeypatch.setitem(globals(), "TICKETS", [TICKETS[0], shouted, TICKETS[2]])
    message = rf"1 of 3 steps differ:\nstep 1:\n  prompt:\n(.|\n)*\+ {re.escape(shouted[:40])}"
    with pytest.raises(GoldenError, match=message), golden(kept):
        sort_all()


def test_the_order_counts_unless_it_is_said_not_to(tmp_path, monkeypatch) -> None:
    kept = tmp_path / "kept.jsonl"
    with record(kept):
        sort_all()
    monkeypatch.setitem(globals(), "TICKETS", TICKETS[::-1])

    with golden(kept, in_order=False):
        sort_all()
    with pytest.raises(GoldenError, match="steps differ"), golden(kept):
        sort_all()


# -- what there is already -------------------------------------------------------------------------------


def test_within_a_replay_and_beside_it_no_other_one_begins_and_no_model_is_asked(file: Path) -> None:
    lm.reset()
    refused = []

    def beside() -> None:
        with pytest.raises(RecordingError, match="another recording already") as error, replay(file):
            pass
        refused.append(error.value)

    with replay(file):
        beside()
        thread = threading.Thread(target=beside)
        thread.start()
        thread.join()
        sort_all()

    assert len(refused) == 2
    with pytest.raises(dspy.LMError), replay(file):
        desk.Triage()(ticket="something else")
    with replay(file):
        sort_all()


@pytest.mark.parametrize("fails", [True, False])
def test_a_block_that_asks_nothing_leaves_the_recording_that_was_there(file: Path, fails: bool) -> None:
    before = file.read_bytes()
    said = "by zero" if fails else "run.jsonl is empty"
    with pytest.raises((ZeroDivisionError, RecordingError), match=said), record(file):
        _ = 1 / (not fails)
    with pytest.raises(RecordingError), record(file.parent / "new.jsonl"):
        pass

    assert file.read_bytes() == before
    assert [each.name for each in file.parent.iterdir()] == ["run.jsonl"]


def test_a_recording_in_place_of_another_is_for_its_owner_alone(file: Path) -> None:
    for write in (lambda: Recording.load(file)[:1].save(file), lambda: record_one(file)):
        file.chmod(0o644)
        write()
        assert len(Recording.load(file)) == 1
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == ["run.jsonl"]


def record_one(file: Path) -> None:
    with record(file):
        desk.Triage()(ticket=TICKETS[0])


@pytest.mark.parametrize("is_there", [True, False])
def test_two_blocks_cannot_record_to_one_file(file: Path, is_there: bool) -> None:
    if not is_there:
        file.unlink()

    with record(file):
        desk.Triage()(ticket="the first")
        with pytest.raises(RecordingError, match="written by another block or process"), record(file):
            desk.Triage()(ticket="never asked")

    assert "the first" in Recording.load(file)[0].prompt
    record_one(file)
    assert [each.name for each in file.parent.iterdir()] == ["run.jsonl"]


def test_a_run_that_fails_is_recorded_up_to_there(file: Path) -> None:
    with pytest.raises(ZeroDivisionError), record(file):
        _ = len(desk.Triage()(ticket=TICKETS[0]).category) / 0

    assert len(Recording.load(file)) == 1


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(RecordingError, match="no ordinary file"):
        Recording.load(tmp_path / "pipe")
    with pytest.raises(RecordingError, match="no ordinary file"), record(tmp_path / "pipe"):
        pass


@pytest.mark.parametrize("name", ["n" * 5_000, "a\0b", "file/below"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    for block in (record, replay, golden):
        with pytest.raises((RecordingError, GoldenError)), block(tmp_path / name):
            sort_all()


def test_a_request_for_vectors_has_no_messages_to_change() -> None:
    asked = Recorded({"model": "sim-embed", "input": ["lamp"]}, path="/v1/embeddings")

    with pytest.raises(RecordingError, match="'lamp' is nowhere in the messages of step 0"):
        Recording([asked]).with_prompt(0, "lamp", "tent")


def test_an_answer_is_edited_also_where_another_choice_has_an_odd_number() -> None:
    choices = [{"index": n, "message": {"content": "old"}} for n in (0, ["a"], {})]

    edited = Recorded({}, pieces=((0.0, {"choices": choices}),)).with_reply("new")

    assert edited.text == "new"


def test_long_runs_of_equal_requests_are_compared_in_no_time() -> None:
    def run(number: int) -> list[Recorded]:
        texts = [f"ping {at**number % 3}" for at in range(2_000)]
        return [Recorded({"messages": [{"role": "user", "content": text}]}) for text in texts]

    before_s = time.process_time()
    assert diff(run(1), run(2))
    assert not diff(run(1), run(1))
    assert time.process_time() - before_s < 5
