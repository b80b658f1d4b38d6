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
    assert "ticket" in shared.parted_after
    assert shared.cached_tokens > 1024
    assert [call.cached_tokens for call in calls] == [0, shared.cached_tokens]
    assert calls[1].prompt_tokens == shared.prompt_tokens
    assert calls[1].cost_usd < 0.7 * calls[0].cost_usd


class Varying(dspy.Module):
    """Builds its predictor anew for each call."""

    def forward(self, *, signature=Reply, **more):
        return dspy.Predict(signature)(**inputs() | more)


VARIANTS = {
    "Today is ": [{"signature": Reply.with_instructions(f"Today is {day}.")} for day in ("Mo", "Fr")],
    "[[ ## ticket ## ]]\nIt is ": [{"ticket": "It is gone"}, {"ticket": "It is late"}],
    "`[[ ## completed ## ]]`.": [{}, {}],
}


@pytest.mark.parametrize(("parted_after", "variants"), VARIANTS.items(), ids=VARIANTS)
def test_the_text_before_the_first_difference_is_shown(parted_after, variants):
    [shared] = shared_prefixes(Varying(), *variants)
    is_equal = variants[0] == variants[1]

    assert shared.parted_after.endswith(parted_after)
    assert (shared.shared_tokens == shared.prompt_tokens) == is_equal
    assert (shared.cached_tokens > 0) == is_equal
    assert str(shared).endswith(f"of them from the cache; alike up to {shared.parted_after!r}")


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
        now: str = dspy.InputField(desc="the time")

    moved = changing_last(Many, "now", "ticket")

    assert list(moved.fields) == ["policies", "now", "ticket", "answer"]
    assert moved.instructions == Many.instructions
    assert moved.input_fields["now"].json_schema_extra["desc"] == "the time"
    assert list(Many.input_fields) == ["ticket", "policies", "now"]
