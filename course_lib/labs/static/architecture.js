// The picture answers a click, or Enter and Space on the box that has the focus. All words come from Python.

let drawn = 0;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// A link beside this notebook: JupyterLab opens it in a tab of its own; elsewhere it is a plain relative link.
async function link(label, file, model) {
  const anchor = element("a", label);
  anchor.href = file;
  const rendermime = model.widget_manager?.rendermime;
  if (rendermime?.resolver && rendermime?.linkHandler) {
    const path = await rendermime.resolver.resolveUrl(file);
    rendermime.linkHandler.handleLink(anchor, path, "");
    anchor.href = await rendermime.resolver.getDownloadUrl(path);
  }
  return anchor;
}

async function builtIn(notebooks, model) {
  const told = element("dd");
  for (const [index, [label, file]] of notebooks.entries()) {
    if (index) told.append(", ");
    told.append(file ? await link(label, file, model) : label);
  }
  return told;
}

async function tell(box, model) {
  const facts = element("dl");
  for (const [heading, sentence] of box.facts) facts.append(element("dt", heading), element("dd", sentence));
  facts.append(element("dt", "Built in notebook"), await builtIn(box.notebooks, model));
  return [element("p", box.name, "arch-name"), facts];
}

function render({ model, el }) {
  const root = element("div", "", "arch");
  root.dataset.lmSuppressShortcuts = "true"; // Enter belongs to the box, not to JupyterLab's command mode
  root.innerHTML = model.get("drawing");
  const told = element("div", "", "arch-told");
  told.id = `arch-told-${++drawn}`;
  told.setAttribute("aria-live", "polite");
  const listing = element("details");
  listing.innerHTML = model.get("listing");
  listing.prepend(element("summary", "The same as a list"));
  root.append(told, listing);
  el.append(root);

  const buttons = [...root.querySelectorAll(".arch-button")];
  const select = (key) => {
    model.set("selected", key);
    model.save_changes();
  };
  for (const button of buttons) {
    button.setAttribute("aria-controls", told.id);
    button.addEventListener("click", () => select(button.dataset.key));
    button.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      select(button.dataset.key);
    });
  }

  const show = async () => {
    const key = model.get("selected");
    for (const button of buttons) button.setAttribute("aria-expanded", String(button.dataset.key === key));
    const box = model.get("boxes")[key];
    const parts = box
      ? await tell(box, model)
      : [element("p", "Choose a box: click it, or move to it with Tab and press Enter.")];
    if (model.get("selected") === key) told.replaceChildren(...parts);
  };
  model.on("change:selected", show);
  show();
  return () => model.off("change:selected", show);
}

export default { render };
