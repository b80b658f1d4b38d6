"""What a lesson shows to be read: tables, messages, plots; as HTML, and as plain text beside it.

Main path: table(), show_messages() and plot() return a Rendered, which Jupyter displays and print() writes.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from textwrap import indent, shorten
from typing import Any

from course_lib.errors import CourseError

INK = "color:var(--jp-content-font-color1, #1f2328);background:var(--jp-layout-color0, #ffffff)"
_EDGE = "1px solid var(--jp-border-color1, #bdbdbd)"
_CELL = f"text-align:left;vertical-align:top;white-space:normal;padding:4px 10px;border-bottom:{_EDGE}"
PRE = (
    "color:inherit;background:transparent;margin:4px 0 0;font-family:var(--jp-code-font-family, monospace);"
    "font-size:var(--jp-code-font-size, 13px);line-height:1.4;"
    "white-space:pre-wrap;word-break:normal;overflow-wrap:break-word"
)
"""Code and prompts: JupyterLab would break lines inside words."""
_IN_THE_DARK = (
    '<style>[data-jp-theme-light="false"] .course-plot{filter:invert(.93) hue-rotate(180deg)}</style>'
)
_TEXT_WIDTH = 60
STATIC = Path(__file__).parent / "static"


@dataclass(frozen=True, slots=True)
class Rendered:
    """Something to read: HTML for Jupyter, text for everything else."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def _plain(value: object) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _as_rows(rows: Sequence[Any]) -> list[dict[str, str]]:
    listed = [asdict(row) if is_dataclass(row) and not isinstance(row, type) else row for row in rows]
    if not listed or not all(isinstance(row, Mapping) for row in listed):
        raise CourseError(f"table() shows a list of dicts or dataclasses, one a row; got {rows!r:.80}")
    columns = list(dict.fromkeys(column for row in listed for column in row))
    return [{str(column): _plain(row.get(column)) for column in columns} for row in listed]


def _text_table(rows: list[dict[str, str]], caption: str) -> str:
    cut = [[shorten(word, _TEXT_WIDTH, placeholder=" …") for word in row.values()] for row in rows]
    lines = [list(rows[0]), *cut]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    drawn = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in lines]
    ruled = [drawn[0], "  ".join("-" * width for width in widths), *drawn[1:]]
    return "\n".join(line.rstrip() for line in ([caption, ""] if caption else []) + ruled)


def table(rows: Sequence[Any], *, caption: str = "") -> Rendered:
    """Show rows (dicts or dataclasses) under a caption; the first column names the row.

    Raises:
        CourseError: there is no row, or a row is neither dict nor dataclass.
    """
    plain = _as_rows(rows)
    columns = [escape(column).replace("_", "_<wbr>") for column in plain[0]]  # long names may break there
    heads = "".join(f'<th scope="col" style="{_CELL}">{column}</th>' for column in columns)
    body = []
    for row in plain:
        first, *others = row.values()
        cells = "".join(f'<td style="{_CELL}">{escape(word)}</td>' for word in others)
        body.append(f'<tr><th scope="row" style="{_CELL}">{escape(first)}</th>{cells}</tr>')
    title = f'<caption style="text-align:left;font-weight:600;padding:4px 10px">{escape(caption)}</caption>'
    html = (
        f'<div style="overflow-x:auto"><table style="{INK};border-collapse:collapse;margin:0">'
        f"{title if caption else ''}<thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )
    return Rendered(html, _text_table(plain, caption))


def words_of(message: Mapping[str, Any]) -> str:
    """Return what a message says, in words: text parts as they are, everything else as JSON."""
    content = message.get("content") or message.get("parts") or ""
    texts = [_part(part) for part in (content if isinstance(content, list) else [content])]
    texts += [f"calls tool: {json.dumps(call)}" for call in message.get("tool_calls") or ()]
    return "\n".join(word for word in texts if word)


def _part(part: Any) -> str:
    if isinstance(part, Mapping):  # OpenTelemetry calls "content" what the model's API calls "text"
        part = part.get("text") or part.get("content") or part
    return part if isinstance(part, str) else json.dumps(part, ensure_ascii=False)


def _field(call: Any, name: str) -> Any:
    return call.get(name) if isinstance(call, Mapping) else getattr(call, name, None)


def _messages(call: Any) -> list[tuple[str, str]]:
    """Return (role, words) of each message of a call, the reply last."""
    if isinstance(call, Sequence) and not isinstance(call, str):
        messages, reply = call, None
    else:
        messages = _field(call, "messages")
        outputs = _field(call, "outputs") or ()
        reply = _field(call, "reply") or "\n".join(
            output if isinstance(output, str) else _plain(output.get("text")) for output in outputs
        )
    if not messages:
        raise CourseError(
            f"show_messages() takes a call of lm.ledger().calls, an entry of lm.history, "
            f"or a list of messages; got {call!r:.80}"
        )
    pairs = [(str(message.get("role", "?")), words_of(message)) for message in messages]
    return [*pairs, ("reply", str(reply))] if reply else pairs


def show_messages(call: Any) -> Rendered:
    """Show what the model's server saw, message by message, and what it replied.

    Args:
        call: one of `lm.ledger().calls`, an entry of a `dspy.LM`'s history, or a list of messages.

    Raises:
        CourseError: no message was found in it.
    """
    pairs = _messages(call)
    text = "\n\n".join(f"{role}:\n{indent(words, '    ')}" for role, words in pairs)
    block = f"border:{_EDGE};border-radius:6px;margin:6px 0;padding:6px 12px;{INK}"
    html = "".join(
        f'<div role="group" aria-label="{escape(role, quote=True)} message" style="{block}">'
        f'<strong>{escape(role)}</strong><pre style="{PRE}">{escape(words)}</pre></div>'
        for role, words in pairs
    )
    return Rendered(html, text)


def plot(figure: Any, alt: str) -> Rendered:
    """Show a matplotlib figure with `alt`, the text that says what it shows; it follows the dark theme."""
    import matplotlib.pyplot as plt

    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=144, bbox_inches="tight")
    plt.close(figure)
    image = f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"
    size = f'style="max-width:100%" width="{96 * figure.get_figwidth():.0f}"'
    html = f'{_IN_THE_DARK}<img class="course-plot" {size} alt="{escape(alt, quote=True)}" src="{image}">'
    return Rendered(html, alt)


def paragraph(words: str) -> str:
    """Return a paragraph as HTML."""
    return f'<p style="{INK};max-width:80ch;line-height:1.5">{escape(words)}</p>'
