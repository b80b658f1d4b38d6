// A run's rows as a tree: a click, or Enter on the row that has the focus, opens it; the arrows move and fold.
// The rows come from Python, where every text in them was escaped.
function render({ model, el }) {
  el.innerHTML = model.get("html");
  el.dataset.lmSuppressShortcuts = "true"; // or JupyterLab would take the keys
  const rows = [...el.querySelectorAll("li")];
  const folded = new Set();
  const level = (row) => Number(row?.getAttribute("aria-level"));
  const reach = (row) => { // with Tab one row is reached, and the others with the arrows
    for (const each of rows) each.tabIndex = each === row ? 0 : -1;
    return row;
  };
  const draw = () => {
    const found = model.get("found") && new Set(model.get("found"));
    let within = Infinity; // the level of a folded row above
    rows.forEach((row, at) => {
      if (level(row) <= within) within = folded.has(row) ? level(row) : Infinity;
      row.hidden = found ? !found.has(at) : level(row) > within;
      row.ariaSelected = String(at === model.get("opened"));
      row.ariaExpanded = !found && level(rows[at + 1]) > level(row) ? String(!folded.has(row)) : null;
    });
    reach(rows.find((row) => !row.hidden && row.tabIndex === 0) ?? rows.find((row) => !row.hidden));
  };
  const open = (row) => {
    reach(row).focus();
    model.set("opened", rows.indexOf(row));
    model.save_changes();
  };
  el.onclick = (event) => rows.includes(event.target.closest("li")) && open(event.target.closest("li"));
  el.onkeydown = (event) => {
    const row = event.target.closest("li");
    const seen = rows.filter((each) => !each.hidden);
    const at = seen.indexOf(row);
    const move = (to) => to && reach(to).focus();
    const fold = (change) => (folded[change](row), draw());
    const keys = {
      Enter: () => open(row),
      " ": () => open(row),
      ArrowDown: () => move(seen[at + 1]),
      ArrowUp: () => move(seen[at - 1]),
      Home: () => move(seen[0]),
      End: () => move(seen.at(-1)),
      ArrowRight: () => row.ariaExpanded === "false" && fold("delete"),
      ArrowLeft: () => (row.ariaExpanded === "true" ? fold("add")
        : move(seen.slice(0, at).findLast((each) => level(each) < level(row)))),
    };
    if (!row || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  };
  for (const name of ["found", "opened"]) model.on(`change:${name}`, draw);
  draw();
}
export default { render };
