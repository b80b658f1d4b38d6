import dspy
import pytest

from course_lib import desk, lm
from course_lib.caching import changing_last, shared_prefixes


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


class Varying(dspy.Module):
    """Builds its predictor anew for each call."""

    def forward(self, *, signature=Reply, demos=(), **more):
        return dspy.Predict(signature)(**inputs() | more, demos=list(demos))


def demo(ticket):
    return dspy.Example(ticket=ticket, policies=["a"], answer="Yes.")


class Talk(Reply):
    history: dspy.History = dspy.InputField()


def said(text):
    return {"signature": changing_last(Talk, "ticket"), "history": dspy.History(messages=[{"ticket": text}])}


VARIANTS = {
    "the instructions": [{"signature": Reply.with_instructions(f"Today is {day}.")} for day in ("Mo", "Tu")],
    "the description of the fields": [
        {"signature": Reply.with_updated_fields("answer", desc=desc)} for desc in ("short", "long")
    ],
    "demo 2, field `ticket`": [{"demos": [demo("Hi"), demo(word)]} for word in ("lamp", "tent")],
    "demo 3, field `ticket`": [{"demos": [demo("Hi")] * count} for count in (3, 2)],
    "input field `history`": [said("A lamp?"), said("A tent?")],
    "input field `ticket`": [{"ticket": TICKETS[0]}, {"ticket": TICKETS[1]}],
    "nothing": [{}, {}],
}


@pytest.mark.parametrize(("broken_by", "variants"), VARIANTS.items(), ids=VARIANTS)
def test_what_changes_first_is_named(broken_by, variants):
    [shared] = shared_prefixes(Varying(), *variants)

    assert shared.broken_by == broken_by
    assert (shared.shared_tokens == shared.prompt_tokens) == (broken_by == "nothing")
    assert (shared.cached_tokens > 0) == (broken_by == "nothing")
    assert str(shared).endswith(f"of them from the cache; broken by {broken_by}")


def test_each_prompt_of_a_program_is_compared():
    class Two(dspy.Module):
        def forward(self, ticket, policies):
            summary = dspy.Predict("ticket -> summary")(ticket=ticket).summary
            return dspy.Predict(changing_last(Reply, "ticket"))(ticket=summary, policies=policies)

    first, second = shared_prefixes(Two(), inputs(0), inputs(1))

    assert first.cached_tokens == 0
    assert second.cached_tokens > 1024


def test_fields_are_put_last_in_the_order_given_and_keep_what_they_are():
    class Many(Reply):
        """Do it."""

        now: str = dspy.InputField(desc="the time")

    moved = changing_last(Many, "now", "ticket")

    assert list(moved.fields) == ["policies", "now", "ticket", "answer"]
    assert moved.instructions == "Do it."
    assert moved.input_fields["now"].json_schema_extra["desc"] == "the time"
    assert moved.input_fields["policies"].annotation == list[str]
    assert list(Many.input_fields) == ["ticket", "policies", "now"]
