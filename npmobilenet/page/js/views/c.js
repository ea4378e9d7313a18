/* C. How many multiplications is that? Three convolutions as areas, and the curve 1/N + 1/K². */

/** @typedef {{H: number, M: number, N: number, K: number, stride: number, padding: string}} Block a separable block */

const C_PRESETS = /** @type {Record<string, Block>} */ ({
  "12 × 12 × 3 → 256, K 5": { H: 12, M: 3, N: 256, K: 5, stride: 1, padding: "valid" },
  "112 × 112 × 64 → 128, K 3": { H: 112, M: 64, N: 128, K: 3, stride: 1, padding: "same" },
  "14 × 14 × 512 → 512, K 3": { H: 14, M: 512, N: 512, K: 3, stride: 1, padding: "same" },
  "28 × 28 × 256 → 256, K 3": { H: 28, M: 256, N: 256, K: 3, stride: 1, padding: "same" },
});
const C_SIDES = [1, 7, 8, 12, 14, 16, 28, 32, 56, 112, 224];
const C_CHANNELS = [1, 2, 3, 4, 8, 16, 24, 32, 64, 96, 128, 256, 512, 1024];
const C_AREA = 300; // units of the drawing that the largest of the three areas is wide at most

/** Multiply-adds and weights of a standard convolution and of the pair that replaces it. @param {Block} block */
function separableCost({ H, M, N, K, stride, padding }) {
  const [side] = windowOutput([H, H], [K, K], stride, padding);
  const pixels = side * side;
  const weights = { standard: K * K * M * N, depthwise: K * K * M, pointwise: M * N };
  const macs = { standard: pixels * weights.standard, depthwise: pixels * weights.depthwise, pointwise: pixels * weights.pointwise };
  return { pixels, weights, macs, separable: macs.depthwise + macs.pointwise, ratio: (macs.depthwise + macs.pointwise) / macs.standard };
}

/** The same, counted: how many steps the loops of one output pixel take, times the pixels. @param {Block} block */
function countedWhileRunning({ H, M, N, K, stride, padding }) {
  const { pixels } = separableCost({ H, M, N, K, stride, padding });
  const one = { shape: [K, K, 1], data: new Float32Array(K * K) };
  const kernel = { shape: [K, K, 1, 1], data: new Float32Array(K * K) };
  const channel = { shape: [1, 1, M], data: new Float32Array(M) };
  const column = { shape: [1, 1, M, 1], data: new Float32Array(M) };
  const count = (/** @type {Iterable<any>} */ steps) => { let n = 0; for (const _ of steps) n++; return n; };
  return { depthwise: pixels * M * count(depthwiseSteps(one, kernel, 1, "valid", [0, 0, 0])), pointwise: pixels * N * count(pointwiseSteps(channel, column, [0, 0, 0])) };
}

registerView({
  letter: "C",

  build(stage) {
    const sliders = /** @type {[keyof Block, number[], string][]} */ ([
      ["H", C_SIDES, "c.side"], ["M", C_CHANNELS, "c.channels-in"], ["N", C_CHANNELS, "c.channels-out"],
      ["K", [1, 3, 5, 7], "c.kernel"], ["stride", [1, 2], "c.stride"]]);
    stage.append(
      el("div", { id: "c-drawing", class: "columns" }),
      el("div", { class: "controls" },
        choice(page.text("c.preset"), [["", page.text("c.own")], ...Object.keys(C_PRESETS).map((name) => /** @type {[string, string]} */ ([name, name]))], "",
          (name) => { if (name) setBlock(C_PRESETS[name]); }),
        choice(page.text("c.padding"), [["same", "SAME"], ["valid", "VALID"]], block().padding, (padding) => setBlock({ padding }))),
      el("div", { class: "controls", id: "c-sliders" }, ...sliders.map(([name, values, key]) => slider({
        label: page.text(key), min: 0, max: values.length - 1, value: nearestIndex(values, Number(block()[name])),
        show: (index) => String(values[index]), change: (index) => setBlock({ [name]: values[index] }),
      }))),
      el("div", { id: "c-table" }));
  },

  update() {
    const cost = separableCost(block());
    replaceContent("c-drawing", costAreas(cost), ratioCurve());
    replaceContent("c-table", costTable(cost));
    const { K, N } = block();
    const key = K === 1 ? "c.live-one" : "c.live";
    return page.text(key, { standard: cost.macs.standard, separable: cost.separable, N, K, ratio: page.number(cost.ratio, { maximumFractionDigits: 4 }) });
  },

  code: { numpy: ["conv2d", "depthwise_conv2d", "pointwise_conv2d"], javascript: [separableCost, countedWhileRunning], python: ["standard", "depthwise", "pointwise"] },
});

/** The block that the URL's hash describes. @returns {Block} */
function block() {
  const { H = 14, M = 512, N = 512, K = 3, stride = 1, padding = "same" } = page.state;
  const numbers = { H: Number(H), M: Number(M), N: Number(N), K: Number(K), stride: Number(stride) };
  return { ...numbers, padding: padding === "valid" && numbers.H >= numbers.K ? "valid" : "same" };
}

/** @param {Partial<Block>} changes */
function setBlock(changes) {
  page.set({ ...block(), ...changes });
}

/** @param {number[]} values @param {number} wanted */
function nearestIndex(values, wanted) {
  return values.reduce((best, value, index) => (Math.abs(value - wanted) < Math.abs(values[best] - wanted) ? index : best), 0);
}

/** Standard, depthwise and pointwise as squares whose areas are their multiply-adds. @param {ReturnType<typeof separableCost>} cost */
function costAreas({ macs }) {
  const widest = Math.min(C_AREA, fitting(600) / 2.4);
  const perUnit = Math.max(...Object.values(macs)) / widest ** 2;
  let x = 0;
  const squares = Object.entries(macs).flatMap(([name, count]) => {
    const side = Math.sqrt(count / perUnit);
    const at = x;
    x += Math.max(side, 90) + 12;
    return [
      svg("rect", { x: at, y: widest - side, width: side, height: side, fill: name === "standard" ? "var(--orange)" : "var(--blue)" }),
      svg("text", { x: at, y: widest + 18 }, page.text(`c.${name}`)),
      svg("text", { x: at, y: widest + 36 }, page.number(count))];
  });
  return el("figure", { style: "margin: 0" }, drawing(x, widest + 44, page.text("c.areas"), ...squares),
    el("figcaption", { class: "quiet" }, page.text("c.unit", { count: page.number(perUnit, { maximumSignificantDigits: 3 }) })));
}

/** 1/N + 1/K² over N, with the layers of MobileNetV1 and the block on it. */
function ratioCurve() {
  const { K, N } = block();
  const width = fitting(480);
  const ratio = (/** @type {number} */ n, /** @type {number} */ k) => 1 / n + 1 / k ** 2;
  const { frame, px, py } = axes({
    width, height: 320,
    x: { from: 1, to: 1024, ticks: [1, 4, 16, 64, 256, 1024], label: page.text("c.axis-n"), log: true },
    y: { from: 0.015, to: 1.2, ticks: [0.02, 0.05, 0.1, 0.2, 0.5, 1], label: page.text("c.axis-ratio"), log: true },
  });
  const curve = (/** @type {number} */ k) => {
    const points = Array.from({ length: 101 }, (_, i) => 1024 ** (i / 100)).filter((n) => ratio(n, k) <= 1.2);
    return svg("path", { d: "M" + points.map((n) => `${px(n)} ${py(ratio(n, k))}`).join("L"), fill: "none", stroke: k === K ? "var(--orange)" : "var(--quiet)", "stroke-width": k === K ? 3 : 1 });
  };
  const layers = page.facts.separable.map((/** @type {{N: number, K: number}} */ layer) =>
    svg("circle", { cx: px(layer.N), cy: py(ratio(layer.N, layer.K)), r: 4, fill: "none", stroke: "var(--blue)", "stroke-width": 2 }));
  const here = ratio(N, K) <= 1.2 ? [svg("path", { d: `M${px(N)} ${py(ratio(N, K))}m-7 0h14m-7 -7v14`, stroke: "var(--ink)", "stroke-width": 2 })] : [];
  return el("figure", { style: "margin: 0" }, drawing(width, 320, page.text("c.curve"), frame, ...[3, 5, 7].map(curve), ...layers, ...here,
    ...[3, 5, 7].map((k) => svg("text", { x: px(1024) - 2, y: py(ratio(1024, k)) - 6, "text-anchor": "end" }, `K ${k}`))),
    el("figcaption", { class: "quiet" }, page.text("c.curve-caption")));
}

/** The drawing's twin. @param {ReturnType<typeof separableCost>} cost */
function costTable(cost) {
  const counted = countedWhileRunning(block());
  const rows = /** @type {const} */ (["standard", "depthwise", "pointwise"]).map((name) => [
    page.text(`c.${name}`), page.number(cost.macs[name]), name === "standard" ? "–" : page.number(counted[name]), page.number(cost.weights[name])]);
  rows.push([page.text("c.separable"), page.number(cost.separable), page.number(counted.depthwise + counted.pointwise), page.number(cost.weights.depthwise + cost.weights.pointwise)]);
  return table(page.text("c.table"), ["", page.text("c.macs"), page.text("c.counted"), page.text("c.weights")], rows);
}
