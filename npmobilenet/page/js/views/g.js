/* G. Why no ReLU where channels are few? A spiral through n x 2, ReLU, and back (V2, figure 1). */

const G_DIMENSIONS = [2, 3, 5, 8, 15, 30]; // the paper's figure has 2, 3, 5, 15, 30
const G_POINTS = 400, G_TURNS = 2, G_DRAWS = 200;
const G_WAYS = ["paper", "linear", "best"];
const G_SLICE = 40; // ms of counting between two answers to the reader
const G_RANGE = 1.1; // half the side of a panel, in the spiral's units

/** An Archimedean spiral of whole turns with radius up to 1; no point is the origin. @returns {number[][]} (points, 2) */
function spiralPoints() {
  return Array.from({ length: G_POINTS }, (_, i) => {
    const t = (i + 1) / G_POINTS;
    return [t * Math.cos(2 * Math.PI * G_TURNS * t), t * Math.sin(2 * Math.PI * G_TURNS * t)];
  });
}

/** Numbers in (0, 1), the same for the same seed (mulberry32). @param {number} seed @returns {() => number} */
function uniformNumbers(seed) {
  let state = Math.imul(seed + 1, 0x9e3779b1);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), 1 | state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32 + 2 ** -33;
  };
}

/** An (n, 2) matrix of normal numbers (Box and Muller), the same for the same seed. @param {number} n @param {number} seed */
function normalMatrix(n, seed) {
  const uniform = uniformNumbers(64 * seed + n);
  return Array.from({ length: n }, () => {
    const [radius, angle] = [Math.sqrt(-2 * Math.log(uniform())), 2 * Math.PI * uniform()];
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  });
}

/** y = relu(A x) for every point. @param {number[][]} A (n, 2) @param {number[][]} points (P, 2) @returns {number[][]} (P, n) */
function throughRelu(A, points) {
  return points.map(([x0, x1]) => A.map(([a0, a1]) => relu(a0 * x0 + a1 * x1)));
}

/** Rows that ReLU has not cut off, for every point. @param {number[][]} y (P, n) @returns {number[]} (P) */
function activeRows(y) {
  return y.map((row) => row.reduce((count, value) => count + (value > 0 ? 1 : 0), 0));
}

/** The paper's way back: one matrix for all points, the pseudo-inverse of A. @param {number[][]} A @param {number[][]} y */
function backByPaper(A, y) {
  return y.map((row) => planeLeastSquares(A, row));
}

/** The best linear way back: least squares on the spiral itself, with a constant. @param {number[][]} y @param {number[][]} points */
function backByLinear(y, points) {
  const M = leastSquaresByReflections(y.map((row) => [...row, 1]), points); // (n + 1, 2)
  return y.map((row) => [0, 1].map((axis) => row.reduce((sum, value, i) => sum + value * M[i][axis], M[row.length][axis])));
}

/** The best way back: for every point, solve the rows that are left. @param {number[][]} A @param {number[][]} y */
function backByRows(A, y) {
  return y.map((row) => planeLeastSquares(A.filter((_, i) => row[i] > 0), row.filter((value) => value > 0)));
}

/** A spiral there and back. @param {number} n @param {number} seed @param {string[]} [ways] */
function thereAndBack(n, seed, ways = G_WAYS) {
  const points = spiralPoints();
  const A = normalMatrix(n, seed);
  const y = throughRelu(A, points);
  const back = /** @type {Record<string, () => number[][]>} */ ({
    paper: () => backByPaper(A, y), linear: () => backByLinear(y, points), best: () => backByRows(A, y),
  });
  const active = activeRows(y);
  const found = Object.fromEntries(ways.map((way) => [way, back[way]()]));
  return {
    active, share: active.filter((count) => count >= 2).length / points.length, back: found,
    error: Object.fromEntries(ways.map((way) => [way, spiralError(found[way], points)])),
  };
}

/** |x - exact| / |exact| over all points. @param {number[][]} x @param {number[][]} exact */
function spiralError(x, exact) {
  const distance = Math.hypot(...x.map(([x0, x1], i) => Math.hypot(x0 - exact[i][0], x1 - exact[i][1])));
  return distance / Math.hypot(...exact.flat());
}

/** Share of points with two or more active rows that many matrices have on average: each row is cut off on half of the
 * plane, so 1 - P(none active) - P(one active). @param {number} n */
function expectedShare(n) {
  return 1 - (n + 1) / 2 ** n;
}

/** Over many matrices: mean share recoverable, and the median error of each way back.
 * @param {{share: number, error: Record<string, number>}[]} rounds */
function spiralStatistics(rounds) {
  return {
    share: rounds.reduce((sum, round) => sum + round.share, 0) / rounds.length,
    error: Object.fromEntries(G_WAYS.map((way) => [way, medianOf(rounds.map((round) => round.error[way]))])),
  };
}

/** @param {number[]} values */
function medianOf(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2;
}

/** Matrices that have been counted, by n. @type {Map<number, {share: number, error: Record<string, number>}[]>} */
const spiralsCounted = new Map(G_DIMENSIONS.map((n) => [n, []]));

registerView({
  letter: "G",

  build(stage) {
    const { at, seed, way, all } = spiralState();
    stage.append(
      el("div", { id: "g-panels", class: "columns", style: "gap: 0.5rem 12px; align-items: stretch" }),
      el("p", { class: "quiet", id: "g-legend", style: "max-width: none" }),
      el("div", { class: "controls" },
        slider({ label: page.text("g.n"), min: 0, max: G_DIMENSIONS.length - 1, value: at, show: (index) => String(G_DIMENSIONS[index]), change: (index) => page.set({ n: G_DIMENSIONS[index] }) }),
        slider({ label: page.text("g.seed"), min: 0, max: G_DRAWS - 1, value: seed, change: (value) => page.set({ seed: value }) }),
        choice(page.text("g.way"), G_WAYS.map((name) => [name, page.text(`g.${name}`)]), way, (name) => page.set({ way: name })),
        checkbox(page.text("g.all"), all, (checked) => page.set({ all: checked ? 1 : null }))),
      el("div", { id: "g-table", style: "order: 3" }));
    setTimeout(countSpirals);
  },

  update() {
    const { n, seed, way, all } = spiralState();
    const { share, error, ...found } = thereAndBack(n, seed);
    replaceContent("g-panels", ...(all ? G_DIMENSIONS.map((each) => smallPanel(each, seed, way)) : largePanels(n, way, found)));
    replaceContent("g-legend", ...spiralLegend());
    replaceContent("g-table", spiralTable(seed));
    return page.text("g.live", { n, share: spiralPercent(share), expected: spiralPercent(expectedShare(n)), way: page.text(`g.${way}`), error: page.number(error[way], { maximumSignificantDigits: 2 }) });
  },

  code: { numpy: ["relu"], javascript: [throughRelu, activeRows, backByPaper, backByLinear, backByRows] },
});

/** What the URL's hash describes. */
function spiralState() {
  const { n = 3, seed = 0, way = "paper", all } = page.state;
  const at = nearestIndex(G_DIMENSIONS, Number(n) || 3);
  return { at, n: G_DIMENSIONS[at], seed: Math.max(0, Math.min(G_DRAWS - 1, Math.floor(Number(seed)) || 0)), way: G_WAYS.includes(String(way)) ? String(way) : "paper", all: all !== undefined };
}

/** @param {number} share */
function spiralPercent(share) {
  return page.number(share, { style: "percent", maximumFractionDigits: 2 });
}

/** Count over many matrices, some at a time so that the page answers meanwhile. */
function countSpirals() {
  const started = performance.now();
  for (const [n, rounds] of spiralsCounted) {
    while (rounds.length < G_DRAWS) {
      const { share, error } = thereAndBack(n, rounds.length);
      rounds.push({ share, error });
      if (performance.now() - started > G_SLICE) return void setTimeout(countSpirals);
    }
  }
  const place = document.getElementById("g-table");
  if (place) place.replaceChildren(spiralTable(spiralState().seed));
}

/** The spiral, and what comes back by each way; the way that is chosen has a frame. @param {number} n @param {string} way @param {{active: number[], back: Record<string, number[][]>}} found */
function largePanels(n, way, { active, back }) {
  const side = window.innerWidth < 1100 ? (fitting(624) - 14) / 2 : 294;
  return [
    spiralPanel(page.text("g.before", { n }), spiralPoints(), active, side),
    ...G_WAYS.map((each) => spiralPanel(page.text("g.after", { way: page.text(`g.${each}`) }), back[each], active, side, each === way))];
}

/** @param {number} n @param {number} seed @param {string} way */
function smallPanel(n, seed, way) {
  const { active, share, back } = thereAndBack(n, seed, [way]);
  return spiralPanel(page.text("g.panel", { n, share: spiralPercent(share) }), back[way], active, Math.min(194, (fitting(408) - 14) / 2));
}

/** Points of the plane; the mark of each says how many rows are left of it. The gray line is the spiral.
 * @param {string} title @param {number[][]} points @param {number[]} active @param {number} side in px @param {boolean} [framed] */
function spiralPanel(title, points, active, side, framed = false) {
  const place = (/** @type {number[]} */ [x, y]) => [(x / G_RANGE + 1) * side / 2, (1 - y / G_RANGE) * side / 2].map((value) => value.toFixed(1));
  const line = spiralPoints().map((point) => place(point).join(" ")).join("L");
  const marks = ["gone", "one", "two"].map((left, rows) => svg("path", {
    ...G_MARKS[left], d: points.filter((_, i) => Math.min(2, active[i]) === rows).map((point) => `M${place(point).join(" ")}${G_MARKS[left].shape}`).join(""), shape: null,
  }));
  return el("figure", { style: `margin: 0; width: ${side}px; display: flex; flex-direction: column; justify-content: end${framed ? "; font-weight: 700" : ""}` }, el("figcaption", {}, title),
    drawing(side, side, title,
      svg("path", { d: `M${line}`, fill: "none", stroke: "var(--line)", "stroke-width": 2 }), ...marks,
      svg("rect", { width: side, height: side, fill: "none", stroke: framed ? "var(--blue)" : "var(--line)", "stroke-width": framed ? 5 : 2 })));
}

/** Marks by what is left of a point: they differ in shape as well as in color. @type {Record<string, Record<string, any>>} */
const G_MARKS = {
  gone: { shape: "m-4 -4l8 8m0 -8l-8 8", stroke: "var(--ink)", "stroke-width": 1.5, fill: "none" },
  one: { shape: "m-3 -3h6v6h-6z", stroke: "var(--orange)", "stroke-width": 1.5, fill: "none" },
  two: { shape: "h0", stroke: "var(--blue)", "stroke-width": 5, "stroke-linecap": "round" },
};

/** What the marks mean. */
function spiralLegend() {
  return ["two", "one", "gone"].flatMap((left) => [
    svg("svg", { width: 16, height: 14, style: "display: inline; vertical-align: middle", "aria-hidden": "true" }, svg("path", { ...G_MARKS[left], d: `M8 7${G_MARKS[left].shape}`, shape: null })),
    " " + page.text(`g.left-${left}`) + "  "]);
}

/** The drawing's twin: all n, this matrix and many. @param {number} seed */
function spiralTable(seed) {
  const figures = (/** @type {number} */ value) => page.number(value, { maximumSignificantDigits: 2 });
  return table(page.text("g.table", { draws: G_DRAWS }),
    ["n", page.text("g.share"), page.text("g.mean"), "1 − (n + 1) / 2ⁿ", ...G_WAYS.map((way) => page.text(`g.error-${way}`))],
    G_DIMENSIONS.map((n) => {
      const rounds = spiralsCounted.get(n) || [];
      const counted = rounds.length === G_DRAWS ? spiralStatistics(rounds) : null;
      return [n, spiralPercent(thereAndBack(n, seed, []).share), counted ? spiralPercent(counted.share) : "…", spiralPercent(expectedShare(n)),
        ...G_WAYS.map((way) => (counted ? figures(counted.error[way]) : "…"))];
    }));
}
