// The table is replaced whole; the status line is one element that lives on, so that a screen reader hears it change.

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "course-board";
  const table = document.createElement("div");
  table.className = "course-board-table";
  const status = document.createElement("p");
  status.setAttribute("role", "status");
  status.setAttribute("aria-live", "polite");
  const refresh = document.createElement("button");
  refresh.type = "button";
  refresh.textContent = "Refresh";
  refresh.title = "Read again what other notebooks have done";
  refresh.addEventListener("click", () => model.send({ kind: "refresh" }));
  root.append(table, status, refresh);
  el.append(root);

  const showTable = () => {
    table.innerHTML = model.get("table");
  };
  const showStatus = () => {
    status.textContent = model.get("status");
  };
  model.on("change:table", showTable);
  model.on("change:status", showStatus);
  showTable();
  showStatus();
  return () => {
    model.off("change:table", showTable);
    model.off("change:status", showStatus);
  };
}

export default { render };
