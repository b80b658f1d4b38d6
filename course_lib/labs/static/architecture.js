// The picture answers a click, or Enter and Space on the box that has the focus, with what the list says of it.
for (const root of document.querySelectorAll(".arch:not([data-is-ready])")) {
  root.dataset.isReady = "true";
  root.querySelector("details").open = false;
  const told = root.querySelector(".arch-told");
  if (!told.hasChildNodes()) told.textContent = "Choose a box: click it, or move to it with Tab and press Enter.";
  const buttons = [...root.querySelectorAll(".arch-button")];
  const select = (key) => {
    for (const button of buttons) button.setAttribute("aria-expanded", String(button.dataset.key === key));
    told.replaceChildren(root.querySelector(`details [data-of="${key}"]`).cloneNode(true));
  };
  for (const button of buttons) {
    button.addEventListener("click", () => select(button.dataset.key));
    button.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      select(button.dataset.key);
    });
  }
}
