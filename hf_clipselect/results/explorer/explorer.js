// Keys of the review, and the enlarged row. Nothing here talks to another machine.
(() => {
  const BUTTONS = { k: "keep", p: "take", d: "drop", u: "unsure", z: "undo", ArrowLeft: "back", ArrowRight: "forward" };
  const PATIENCE = 8000;
  let pressedOn = null, pressedAt = 0;

  const serial = () => document.querySelector("#review-facts [data-serial]")?.dataset.serial;
  const isShown = element => element && element.offsetParent !== null && !element.disabled;
  const overlay = () => [...document.querySelectorAll(".cs-overlay")].find(element => !element.hidden);

  // A second press must not decide about a row that nobody has seen: until the next row is shown, presses do nothing.
  document.addEventListener("click", event => {
    if (!event.target.closest?.(".cs-act")) return;
    if (serial() === pressedOn && Date.now() - pressedAt < PATIENCE) {
      event.stopImmediatePropagation();
      event.preventDefault();
      return;
    }
    [pressedOn, pressedAt] = [serial(), Date.now()];
  }, true);

  document.addEventListener("click", event => {
    if (event.target.closest?.(".cs-close") || event.target.matches?.(".cs-overlay")) close();
  });

  function close() {
    const open = overlay();
    if (!open) return;
    open.hidden = true;
    window.clipselectOpener?.focus();
  }

  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (overlay()) {
      if (event.key === "Escape") close();
      return;
    }
    const target = event.target;
    if (target.matches?.("input, textarea, select, [contenteditable=true]")) {
      if (event.key === "Escape") target.blur();
      return;
    }
    // A key that is held, also Enter on a button, would decide about rows that nobody has looked at.
    if (event.repeat && !event.key.startsWith("Arrow")) {
      if (BUTTONS[event.key] || target.closest?.(".cs-act")) event.preventDefault();
      return;
    }
    if (target.matches?.("[role=tab]") && event.key.startsWith("Arrow")) return;
    if (event.key === "c" && isShown(document.querySelector("#review-other input"))) {
      document.querySelector("#review-other input").focus();
      event.preventDefault();
    }
    const button = document.querySelector(`button#review-${BUTTONS[event.key]}`);
    if (BUTTONS[event.key] && isShown(button)) {
      button.click();
      event.preventDefault();
    }
  });

  // What Gradio's components tell: the next row stands there, or an enlarged one.
  document.addEventListener("clipselect:row", () => {
    if (document.activeElement?.closest("#review-other, .cs-filters")) document.activeElement.blur();
  });
  document.addEventListener("clipselect:detail", () => overlay()?.querySelector(".cs-close")?.focus());
})();
