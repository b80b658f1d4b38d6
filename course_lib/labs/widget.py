"""What the labs that are widgets share: buttons to choose with, a line that says what happens, one result.

Main path: a subclass of Lab says and shows; choice() makes a row of buttons.
Under the widget stands its result as plain HTML, which is seen where the widget is not: in a notebook that is
opened again without a kernel, or that JupyterLab does not trust.
"""

# mypy: allow-subclassing-any
# ipywidgets has no types, so its classes are Any.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets as widgets
from IPython.display import DisplayHandle, display

from course_lib.labs.reading import INK, Rendered, paragraph

_LIVE = "course-lab"
_HIDDEN = (
    f"<style>.jp-OutputArea:has(.{_LIVE}) .jp-OutputArea-child:has(.{_LIVE}-result){{display:none}}</style>"
)


class Lab(widgets.VBox):
    """A lab in the notebook; `rendered` is what it shows now."""

    def __init__(self, intro: str, controls: Sequence[Any]) -> None:
        self._intro, self._status, self._out = intro, widgets.HTML(), widgets.HTML()
        self.rendered = Rendered("", "")
        self._result: DisplayHandle | None = None
        super().__init__([widgets.HTML(paragraph(intro)), *controls, self._status, self._out])
        self.add_class(_LIVE)

    def say(self, words: str) -> None:
        """Show a line that is read out when it changes."""
        self._status.value = f'<p role="status" aria-live="polite" style="{INK}">{escape(words)}</p>'

    def show(self, rendered: Rendered) -> None:
        """Show a result in place of the last one."""
        self.rendered = rendered
        self._out.value = rendered.html
        if self._result:
            self._result.update(self._as_html())

    def whole(self) -> Rendered:
        """Return what stands where the widget is not: the result, and more where a subclass says so."""
        return self.rendered

    def _as_html(self) -> Rendered:
        """Return the whole for where the widget is not; where it is, this is hidden."""
        whole = self.whole()
        return Rendered(f'{_HIDDEN}<div class="{_LIVE}-result">{whole.html}</div>', whole.text)

    def _ipython_display_(self) -> None:
        """Show the widget, and its result as an output of its own, which follows every change."""
        words = {"text/plain": self._intro, "text/html": paragraph(self._intro)}
        display({**self._repr_mimebundle_(), **words}, raw=True)
        self._result = display(self._as_html(), display_id=True)


def choice(label: str, options: Mapping[str, Any], value: Any, *, label_width: str) -> Any:
    """Return a row of buttons, of which one is chosen: JupyterLab keeps the arrow keys for itself."""
    return widgets.ToggleButtons(
        description=label,
        options=list(options.items()),
        value=value,
        tooltips=[f"{label}: {name}" for name in options],
        style={"description_width": label_width, "button_width": "auto"},
    )
