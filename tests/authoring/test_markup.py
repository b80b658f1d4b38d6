from __future__ import annotations

from course_lib.authoring.markup import parse_html, parse_markdown


def tags(text: str) -> list[str]:
    return [element.tag for element in parse_html(text).walk()]


def test_void_elements_hold_nothing():
    assert tags("<p>a<br>b<img src='x'>c</p><p>d</p>") == ["", "p", "br", "img", "p"]


def test_an_unclosed_element_ends_with_its_parent():
    root = parse_html("<div><span>a</div><p>b</p>")

    assert [child.tag for child in root.children] == ["div", "p"]


def test_a_stray_end_is_passed_over():
    assert parse_html("</b><p>a</p>").text == "a"


def test_text_is_all_that_is_read_and_no_style_or_script():
    assert parse_html("<style>p{}</style><p>a  <b>b</b></p><script>c</script>").text == "a b"


def test_a_style_is_a_table_of_declarations():
    (element,) = parse_html('<p style="Color: RED; background:var(--x, #FFF)">a</p>').children

    assert element.style == {"color": "red", "background": "var(--x, #fff)"}


def test_markdown_keeps_html_and_knows_tables():
    root = parse_markdown("# A\n\n| a |\n| - |\n| b |\n\n<svg role='img'></svg>")

    assert [element.tag for element in root.walk() if element.tag in ("h1", "th", "svg")] == [
        "h1",
        "th",
        "svg",
    ]
