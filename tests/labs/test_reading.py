from __future__ import annotations

from dataclasses import dataclass

import matplotlib.pyplot as plt
import pytest
from inline_snapshot import snapshot

from course_lib.errors import CourseError
from course_lib.labs.reading import plot, show_messages, table


@dataclass
class Row:
    tier: str
    hit_share: float


def test_a_table_reads_well_as_text():
    shown = table([Row("memory", 0.5), Row("disk", 0.25)], caption="Hits")

    assert repr(shown) == snapshot("""\
Hits

tier    hit_share
------  ---------
memory  0.5
disk    0.25\
""")


def test_a_table_has_a_caption_and_header_cells_escapes_what_it_shows_and_may_miss_columns():
    html = table([{"a": "<script>alert(1)</script>"}, {"a": 2, "b": "&"}], caption="Hits")._repr_html_()

    assert "<caption" in html
    assert (html.count('scope="col"'), html.count('scope="row"')) == (2, 2)
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("rows", [[], ["text"], [dict]], ids=["no rows", "words", "a type"])
def test_a_table_of_nothing_says_what_it_takes(rows):
    with pytest.raises(CourseError, match="list of dicts or dataclasses"):
        table(rows)


MESSAGES = [{"role": "system", "content": "Be <brief>."}, {"role": "user", "content": "Hello"}]


def test_messages_are_shown_role_by_role_with_the_reply_last():
    shown = show_messages({"messages": MESSAGES, "outputs": ["Hi"]})

    assert repr(shown) == "system:\n    Be <brief>.\n\nuser:\n    Hello\n\nreply:\n    Hi"
    assert "Be &lt;brief&gt;." in shown._repr_html_()


def test_a_plot_has_its_words_as_alternative_text_and_turns_dark_with_the_theme():
    figure, axes = plt.subplots()
    axes.plot([1, 2])

    shown = plot(figure, 'hits & "misses"')

    assert 'alt="hits &amp; &quot;misses&quot;" src="data:image/png;base64,' in shown.html
    assert '[data-jp-theme-light="false"] .course-plot{filter:invert' in shown.html
    assert repr(shown) == 'hits & "misses"'
    assert not plt.fignum_exists(figure.number), "or Jupyter would show it a second time"


def test_parts_and_tool_calls_are_told_in_words():
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]
    called = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "track"}}]}

    text = repr(show_messages([{"role": "user", "content": parts}, called]))

    assert "see" in text
    assert "data:,x" in text
    assert 'calls tool: {"function": {"name": "track"}}' in text


def test_something_without_messages_is_refused_with_what_would_do():
    with pytest.raises(CourseError, match=r"lm\.ledger\(\)\.calls"):
        show_messages(42)
