"use strict";
(() => {
  const get = (id) => document.getElementById(id);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const FIRST = 24; // of the suspects; more on demand
  const suspects = all("#suspects > .tile");
  const picked = new Set();
  let size = null;
  let limit = FIRST;

  // Sizes: what belongs to another one than the chosen is hidden.
  function chooseSize() {
    size = get("size").value;
    for (const element of all("[data-size]")) element.hidden = element.dataset.size !== size;
    for (const element of all(".in, .size-name")) element.hidden = true;
  }

  // Suspects: filter and sort.
  function fill(id, name, words) {
    const select = get(id);
    if (!select) return;
    const counts = new Map();
    for (const tile of suspects) counts.set(tile.dataset[name], (counts.get(tile.dataset[name]) ?? 0) + 1);
    select.append(new Option(words, ""));
    for (const [value, count] of [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))) {
      // A class may have an empty name, which is not the choice of all.
      select.append(new Option(`${value} (${count})`, `=${value}`));
    }
    select.addEventListener("change", () => { limit = FIRST; refresh(); });
  }

  function isKept(tile) {
    const kept = tile.dataset.kept.split(" ");
    return size === null ? kept.length > 1 : kept.includes(size);
  }

  function matches(tile) {
    for (const [id, name] of [["by-cell", "cell"], ["by-proposed", "proposed"], ["by-reason", "reason"]]) {
      const wanted = get(id)?.value;
      if (wanted && wanted !== `=${tile.dataset[name]}`) return false;
    }
    const kept = get("by-kept").value;
    return !kept || isKept(tile) === (kept === "kept");
  }

  const orders = {
    given: () => 0,
    margin: (a, b) => a.dataset.margin - b.dataset.margin,
    cell: (a, b) => (a.dataset.cell === b.dataset.cell ? 0 : a.dataset.cell < b.dataset.cell ? -1 : 1),
    row: (a, b) => a.dataset.row - b.dataset.row,
  };

  function refresh() {
    const found = suspects.filter(matches).sort(orders[get("order").value]);
    for (const tile of suspects) tile.hidden = true;
    for (const tile of found.slice(0, limit)) tile.hidden = false;
    get("suspects").append(...found, ...suspects.filter((tile) => !found.includes(tile)));
    const shown = Math.min(limit, found.length);
    get("shown").textContent = `${shown} of ${found.length === suspects.length ? "" : `${found.length} that match, of `}${suspects.length} shown`;
    get("more").hidden = shown === found.length;
    get("more").textContent = `Show all ${found.length}`;
  }

  // Rows to drop.
  function pick(row, wanted) {
    if (wanted) picked.add(row); else picked.delete(row);
    for (const tile of all(`.tile[data-row="${row}"]`)) {
      tile.classList.toggle("picked", wanted);
      tile.querySelector(".pick").checked = wanted;
    }
    get("selection").hidden = picked.size === 0;
    get("num-selected").textContent = `${picked.size} ${picked.size === 1 ? "row" : "rows"} selected`;
    get("numbers").hidden = true;
  }

  async function copy() {
    const numbers = [...picked].sort((a, b) => a - b).map((row) => `${row}\n`).join("");
    try {
      await navigator.clipboard.writeText(numbers);
      get("numbers").hidden = true;
      get("told").textContent = "Copied, one number a line: save them as a file for --must_drop.";
    } catch {
      // A page that was opened as a file may be refused.
      const field = get("numbers");
      field.value = numbers;
      field.hidden = false;
      field.focus();
      field.select();
      get("told").textContent = "The browser keeps its clipboard shut; copy them from the field, for a file for --must_drop.";
    }
  }

  // One row, enlarged.
  let looked = null;
  const isShown = (tile) => tile.getClientRects().length > 0;

  function look(tile) {
    looked = tile;
    const copy = tile.cloneNode(true);
    const image = copy.querySelector("button.picture");
    const box = document.createElement("div");
    box.className = "picture";
    box.append(...image.childNodes);
    image.replaceWith(box);
    copy.querySelector(".pick").remove();
    for (const details of all("details", copy)) details.open = true;
    const row = document.createElement("div");
    row.className = "tile";
    row.append(...copy.childNodes);
    get("look-row").replaceChildren(row);
    get("look-title").textContent = `Row ${tile.dataset.row}`;
    get("look-pick").checked = picked.has(tile.dataset.row);
    const [before, after] = neighbours();
    get("previous").disabled = !before;
    get("next").disabled = !after;
    if (!get("look").open) get("look").showModal();
  }

  function neighbours() {
    const tiles = all(".tile", looked.closest("section")).filter((tile) => isShown(tile) && tile.querySelector("button.picture"));
    const place = tiles.indexOf(looked);
    return [tiles[place - 1], tiles[place + 1]];
  }

  function step(direction) {
    const other = neighbours()[direction < 0 ? 0 : 1];
    if (other) look(other);
  }

  function prepare(tile) {
    const row = tile.dataset.row;
    const box = document.createElement("input");
    box.type = "checkbox";
    box.className = "pick";
    box.setAttribute("aria-label", `Select row ${row}`);
    box.addEventListener("change", () => pick(row, box.checked));
    tile.querySelector(".row").prepend(box);
    const picture = tile.querySelector(".picture");
    if (picture?.querySelector("img")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "picture";
      button.title = "Enlarge";
      button.append(...picture.childNodes);
      button.addEventListener("click", () => look(tile));
      picture.replaceWith(button);
    }
  }

  all(".tile").forEach(prepare);
  for (const link of all('a[href="#warnings"]')) {
    link.addEventListener("click", () => { get("warnings").querySelector("details").open = true; });
  }
  if (suspects.length) {
    fill("by-cell", "cell", "all");
    fill("by-proposed", "proposed", "all");
    fill("by-reason", "reason", "all");
    for (const id of ["by-kept", "order"]) get(id).addEventListener("change", refresh);
    get("more").addEventListener("click", () => { limit = suspects.length; refresh(); });
    get("select-shown").addEventListener("click", () => {
      for (const tile of suspects) if (!tile.hidden) pick(tile.dataset.row, true);
    });
    get("controls").hidden = false;
  }
  if (get("size")) {
    get("size").addEventListener("change", () => { chooseSize(); if (suspects.length) refresh(); });
    get("size-bar").hidden = false;
    chooseSize();
  }
  if (suspects.length) refresh();
  get("copy").addEventListener("click", copy);
  get("clear").addEventListener("click", () => { for (const row of [...picked]) pick(row, false); });
  get("previous").addEventListener("click", () => step(-1));
  get("next").addEventListener("click", () => step(1));
  get("close").addEventListener("click", () => get("look").close());
  get("look-pick").addEventListener("change", (event) => pick(looked.dataset.row, event.target.checked));
  get("look").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft" || event.key === "ArrowUp") step(-1);
    else if (event.key === "ArrowRight" || event.key === "ArrowDown") step(1);
    else return;
    event.preventDefault();
  });
  get("look").addEventListener("close", () => looked.querySelector("button.picture").focus());
})();
