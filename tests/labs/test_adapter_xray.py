import pytest

from course_lib import desk, lm
from course_lib.errors import CourseError
from course_lib.labs import adapter_xray
from course_lib.labs.adapter_xray import ADAPTERS, OWN, SIGNATURES, look, side_by_side


@pytest.fixture(scope="module")
def lab():
    return adapter_xray.xray()


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_adapter_is_seen_with_its_prompt_its_raw_reply_and_what_it_took(adapter):
    lm.reset()
    picture = look("flat: sort a ticket", adapter)

    assert picture.is_read
    assert "category = " in picture.outcome
    assert len(picture.ledger.calls) == lm.ledger().requests == (2 if adapter == "TwoStep" else 1)
    assert desk.tickets("dev")[0].text in str(picture)
    assert picture.ledger.calls[0].reply in str(picture).replace("\n      ", "\n")
    assert picture.ledger.prompt_tokens > 100
    assert picture.ledger.cost_usd > 0
    assert picture.duration_ms > 0


@pytest.mark.parametrize("signature", SIGNATURES)
def test_every_signature_is_answered_from_its_own_sample(signature):
    picture = look(signature, "Custom")

    assert picture.is_read, picture.outcome
    assert not signature.startswith("citations") or "citations = ['return-policy']" in picture.outcome


def test_a_fallback_is_in_the_picture_as_a_second_request():
    lm.profile("nofield", missing_field_rate=1.0)
    picture = look("flat: sort a ticket", "Chat", "sim-large@nofield")

    assert len(picture.ledger.calls) == 2
    assert "JSON object" in picture.ledger.calls[1].messages[-1]["content"]
    assert not picture.is_read
    assert picture.outcome.startswith("AdapterParseError: ")
    assert "request 2 of 2" in str(picture)


@pytest.mark.parametrize("own", ["->", "ticket", "a -> b: nonsense[", "", "a -> a"])
def test_a_signature_that_cannot_be_read_says_how_to_write_one(own):
    with pytest.raises(CourseError, match="is_angry: bool"):
        look(OWN, "Chat", own=own)


def test_an_own_signature_is_asked_with_an_own_text_which_is_no_markup():
    picture = look(OWN, "XML", own="mail -> is_angry: bool", text="<script>third lamp</script>")
    shown = side_by_side(picture, picture)

    assert picture.is_read
    assert "third lamp" in picture.ledger.calls[0].messages[-1]["content"]
    assert "<script>" not in shown.html
    assert "&lt;script&gt;" in shown.html
    assert "<script>" in shown.text


def test_what_the_lesson_tells_to_try_shows_a_second_request_at_the_first_press(lab):
    lm.reset()
    lab.model.value = "sim-large@sloppy"
    lab.button.click()

    assert "Chat: read, requests: 2" in lab._status.value
    assert "request 2 of 2" in lab._out.value
    lab.model.value = "sim-large"


def test_the_lab_opens_with_a_first_look(lab):
    assert "== Chat" in lab.rendered.text
    assert "== JSON" in lab.rendered.text
    assert 'role="status"' in lab._status.value
    assert "ChatAdapter, left" in lab._out.value


def test_the_button_looks_again_through_what_is_chosen_now(lab):
    lab.left.value, lab.right.value = "Custom", "XML"
    lab.signature.value = "nested: read a ticket"
    assert lab.text.value == adapter_xray.sample("nested: read a ticket")
    lab.button.click()

    assert "CustomAdapter, left" in lab._out.value
    assert "XMLAdapter, right" in lab._out.value
    assert "Custom: read" in lab._status.value
    assert lab.button.disabled is False


def test_a_text_of_ones_own_stays_and_a_bad_signature_leaves_the_last_picture(lab):
    lab.text.value, before = "My own.", lab._out.value
    lab.signature.value, lab.own.value = OWN, "->"
    lab.button.click()

    assert lab.text.value == "My own."
    assert lab.own.layout.display == ""
    assert "needs an input and an output" in lab._status.value
    assert lab._out.value == before
    assert lab.button.disabled is False
