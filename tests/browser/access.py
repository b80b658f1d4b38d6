"""What axe-core finds in a notebook as JupyterLab shows it: in its texts and outputs, not in JupyterLab.

Main path: problems(page, name) -> one line for each finding, with notebook and cell.
Source: axe-core 4 through axe-playwright-python, with the rules that it has on by itself.
"""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

OURS = [".jp-RenderedMarkdown", ".jp-RenderedHTMLCommon", ".jp-OutputArea-output"]
NOT_OURS = [
    [
        ".jp-RenderedImage img"
    ],  # JupyterLab gives a plot no alternative text; lint sees to a sentence beside it
]
OFF = (
    # about a whole page, which is JupyterLab's; lint reads the order of headings from the file
    "heading-order",
    "landmark-one-main",
    "page-has-heading-one",
    "region",
    "scrollable-region-focusable",
    # the corner of a table whose rows have headings
    "empty-table-header",
)
CELL_OF = """selectors => selectors.map(selector => {
  const found = document.querySelector(selector);
  return found?.closest('[data-cell-id]')?.dataset.cellId ?? '?';
})"""


SEEN = "html, body { overflow: visible !important; min-height: 100vh; }"
"""JupyterLab's body is empty and hides what flows over: axe-core would take every text for hidden."""


def problems(page: Page, notebook: str, *, colours_alone: bool = False) -> list[str]:
    """Return what axe-core finds in the open notebook, all rendered; a second theme differs in colours."""
    page.locator(".jp-RenderedMarkdown h1").first.wait_for()
    page.add_style_tag(content=SEEN)
    options: dict[str, object] = {
        "resultTypes": ["violations"],
        "rules": {rule: {"enabled": False} for rule in OFF},
    }
    if colours_alone:
        options["runOnly"] = {"type": "tag", "values": ["cat.color"]}
    context = {"include": [[each] for each in OURS if page.locator(each).count()], "exclude": NOT_OURS}
    found = Axe().run(page, context=context, options=options).response["violations"]
    return [
        f"{notebook}, cell {cell}: {violation['help']} ({violation['id']}): {node['html'][:120]}"
        for violation in found
        for node, cell in zip(violation["nodes"], _cells(page, violation["nodes"]), strict=True)
    ]


def _cells(page: Page, nodes: list[dict]) -> list[str]:
    return page.evaluate(CELL_OF, [node["target"][0] for node in nodes])
