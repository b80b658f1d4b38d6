import dspy
import pytest
from dspy.lm15 import CacheConfig

from course_lib import desk, lm
from course_lib.caching.prefix import (
    PrefixError,
    changing_last,
    compare,
    shared_prefixes,
    until_demos,
    wire_body,
)


class Reply(dspy.Signature):
    """Answer the customer's ticket from Lantern's policies."""

    ticket: str = dspy.InputField()
    policies: list[str] = dspy.InputField()
    answer: str = dspy.OutputField()


POLICIES = [article.chunk for article in desk.articles()][:6]
TICKETS = [ticket.text for ticket in desk.tickets("dev")]


def inputs(at=0, policies=POLICIES):
    return {"ticket": TICKETS[at], "policies": policies}


@pytest.fixture(autouse=True)
def _model():
    lm.reset()
    with dspy.context(lm=lm.connect(cache=False)):
        yield


def test_a_changing_field_in_front_breaks_the_prefix_and_is_named():
    [shared] = shared_prefixes(dspy.Predict(Reply), inputs(0), inputs(1))

    assert shared.broken_by == "input field `ticket`"
    assert shared.cached_tokens == 0
    assert shared.near.endswith("[[ ## ticket ## ]]\n")
    assert str(shared).endswith("tokens shared, 0 of them from the cache; broken by input field `ticket`")


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter])
def test_with_the_changing_field_last_the_endpoint_gives_just_what_was_promised(adapter):
    with dspy.context(adapter=adapter()):
        [shared] = shared_prefixes(dspy.Predict(changing_last(Reply, "ticket")), inputs(0), inputs(1))

    calls = lm.ledger().calls
    assert shared.broken_by == "input field `ticket`"
    assert shared.cached_tokens > 1024
    assert [call.cached_tokens for call in calls] == [0, shared.cached_tokens]
    assert calls[1].prompt_tokens == shared.prompt_tokens
    assert calls[1].cost_usd < 0.7 * calls[0].cost_usd


def test_a_date_in_the_instructions_is_found():
    class Dated(dspy.Module):
        def forward(self, day, ticket):
            return dspy.Predict(Reply.with_instructions(f"Today is {day}."))(ticket=ticket, policies=POLICIES)

    [shared] = shared_prefixes(Dated(), {"day": "Monday", "ticket": "Hi"}, {"day": "Tuesday", "ticket": "Hi"})

    assert shared.broken_by == "the instructions"


def test_a_demo_that_changes_is_named_with_its_field():
    class Picking(dspy.Module):
        def forward(self, word):
            demos = [
                dspy.Example(ticket=TICKETS[0], policies=["a"], answer="Yes."),
                dspy.Example(ticket=word, policies=["a"], answer="No."),
            ]
            return dspy.Predict(Reply)(**inputs(), demos=demos)

    [shared] = shared_prefixes(Picking(), {"word": "lamp"}, {"word": "tent"})

    assert shared.broken_by == "demo 2, field `ticket`"


def test_one_demo_more_is_found():
    class Growing(dspy.Module):
        def forward(self, count):
            return dspy.Predict(Reply)(**inputs(), demos=[dspy.Example(**inputs(), answer="Yes.")] * count)

    [shared] = shared_prefixes(Growing(), {"count": 1}, {"count": 2})

    assert shared.broken_by == "demo 2, which only one of them has"


def test_a_description_that_changes_is_found():
    class Describing(dspy.Module):
        def forward(self, desc):
            return dspy.Predict(Reply.with_updated_fields("answer", desc=desc))(**inputs())

    [shared] = shared_prefixes(Describing(), {"desc": "short"}, {"desc": "long"})

    assert shared.broken_by == "the description of the fields"


def test_a_conversation_breaks_where_its_first_message_differs():
    class Talk(dspy.Signature):
        policies: list[str] = dspy.InputField()
        history: dspy.History = dspy.InputField()
        ticket: str = dspy.InputField()
        answer: str = dspy.OutputField()

    def talk(said):
        return {**inputs(), "history": dspy.History(messages=[{"ticket": said, "answer": "Yes."}])}

    [shared] = shared_prefixes(dspy.Predict(Talk), talk("A lamp?"), talk("A tent?"))

    assert shared.broken_by == "input field `history`"


def test_equal_prompts_are_broken_by_nothing():
    [shared] = shared_prefixes(dspy.Predict(Reply), inputs(), inputs())

    assert (shared.broken_by, shared.near) == ("nothing", "")
    assert shared.shared_tokens == shared.prompt_tokens


def test_each_prompt_of_a_program_is_compared():
    class Two(dspy.Module):
        def __init__(self):
            self.summary = dspy.Predict("ticket -> summary")
            self.reply = dspy.Predict(changing_last(Reply, "ticket"))

        def forward(self, ticket, policies):
            return self.reply(ticket=self.summary(ticket=ticket).summary, policies=policies)

    first, second = shared_prefixes(Two(), inputs(0), inputs(1))

    assert first.cached_tokens == 0
    assert second.cached_tokens > 1024


def test_a_bare_call_is_compared_by_its_messages():
    class Bare(dspy.Module):
        def forward(self, text):
            return dspy.settings.lm(text)

    [shared] = shared_prefixes(Bare(), {"text": "Say one."}, {"text": "Say two."})

    assert (shared.broken_by, shared.near) == ("message 1 (user)", "Say ")


def test_tools_and_lengths_are_compared_too():
    hello = {"messages": [{"role": "user", "content": "Hello"}]}

    assert compare({**hello, "tools": [1]}, {**hello, "tools": [2]}).broken_by == "the tools"
    assert compare({**hello, "response_format": {"a": 1}}, hello).broken_by == "the response schema"
    longer = {"messages": [*hello["messages"], {"role": "assistant", "content": "Hi"}]}
    assert compare(hello, longer).broken_by == "message 2, which only one of them has"


def test_a_program_that_makes_no_prompt_is_refused():
    class Silent(dspy.Module):
        def forward(self, ticket):
            return dspy.Prediction(answer=ticket)

    with pytest.raises(PrefixError, match="Silent made no prompt"):
        shared_prefixes(Silent(), {"ticket": "a"}, {"ticket": "b"})


def test_fields_are_put_last_in_the_order_given_and_keep_what_they_are():
    class Many(dspy.Signature):
        """Do it."""

        now: str = dspy.InputField(desc="the time")
        ticket: str = dspy.InputField()
        policies: list[str] = dspy.InputField()
        answer: int = dspy.OutputField()

    moved = changing_last(Many, "ticket", "now")

    assert list(moved.input_fields) == ["policies", "ticket", "now"]
    assert list(moved.output_fields) == ["answer"]
    assert moved.instructions == "Do it."
    assert moved.input_fields["now"].json_schema_extra["desc"] == "the time"
    assert moved.input_fields["policies"].annotation == list[str]
    assert list(Many.input_fields) == ["now", "ticket", "policies"]
    with pytest.raises(PrefixError, match="Many has no input field 'nope'; it has: now, ticket, policies"):
        changing_last(Many, "nope")


# -- marks ---------------------------------------------------------------------------------------------

DEMO = dspy.Example(ticket="A lamp?", policies=["p"], answer="Yes.")
MESSAGES = dspy.ChatAdapter().format(Reply, [DEMO, DEMO], inputs())
MARK = {"type": "ephemeral"}


def test_openai_needs_no_marks_and_anthropic_caches_only_what_is_marked():
    assert wire_body(MESSAGES, None)["messages"] == MESSAGES
    assert wire_body(MESSAGES, CacheConfig())["messages"] == MESSAGES
    assert "cache_control" not in str(wire_body(MESSAGES, None, dialect="anthropic"))
    [system] = wire_body(MESSAGES, CacheConfig(), dialect="anthropic")["system"]
    assert system["cache_control"] == MARK


def test_the_stable_prefix_ends_before_the_demos_so_they_need_a_mark_of_their_own():
    stable = wire_body(MESSAGES, CacheConfig(prefix="stable"), dialect="anthropic")
    with_demos = wire_body(MESSAGES, until_demos(2), dialect="anthropic")

    assert "cache_control" not in str(stable["messages"])
    assert [i for i, m in enumerate(with_demos["messages"]) if "cache_control" in str(m)] == [3]
    assert with_demos["messages"][3]["role"] == "assistant"
    assert until_demos(0) == CacheConfig(prefix="stable")


def test_a_key_and_a_long_retention_are_said_in_each_dialect_as_far_as_it_can():
    asked = CacheConfig(key="replies-v1", retention="long")

    openai = wire_body(MESSAGES, asked)
    anthropic = wire_body(MESSAGES, asked, dialect="anthropic")

    assert (openai["prompt_cache_key"], openai["prompt_cache_retention"]) == ("replies-v1", "24h")
    assert anthropic["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    with pytest.raises(PrefixError, match="no dialect 'morse'; known: openai, anthropic"):
        wire_body(MESSAGES, asked, dialect="morse")


def test_the_endpoint_takes_marks_answers_as_without_and_caches_the_same():
    program = dspy.Predict(changing_last(Reply, "ticket"))
    plain = [program(**inputs(at)).answer for at in (0, 1)]
    cached = [call.cached_tokens for call in lm.ledger().calls]
    lm.reset()

    marked = lm.connect(
        cache=False,
        engine="lm15",
        prompt_cache=CacheConfig(prefix="stable", key="replies-v1", retention="long"),
    )
    with dspy.context(lm=marked):
        assert [program(**inputs(at)).answer for at in (0, 1)] == plain

    calls = lm.ledger().calls
    assert [call.cached_tokens for call in calls] == cached
    assert calls[0].messages[0]["content"][0]["prompt_cache_breakpoint"] == {"mode": "explicit"}
    details = marked.history[-1]["usage"]["prompt_tokens_details"]
    assert details["cached_tokens"] == cached[1]
