import asyncio

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError

from course_lib import desk, lm
from course_lib.adapters import count_fallbacks
from course_lib.adapters.prompt.script import scripted

ASK = dspy.Signature("question -> answer, sure: bool")
JSON = '{"answer": "Yes.", "sure": true}'
CHAT = dspy.ChatAdapter().format_assistant_message_content(ASK, {"answer": "Yes.", "sure": True})


def ask(*replies, adapter):
    model, script = scripted(replies)
    with dspy.context(lm=model, adapter=adapter):
        dspy.Predict(ASK)(question="?")
    return script


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter, dspy.XMLAdapter], ids=lambda c: c.__name__)
def test_a_fallback_is_seen_with_its_reason_the_reply_that_was_thrown_away_and_its_outcome(adapter):
    with count_fallbacks() as fallbacks:
        script = ask("Yes, surely.", JSON, adapter=adapter())
        with pytest.raises(AdapterParseError):
            ask("", "Yes.", adapter=adapter())

    talk, empty = fallbacks
    assert script.requests == 2
    assert (talk.adapter, talk.reply, talk.outcome) == (adapter.__name__, "Yes, surely.", "read")
    assert talk.reason
    assert (empty.reason, empty.outcome) == ("the reply was empty", "not read")


def test_the_count_equals_the_requests_that_the_endpoint_saw_beyond_the_answers():
    tickets = [ticket.text for ticket in desk.tickets("dev")[:24]]
    triage = desk.Triage()

    async def in_tasks():
        return await asyncio.gather(*(triage.acall(ticket=t) for t in tickets), return_exceptions=True)

    def in_threads():
        in_six = dspy.Parallel(num_threads=6, disable_progress_bar=True, max_errors=99)
        return in_six([(triage, {"ticket": text}) for text in tickets])

    for work in (in_threads, lambda: asyncio.run(in_tasks())):
        lm.reset()
        with dspy.context(lm=lm.connect("sim-small@sloppy", cache=False)), count_fallbacks() as fallbacks:
            assert len(work()) == 24
        assert lm.ledger().requests == 24 + len(fallbacks) >= 26


class Heard(dspy.utils.BaseCallback):
    count = 0

    def on_lm_start(self, call_id, instance, inputs):
        self.count += 1


@pytest.mark.parametrize(
    ("adapter", "reply"), [(dspy.ChatAdapter(), CHAT), (dspy.JSONAdapter(), JSON)], ids=["Chat", "JSON"]
)
def test_a_good_reply_is_no_fallback_and_callbacks_that_were_set_before_still_hear(adapter, reply):
    heard = Heard()
    with dspy.context(callbacks=[heard]), count_fallbacks() as fallbacks:
        ask(reply, adapter=adapter)

    assert (heard.count, len(fallbacks)) == (1, 0)
    assert heard not in dspy.settings.callbacks
