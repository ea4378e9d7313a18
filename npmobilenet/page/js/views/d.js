/* D. Do both give the same? What a separable pair can and cannot compute, by rank: depth from space, row from column. */

const D_FILTERS = /** @type {Record<string, number[]>} */ ({
  gauss: [1, 2, 1, 2, 4, 2, 1, 2, 1], sobel: [1, 0, -1, 2, 0, -2, 1, 0, -1], laplace: [0, 1, 0, 1, -4, 1, 0, 1, 0],
});
const RANK_LIMIT = 1e-6; // of the largest singular value: below is rounding

/** The K*K x N matrix of one input channel of a standard kernel. @param {Tensor} w (K, K, C, N) @param {number} c @returns {number[][]} */
function channelMatrix({ shape: [K_h, K_w, C, N], data }, c) {
  return Array.from({ length: K_h * K_w }, (_, tap) => Array.from({ length: N }, (_, d) => data[(tap * C + c) * N + d]));
}

/** The nearest separable pair: in each channel the largest singular value and its vectors.
 * @param {Tensor} w (K, K, C, N) @returns {{f: Tensor, m: Tensor, S: number[][], lost: number}} lost: share of the squares that no pair can have */
function bestSeparable(w) {
  const [K_h, K_w, C, N] = w.shape;
  const f = zeros(K_h, K_w, C, 1), m = zeros(C, N);
  const S = Array.from({ length: C }, (_, c) => {
    const { U, S, V } = svd(channelMatrix(w, c));
    for (let tap = 0; tap < K_h * K_w; tap++) f.data[tap * C + c] = U[tap][0] * S[0];
    for (let d = 0; d < N; d++) m.data[c * N + d] = V[d][0];
    return S;
  });
  const squares = S.flat().reduce((sum, s) => sum + s * s, 0);
  const kept = S.reduce((sum, [s]) => sum + s * s, 0);
  return { f, m, S, lost: squares ? 1 - kept / squares : 0 };
}

/** The standard kernel of the current state, the map that it meets, and its stride. @returns {{w: Tensor, x: Tensor, stride: number, padding: string|number[][]}} */
function kernelToSplit() {
  const kind = page.state.kernel || "learned";
  const layers = page.model.graph.layers;
  const first = layers.find((/** @type {Layer} */ { type, kernel_size }) => type === "Conv2D" && kernel_size[0] > 1);
  if (kind === "learned") return { w: page.model.params.get(first.name).kernel, x: page.values.get(first.inputs[0]), stride: first.stride, padding: first.padding };
  const [{ x, f, m, stride, padding }] = pairsOfNetwork();
  const [C, N] = m.shape;
  const product = filled([f.shape[0], f.shape[1], C, N], (i) => f.data[Math.floor(i / N)] * m.data[i % (C * N)]);
  if (kind === "product") return { w: product, x, stride, padding };
  return { w: filled(product.shape, (i) => Math.sin(12.9898 * (i + 1)) * 43758.5453 % 1), x, stride, padding };
}

registerView({
  letter: "D",

  build(stage) {
    stage.append(
      el("h2", {}, page.text("d.depth")),
      el("div", { class: "controls" },
        choice(page.text("d.kernel"), ["learned", "product", "random"].map((kind) => [kind, page.text(`d.${kind}`)]), page.state.kernel || "learned", (kernel) => page.set({ kernel, out: null })),
        el("span", { id: "d-out" })),
      el("div", { id: "d-maps", class: "columns" }),
      el("div", { id: "d-ranks" }),
      el("h2", {}, page.text("d.space")),
      el("div", { class: "columns" },
        el("div", {}, el("div", { class: "controls" }, choice(page.text("d.filter"),
          [...Object.keys(D_FILTERS), "layer", "own"].map((name) => [name, page.text(`d.${name}`)]), page.state.filter || "gauss", chooseFilter)),
          el("div", { id: "d-taps", class: "row", style: "display: grid; grid-template-columns: repeat(3, 5.5rem); gap: 4px" },
            ...filterTaps().map((tap, i) => el("input", { type: "number", step: "any", value: Number(tap.toPrecision(3)), "aria-label": page.text("d.tap", { row: Math.floor(i / 3), column: i % 3 }), onchange: readTaps, style: "width: 5.5rem" })))),
        el("div", { id: "d-spatial", style: "flex: 1 1 20rem" })),
      el("div", { id: "d-filtered", class: "columns" }));
  },

  update() {
    const { w, x, stride, padding } = kernelToSplit();
    const [K_h, K_w, C, N] = w.shape;
    const best = bestSeparable(w);
    const out = Math.min(Number(page.state.out || 0), N - 1);
    const standard = conv2d(x, w, undefined, stride, padding);
    const separable = pointwise(depthwise(x, best.f, undefined, stride, padding), best.m);
    replaceContent("d-out", slider({ label: page.text("d.out"), min: 0, max: N - 1, value: out, change: (value) => page.set({ out: value }) }));
    replaceContent("d-maps", ...threeMaps(standard, separable, out, [page.text("c.standard"), page.text("d.nearest"), page.text("d.difference")]));
    replaceContent("d-ranks", table(page.text("d.values"), [page.text("d.channel"), ...best.S[0].map((_, i) => `σ${i + 1}`), page.text("d.rank")],
      best.S.map((S, c) => [String(c), ...S.map((s) => page.number(s)), String(rankOf(S))])));
    replaceContent("d-spatial", spatialTable());
    replaceContent("d-filtered", ...spatialMaps());
    return page.text("d.live", {
      numbers: K_h * K_w * C * N, free: K_h * K_w * C + C * N,
      energy: page.number(100 * best.lost, { maximumFractionDigits: 2 }), output: page.number(100 * lostShare(standard, separable), { maximumFractionDigits: 2 }),
    });
  },

  code: { javascript: [bestSeparable, svd] },
});

/** @param {number[]} S */
function rankOf(S) {
  return S.filter((s) => s > RANK_LIMIT * S[0]).length;
}

/** Squares of the difference against squares of the values. @param {Tensor} y @param {Tensor} other */
function lostShare(y, other) {
  const squares = y.data.reduce((sum, value) => sum + value * value, 0);
  return squares ? y.data.reduce((sum, value, i) => sum + (value - other.data[i]) ** 2, 0) / squares : 0;
}

/** One channel of two outputs and of their difference. @param {Tensor} y @param {Tensor} other @param {number} channel @param {string[]} captions */
function threeMaps(y, other, channel, captions) {
  const difference = { shape: y.shape, data: y.data.map((value, i) => value - other.data[i]) };
  const limit = largestMagnitude(y, channel);
  return [y, other, difference].map((map, i) => {
    const canvas = el("canvas", { style: "width: 150px", role: "img", "aria-label": captions[i] });
    drawMap(canvas, map, channel, limit);
    return el("figure", { style: "margin: 0" }, canvas, el("figcaption", { class: "quiet", style: "max-width: 150px" }, captions[i]));
  });
}

/** Nine taps of the filter in question. @returns {number[]} */
function filterTaps() {
  const { filter = "gauss", taps } = page.state;
  if (filter === "own" && taps) return taps.split(",").map(Number).concat(Array(9).fill(0)).slice(0, 9);
  if (D_FILTERS[filter]) return D_FILTERS[filter];
  const { f } = pairsOfNetwork()[0];
  return Array.from({ length: 9 }, (_, tap) => f.data[tap * f.shape[2]]);
}

/** @param {string} filter */
function chooseFilter(filter) {
  page.set({ filter, taps: filter === "own" ? filterTaps().map((tap) => tap.toPrecision(3)).join(",") : null });
  const inputs = /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll("#d-taps input"));
  filterTaps().forEach((tap, i) => { inputs[i].value = String(Number(tap.toPrecision(3))); });
}

/** The reader's nine numbers. */
function readTaps() {
  const inputs = /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll("#d-taps input"));
  page.set({ filter: "own", taps: Array.from(inputs, ({ value }) => Number(value) || 0).join(",") });
}

/** Singular values of a 3 x 3 filter, and the column and the row that come nearest to it. */
function nearestColumnAndRow() {
  const taps = filterTaps();
  const { U, S, V } = svd([0, 1, 2].map((row) => taps.slice(3 * row, 3 * row + 3)));
  const root = Math.sqrt(S[0]);
  return { taps, S, column: U.map(([u]) => u * root), row: V.map(([v]) => v * root) };
}

function spatialTable() {
  const { S, column, row } = nearestColumnAndRow();
  const numbers = (/** @type {number[]} */ values) => values.map((value) => page.number(Math.round(1000 * value) / 1000)).join("  ");
  return el("div", {}, table(page.text("d.filter-values"), ["", page.text("d.numbers")], [
    [page.text("d.singular"), numbers(S)], [page.text("d.column"), numbers(column)], [page.text("d.row"), numbers(row)]]),
    el("p", {}, page.text(rankOf(S) <= 1 ? "d.rank-one" : "d.rank-more", { rank: rankOf(S) })));
}

/** The reader's picture through the filter, and through the column and the row. */
function spatialMaps() {
  const { taps, column, row } = nearestColumnAndRow();
  const [H, W, C] = page.input.shape;
  const x = { shape: [H, W, 1], data: page.input.data.filter((/** @type {number} */ _, /** @type {number} */ i) => i % C === 0) };
  const y = depthwise(x, filled([3, 3, 1, 1], (i) => taps[i]), undefined, 1, "same");
  const apart = depthwise(depthwise(x, filled([3, 1, 1, 1], (i) => column[i]), undefined, 1, "same"), filled([1, 3, 1, 1], (i) => row[i]), undefined, 1, "same");
  return threeMaps(y, apart, 0, [page.text("d.filtered"), page.text("d.filtered-apart"), page.text("d.difference")]);
}
