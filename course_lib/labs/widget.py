"""What the labs that are widgets share: buttons to choose with, a line that says what happens, one result.

Main path: a subclass of Lab says and shows; choice() makes a row of buttons.
"""

# mypy: allow-subclassing-any
# ipywidgets has no types, so its classes are Any.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets as widgets

from course_lib.labs.reading import INK, Rendered, paragraph


class Lab(widgets.VBox):
    """A lab in the notebook; `rendered` is what it shows now."""

    def __init__(self, intro: str, controls: Sequence[Any]) -> None:
        self._status, self._out = widgets.HTML(), widgets.HTML()
        super().__init__([widgets.HTML(paragraph(intro)), *controls, self._status, self._out])

    def say(self, words: str) -> None:
        """Show a line that is read out when it changes."""
        self._status.value = f'<p role="status" aria-live="polite" style="{INK}">{escape(words)}</p>'

    def show(self, rendered: Rendered) -> None:
        """Show a result in place of the last one."""
        self.rendered = rendered
        self._out.value = rendered.html

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Add the result as it stands now, for viewers that run no widgets."""
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        return {**data, "text/plain": self.rendered.text, "text/html": self.rendered.html}, metadata


def choice(label: str, options: Mapping[str, Any], value: Any, *, label_width: str) -> Any:
    """Return a row of buttons, of which one is chosen: JupyterLab keeps the arrow keys for itself."""
    return widgets.ToggleButtons(
        description=label,
        options=list(options.items()),
        value=value,
        tooltips=[f"{label}: {name}" for name in options],
        style={"description_width": label_width, "button_width": "auto"},
    )
