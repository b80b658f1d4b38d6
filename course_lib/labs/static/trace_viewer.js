// A run's rows as a tree: a click, or Enter on the row that has the focus, opens it; the arrows move the focus.
// The rows come from Python, where every text in them was escaped. Of thousands only those that change are touched.
function render({ model, el }) {
  el.innerHTML = model.get("html");
  el.dataset.lmSuppressShortcuts = "true"; // or JupyterLab would take the keys
  const rows = [...el.querySelectorAll("li")];
  let opened, reached = rows[0]; // the one that Tab reaches; the arrows reach the others
  const reach = (row) => {
    reached.tabIndex = -1;
    reached = row ?? reached;
    reached.tabIndex = 0;
  };
  const select = () => {
    opened?.setAttribute("aria-selected", "false");
    opened = rows[model.get("opened")];
    opened?.setAttribute("aria-selected", "true");
  };
  const filter = () => {
    const found = model.get("found");
    for (const row of rows) row.hidden = found !== null;
    for (const at of found ?? []) rows[at].hidden = false;
    if (reached.hidden) reach(rows[found[0]]);
  };
  const beside = (row, step) => {
    const seen = rows.filter((each) => !each.hidden);
    seen[seen.indexOf(row) + step]?.focus();
  };
  const keys = {
    Enter(row) {
      model.set("opened", rows.indexOf(row));
      model.save_changes();
    },
    ArrowDown: (row) => beside(row, 1),
    ArrowUp: (row) => beside(row, -1),
  };
  for (const row of rows) {
    row.tabIndex = -1;
    row.onclick = () => keys.Enter(row);
    row.onfocus = () => reach(row);
    row.onkeydown = (event) => {
      if (!Object.hasOwn(keys, event.key)) return;
      event.preventDefault();
      event.stopPropagation();
      keys[event.key](row);
    };
  }
  model.on("change:found", filter);
  model.on("change:opened", select);
  reach();
  filter();
  select();
}
export default { render };
