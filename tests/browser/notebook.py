"""A notebook open in JupyterLab, as a learner handles it: run a cell, write in one, read what it shows.

Main path: notebook = Notebook(page); notebook.open(address); notebook.run_all(); notebook.cell("check-0-1").
Source: JupyterLab 4.6 with --LabApp.expose_app_in_browser, which puts the application on window.jupyterapp.
"""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Locator, Page, expect

READY_DEADLINE_MS = 90_000
RUN_DEADLINE_MS = 180_000
SLICE_PX = 1600
expect.set_options(timeout=30_000)  # a page that comes back draws its widgets late on a busy machine

# The page's idle mark can appear before the kernel is connected, so it is the session that is asked.
IS_READY = """() => {
  const panel = window.jupyterapp?.shell?.currentWidget;
  const kernel = panel?.sessionContext?.session?.kernel;
  return !!(panel?.context?.isReady && panel.sessionContext.isReady
    && kernel?.connectionStatus === 'connected' && kernel.status === 'idle');
}"""
MARK_CELLS = """() => {
  for (const cell of window.jupyterapp.shell.currentWidget.content.widgets) {
    cell.node.dataset.cellId = cell.model.id;
  }
}"""
OPEN_INSTEAD = """async (path) => {
  const before = window.jupyterapp.shell.currentWidget;
  const opened = await window.jupyterapp.commands.execute('docmanager:open', { path });
  await opened.context.ready;
  await before.sessionContext.shutdown();
  before.dispose();
}"""
RUN_CELL = """async (id) => {
  const content = window.jupyterapp.shell.currentWidget.content;
  const index = content.widgets.findIndex(cell => cell.model.id === id);
  if (index < 0) { throw new Error(`no cell ${id}`); }
  content.activeCellIndex = index;
  content.deselectAll();
  return await window.jupyterapp.commands.execute('notebook:run-cell');
}"""
TRUST = """() => {
  for (const cell of window.jupyterapp.shell.currentWidget.content.widgets) { cell.model.trusted = true; }
}"""
CHOOSE_THEME = """async (theme) => {
  await window.jupyterapp.commands.execute('apputils:change-theme', { theme });
}"""
CONTENT_HEIGHT = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  const outer = panel.content.node.querySelector('.jp-WindowedPanel-outer') ?? panel.content.node;
  return outer.scrollHeight + outer.getBoundingClientRect().top;
}"""
TO_TOP = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  panel.content.activeCellIndex = 0;
  (panel.content.node.querySelector('.jp-WindowedPanel-outer') ?? panel.content.node).scrollTop = 0;
}"""


class Notebook:
    """One notebook in one page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.set_default_timeout(READY_DEADLINE_MS)

    def open(self, address: str) -> None:
        """Go to a notebook and wait until its kernel answers."""
        self.page.goto(address)
        self.page.wait_for_function(IS_READY)
        self.page.evaluate(MARK_CELLS)

    def open_instead(self, path: str) -> None:
        """Open another notebook of the server in the page, which takes half as long, and close this one."""
        self.page.evaluate(OPEN_INSTEAD, path)
        self.page.wait_for_function(IS_READY)
        self.page.evaluate(MARK_CELLS)

    def run_all(self) -> bool:
        """Run every cell; whether none raised."""
        self.page.set_default_timeout(RUN_DEADLINE_MS)
        done = self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.page.wait_for_function(IS_READY)
        return bool(done)

    def run(self, cell_id: str) -> None:
        """Run one cell and wait for its end."""
        self.page.evaluate(RUN_CELL, cell_id)
        self.page.wait_for_function(IS_READY)

    def restart(self) -> None:
        """Restart the kernel, as after a crash."""
        self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
        )
        self.page.wait_for_function(IS_READY)

    def trust(self) -> None:
        """Show stored outputs as they are, as after a run."""
        self.page.evaluate(TRUST)

    def choose_theme(self, theme: str) -> None:
        """Switch JupyterLab to a theme, by its full name."""
        self.page.evaluate(CHOOSE_THEME, theme)
        self.page.wait_for_function("theme => document.body.dataset.jpThemeName === theme", arg=theme)

    def write(self, cell_id: str, text: str) -> None:
        """Replace a cell's text with the keyboard, as a learner does."""
        editor = self.cell(cell_id).locator(".cm-content")
        editor.click()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.insert_text(text)
        expect(editor).to_contain_text(text.strip().split("\n")[-1].strip())

    def cell(self, cell_id: str) -> Locator:
        """Return a cell, with its input and output."""
        return self.page.locator(f'[data-cell-id="{cell_id}"]')

    def output(self, cell_id: str) -> Locator:
        """Return what stands under a cell."""
        return self.cell(cell_id).locator(".jp-Cell-outputArea")

    def shoot(self, folder: Path, name: str) -> list[Path]:
        """Photograph the whole notebook in slices, and return their files."""
        size = self.page.viewport_size or {"width": 1280, "height": 1400}
        height = int(self.page.evaluate(CONTENT_HEIGHT)) + 40
        self.page.set_viewport_size({"width": size["width"], "height": height})
        self.page.evaluate(TO_TOP)
        self.page.wait_for_timeout(500)  # what is newly in view draws itself
        paths = []
        for number, top in enumerate(range(0, height, SLICE_PX), 1):
            paths.append(folder / f"{name}_{number:02}.png")
            clip = {"x": 0, "y": top, "width": size["width"], "height": min(SLICE_PX, height - top)}
            self.page.screenshot(path=paths[-1], clip=clip)  # type: ignore[arg-type]  # a TypedDict
        self.page.set_viewport_size(size)
        return paths
