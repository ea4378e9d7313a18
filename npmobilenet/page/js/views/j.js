/* J. What does a cheaper network cost in accuracy? Published accuracies over counted costs. */

/** @typedef {{model: string, alpha: number|null, resolution: number|null, top1: number, source: string, table: string,
 *   macs: number, weights: number, counted: boolean, family: string, checkpoint: boolean}} Point */
/** @typedef {"macs"|"weights"} Cost */

const J_LOOKS = /** @type {Record<string, {color: string, outline: string}>} */ ({ // outline of a marker around 0, 0
  v1: { color: "var(--blue)", outline: "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0" },
  v2: { color: "var(--orange)", outline: "M-4.5 -4.5h9v9h-9z" },
  v3: { color: "var(--ink)", outline: "M0 -6l6 10h-12z" },
  other: { color: "var(--quiet)", outline: "M0 -6l6 6l-6 6l-6 -6z" },
});
const J_AXES = {
  macs: { from: 9e6, to: 3e10, ticks: [1e7, 1e8, 1e9, 1e10] },
  weights: { from: 3e5, to: 2e8, ticks: [1e6, 1e7, 1e8] },
};
const J_LABELS = /** @type {Record<Cost, Record<string, [number, number, string]>>} */ ({ // where the names of other networks stand
  macs: {
    "VGG 16": [4, -11, "end"], AlexNet: [0, 19, "middle"], Squeezenet: [9, 4, "start"], GoogleNet: [9, 4, "start"],
    "Conv MobileNet": [0, -11, "middle"], "Shallow MobileNet": [9, 12, "start"],
  },
  weights: {
    "VGG 16": [0, 19, "middle"], AlexNet: [0, 19, "middle"], Squeezenet: [-9, 4, "end"], GoogleNet: [9, 12, "start"],
    "Conv MobileNet": [0, -11, "middle"], "Shallow MobileNet": [9, 12, "start"],
  },
});
const J_ALONE = ["VGG 16", "AlexNet"]; // named where there is little room
const J_SLIM = "tensorflow/models research/slim/nets/";
const J_COLUMNS = ["name", "kind", "macs", "weights", "top1", "source"];

registerView({
  letter: "J",

  build(stage) {
    const order = pointsByCost("macs");
    stage.append(
      el("div", { class: "columns" },
        el("div", { id: "j-chart", tabindex: 0, role: "application", "aria-label": page.text("j.chart") }),
        el("div", { style: "flex: 1 1 16rem" }, accuracyLegend(), el("p", { id: "j-quoted" }), el("p", { class: "lead quiet" }, page.text("j.keys")))),
      el("div", { class: "controls" },
        choice(page.text("j.network"), order.map((index) => [String(index), nameInSeries(accuracyPoints()[index])]), String(chosenIndex()), (point) => page.set({ point })),
        choice(page.text("j.cost"), [["macs", page.text("j.macs")], ["weights", page.text("j.weights")]], shownCost(), (cost) => page.set({ cost })),
        choice(page.text("j.lines"), ["front", "alpha", "resolution", "none"].map((name) => [name, page.text(`j.lines-${name}`)]), page.state.lines || "front", (lines) => page.set({ lines })),
        checkbox(page.text("j.guess"), "guess" in page.state, (guess) => page.set({ guess: guess ? "" : null }))),
      el("div", { id: "j-table", class: "twin" }));
  },

  update() {
    const select = /** @type {HTMLSelectElement} */ (document.querySelector("#view-J select"));
    select.value = String(chosenIndex());
    const point = accuracyPoints()[chosenIndex()];
    const others = quotesOf(point);
    replaceContent("j-chart", accuracyChart(shownCost()));
    replaceContent("j-quoted", isGuessed() ? page.text("j.hidden") : others.length
      ? page.text("j.others", { name: pointName(point), values: others.join("; ") })
      : page.text("j.alone", { name: pointName(point) }));
    sortedTable();
    const numbers = { name: pointName(point), macs: point.macs, weights: point.weights, top1: page.number(point.top1), source: sourceOf(point) };
    return page.text(isGuessed() ? "j.live-guess" : point.counted ? "j.live" : "j.live-printed", numbers);
  },

  keys(event) {
    const step = /** @type {Record<string, number>} */ ({ ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 })[event.key];
    if (!step || !(/** @type {HTMLElement} */ (event.target)).closest("#j-chart")) return false;
    const order = pointsByCost(shownCost());
    const next = order.indexOf(chosenIndex()) + step;
    page.set({ point: order[Math.max(0, Math.min(order.length - 1, next))] });
    return true;
  },
});

/** @returns {Point[]} */
function accuracyPoints() {
  return page.facts.accuracy.points;
}

/** @returns {Cost} */
function shownCost() {
  return page.state.cost === "weights" ? "weights" : "macs";
}

/** Index of the chosen point; MobileNetV1 1.0/224 at first. */
function chosenIndex() {
  const index = Number(page.state.point);
  return page.state.point && index < accuracyPoints().length ? index : 0;
}

/** Whether the accuracy of the chosen point is still to be guessed. */
function isGuessed() {
  return "guess" in page.state;
}

/** Indices, the cheapest first. @param {Cost} cost */
function pointsByCost(cost) {
  const points = accuracyPoints();
  return points.map((_, index) => index).sort((a, b) => points[a][cost] - points[b][cost] || points[a].top1 - points[b].top1);
}

/** "MobileNetV1 0.25/128", as its source names it. @param {Point} point */
function pointName({ model, alpha, resolution }) {
  return alpha === null ? model : `${model} ${alpha.toFixed(2).replace(/0$/, "")}/${resolution}`;
}

/** @param {Point} point */
function nameInSeries(point) {
  return page.text(point.checkpoint ? "j.of-checkpoint" : "j.of-paper", { name: pointName(point) });
}

/** @param {Point} point */
function seriesOf({ checkpoint }) {
  return page.text(checkpoint ? "j.checkpoint" : "j.paper");
}

/** Where an accuracy was published. @param {Point} point */
function sourceOf({ source, table, checkpoint }) {
  return checkpoint ? source.replace(J_SLIM, "TF-Slim, ") : page.text("j.table-of", { source, table });
}

/** What other sources say of the same network. @param {Point} point */
function quotesOf(point) {
  const others = accuracyPoints().filter((other) => pointName(other) === pointName(point) && (other.source !== point.source || other.top1 !== point.top1));
  const quoted = (/** @type {Point} */ other) => `${other.source} ${other.top1}`; // a paper prints some in two tables
  return others.filter((other, index) => others.findIndex((earlier) => quoted(earlier) === quoted(other)) === index)
    .map((other) => `${page.number(other.top1)} % (${sourceOf(other)})`);
}

/** A point's marker: filled for a checkpoint, open for a paper's table. @param {Point} point @param {string} [transform] */
function pointMarker({ family, checkpoint }, transform) {
  const { color, outline } = J_LOOKS[family];
  return svg("path", { d: outline, transform, fill: checkpoint ? color : "var(--paper)", stroke: color, "stroke-width": 1.8 });
}

/** @param {Cost} cost */
function accuracyChart(cost) {
  const [width, height] = [fitting(840), 350];
  const { frame, px, py } = axes({
    width, height,
    x: { ...J_AXES[cost], log: true, label: page.text(`j.axis-${cost}`), show: (value) => page.number(value / 1e6) },
    y: { from: 38, to: 80, ticks: [40, 50, 60, 70, 80], label: page.text("j.axis-top1") },
  });
  const points = accuracyPoints();
  const place = (/** @type {Point} */ point) => `${px(point[cost])} ${py(point.top1)}`;
  const lines = linesOf(cost).map(({ indices, wide }) => svg("path", {
    d: "M" + indices.map((/** @type {number} */ index) => place(points[index])).join("L"), fill: "none",
    stroke: wide ? "var(--line)" : "var(--quiet)", "stroke-width": wide ? 7 : 1, "stroke-linejoin": "round",
  }));
  const hidden = isGuessed() ? pointName(points[chosenIndex()]) : "";
  const markers = points.filter((point) => pointName(point) !== hidden).map((point) => pointMarker(point, `translate(${place(point)})`));
  const labels = points.filter(({ model }) => model in J_LABELS[cost]).filter((point) => pointName(point) !== hidden && (width > 500 || J_ALONE.includes(point.model))).map((point) => {
    const [dx, dy, anchor] = J_LABELS[cost][point.model];
    return svg("text", { x: px(point[cost]) + dx, y: py(point.top1) + dy, "text-anchor": anchor }, point.model);
  });
  const drawn = growing(drawing(width, height, page.text("j.chart"), frame, ...lines, ...markers, ...labels, ...chosenMark(points[chosenIndex()], cost, px, py)), 66);
  drawn.addEventListener("click", (/** @type {MouseEvent} */ event) => {
    const box = drawn.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) * width / box.width, (event.clientY - box.top) * height / box.height];
    const distance = (/** @type {number} */ index) => Math.hypot(px(points[index][cost]) - x, py(points[index].top1) - y);
    page.set({ point: pointsByCost(cost).reduce((best, /** @type {number} */ index) => (distance(index) < distance(best) ? index : best)) });
  });
  return drawn;
}

/** The chosen point, ringed, with lines to both axes; only its cost while its accuracy is guessed.
 * @param {Point} point @param {Cost} cost @param {(value: number) => number} px @param {(value: number) => number} py */
function chosenMark(point, cost, px, py) {
  const x = px(point[cost]);
  const line = { fill: "none", stroke: "var(--ink)", "stroke-dasharray": "4 3" };
  if (isGuessed()) return [svg("path", { ...line, d: `M${x} ${py(38)}V${py(80)}`, "stroke-width": 2 }), svg("text", { x: x + 6, y: py(78) }, "?")];
  return [svg("path", { ...line, d: `M${x} ${py(38)}V${py(point.top1) + 9}M${px(J_AXES[cost].from)} ${py(point.top1)}H${x - 9}` }),
    svg("circle", { cx: x, cy: py(point.top1), r: 9, fill: "none", stroke: "var(--ink)", "stroke-width": 2 })];
}

/** Lines between points: the front that no network is above, or networks of one alpha or of one resolution. @param {Cost} cost */
function linesOf(cost) {
  const lines = page.state.lines || "front";
  const shown = (/** @type {number} */ index) => !isGuessed() || index !== chosenIndex(); // a line would give the answer away
  if (lines === "front") return [{ indices: page.facts.accuracy.fronts[cost].filter(shown), wide: true }];
  if (lines === "none") return [];
  const groups = /** @type {Map<string, number[]>} */ (new Map());
  for (const index of pointsByCost("macs").filter(shown)) {
    const point = accuracyPoints()[index];
    if (!point.checkpoint || point.family === "v3") continue;
    const key = `${point.family} ${lines === "alpha" ? point.alpha : point.resolution}`;
    groups.set(key, [...(groups.get(key) || []), index]);
  }
  return [...groups.values()].map((indices) => ({ indices, wide: false }));
}

/** What the markers mean. */
function accuracyLegend() {
  const series = Object.keys(J_LOOKS).flatMap((family) => [true, false].map((checkpoint) => /** @type {any} */ ({ family, checkpoint })))
    .filter(({ family, checkpoint }) => accuracyPoints().some((point) => point.family === family && point.checkpoint === checkpoint));
  return el("ul", { class: "legend" }, ...series.map((point) => el("li", {},
    svg("svg", { viewBox: "-8 -8 16 16", width: 16, height: 16, "aria-hidden": "true" }, pointMarker(point)),
    point.family === "other" ? page.text("j.other") : page.text(point.checkpoint ? "j.of-checkpoint" : "j.of-paper", { name: `MobileNet${point.family.toUpperCase()}` }))));
}

/** The drawing's twin; its headers sort it. */
function sortedTable() {
  const before = /** @type {HTMLElement|null} */ (document.activeElement);
  const focused = before && before.closest("#j-table button") ? before.textContent : null;
  const sort = page.state.sort || "macs";
  const [column, sign] = [sort.replace("-", ""), sort.startsWith("-") ? -1 : 1];
  const rows = accuracyPoints().map((point) => ({ ...point, name: pointName(point), kind: seriesOf(point), source: sourceOf(point) }));
  const compare = (/** @type {any} */ a, /** @type {any} */ b) => sign * (typeof a === "number" ? a - b : a.localeCompare(b));
  const sorted = rows.slice().sort((a, b) => compare(/** @type {any} */ (a)[column], /** @type {any} */ (b)[column]));
  const hidden = isGuessed() ? pointName(accuracyPoints()[chosenIndex()]) : "";
  const header = J_COLUMNS.map((name) => el("button", { onclick: () => page.set({ sort: name === column && sign > 0 ? `-${name}` : name }) }, page.text(`j.${name}`)));
  const made = tall(table(page.text("j.caption", { count: rows.length }), header, sorted.map((row) => [
    row.name, row.kind, page.number(row.macs) + (row.counted ? "" : "*"), page.number(row.weights) + (row.counted ? "" : "*"),
    row.name === hidden ? "?" : page.number(row.top1, { minimumFractionDigits: 1 }), row.source])));
  made.querySelectorAll("thead th").forEach((cell, index) => {
    if (J_COLUMNS[index] === column) cell.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  });
  replaceContent("j-table", made);
  for (const button of header) if (button.textContent === focused) button.focus();
}
