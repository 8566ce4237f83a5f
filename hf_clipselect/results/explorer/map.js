// Draws the points of the map on a canvas; a click tells the row of the nearest one. `element`, `props`, `watch` and
// `trigger` are Gradio's.
const PADDING = 10, REACH = 14, GOOD = "#9fb4cc", BAD = "#d00000";
const DISTINCT = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee7733", "#777777", "#009988",
  "#bb5566", "#9977cc", "#997700"];
let points = null, chosen = -1;

const canvas = () => element.querySelector("canvas");
const legend = () => element.querySelector(".cs-map p");
const at = i => {
  const side = canvas().clientWidth - 2 * PADDING;
  return [PADDING + points.x[i] * side, PADDING + (1 - points.y[i]) * side];
};
const colorOfClass = label => label < DISTINCT.length ? DISTINCT[label] : `hsl(${(label * 137.5) % 360} 60% 50%)`;

function colorOf(i) {
  if (props.by === "kept") return points.kept[i] ? "#228833" : "#bbbbbb";
  if (props.by === "wrong") {
    return `color-mix(in srgb, ${BAD} ${100 * points.wrong[i]}%, ${GOOD})`;
  }
  return colorOfClass(points.label[i]);
}

function entries() {
  if (props.by === "kept") return [["#228833", "kept"], ["#bbbbbb", "dropped"]];
  if (props.by === "wrong") return [[GOOD, points.ends[0]], [BAD, points.ends[1]]];
  const found = [...new Set(points.label)].sort((a, b) => a - b);
  const shown = found.slice(0, DISTINCT.length).map(label => [colorOfClass(label), points.names[label]]);
  return found.length > shown.length ? [...shown, ["transparent", `and ${found.length - shown.length} more`]] : shown;
}

function draw() {
  if (!points || !canvas() || !canvas().clientWidth) return;
  const side = canvas().clientWidth, scale = window.devicePixelRatio || 1, context = canvas().getContext("2d");
  canvas().width = canvas().height = Math.round(side * scale);
  context.scale(scale, scale);
  const radius = points.x.length > 2000 ? 2.5 : 4;
  for (let i = 0; i < points.x.length; i++) {
    const [x, y] = at(i);
    context.fillStyle = colorOf(i);
    context.beginPath();
    context.arc(x, y, radius, 0, 7);
    context.fill();
  }
  if (chosen >= 0) {
    const [x, y] = at(chosen);
    context.lineWidth = 2.5;
    context.strokeStyle = getComputedStyle(element).color;
    context.beginPath();
    context.arc(x, y, 9, 0, 7);
    context.stroke();
  }
  legend().replaceChildren(...entries().map(([color, text]) => {
    const mark = document.createElement("i"), item = document.createElement("span");
    mark.style.background = color;
    item.append(mark, text);
    return item;
  }));
}

function read() {
  points = props.value ? JSON.parse(props.value) : null;
  chosen = -1;
  element.querySelector(".cs-map").hidden = !points;
  draw();
}

element.addEventListener("click", event => {
  if (!points || !event.target.matches("canvas")) return;
  const box = canvas().getBoundingClientRect();
  let best = -1, least = REACH ** 2;
  for (let i = 0; i < points.x.length; i++) {
    const [x, y] = at(i), far = (x - event.clientX + box.left) ** 2 + (y - event.clientY + box.top) ** 2;
    if (far < least) [best, least] = [i, far];
  }
  if (best < 0) return;
  chosen = best;
  draw();
  trigger("select", { row: points.row[best] });
});
watch("value", read);
watch("by", draw);
// The canvas has no size until its tab is opened.
new ResizeObserver(draw).observe(element);
read();
