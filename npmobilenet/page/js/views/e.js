/* E. What happens at the edge? SAME padding at stride 2, by TensorFlow's rule and by PyTorch's. */

const E_ROW = 26; // units of the drawing, the side of a pixel

registerView({
  letter: "E",

  build(stage) {
    const change = (/** @type {string} */ key) => (/** @type {number} */ value) => page.set({ [key]: value });
    const { size, K, stride } = edge();
    stage.append(
      el("div", { class: "columns" }, el("div", { id: "e-row" }), el("pre", { id: "e-steps", tabindex: 0, "aria-label": page.text("e.steps") })),
      el("div", { class: "controls" },
        slider({ label: page.text("e.size"), min: 4, max: 17, value: size, change: change("size") }),
        choice("K", ["1", "3", "5", "7"].map((side) => [side, side]), String(K), (side) => page.set({ K: side })),
        slider({ label: page.text("c.stride"), min: 1, max: 3, value: stride, change: change("stride") }),
        slider({ label: page.text("e.channel"), min: 0, max: page.input.shape[2] - 1, value: 0, change: change("channel") })),
      el("div", { id: "e-maps", class: "columns" }),
      el("div", { class: "controls" }, checkbox(page.text("e.whole"), page.state.whole === "yes", (whole) => page.set({ whole: whole ? "yes" : null }))),
      el("div", { id: "e-network" }));
  },

  update() {
    const { size, K, stride } = edge();
    const [ours, theirs] = [samePadding(size, K, stride), torchPadding(K)];
    replaceContent("e-row", rowOfPixels(size, K, stride));
    replaceContent("e-steps", paddingSteps(size, K, stride));
    const { right, other, differing } = mapsAtTheEdge(K, stride);
    replaceContent("e-maps", ...edgeMaps(right, other));
    replaceContent("e-network", ...(page.state.whole === "yes" ? [networkWithEvenPadding()] : []), el("p", { class: "quiet" }, paddingShare()));
    return page.text("e.live", { size, K, stride, ours: zerosText(ours), theirs: zerosText(theirs), differing, outputs: right.shape[0] * right.shape[1] });
  },

  code: { numpy: ["same_padding"], javascript: [samePadding, torchPadding] },
});

/** @returns {{size: number, K: number, stride: number}} */
function edge() {
  const { size = 16, K = 3, stride = 2 } = page.state;
  return { size: Number(size), K: Number(K), stride: Number(stride) };
}

/** Zeros before and after an axis in PyTorch's MobileNets: padding = K // 2, whatever the size. @param {number} K @returns {[number, number]} */
function torchPadding(K) {
  return [Math.floor(K / 2), Math.floor(K / 2)];
}

/** @param {number[]} padding */
function zerosText([before, after]) {
  return `(${before}, ${after})`;
}

/** A row of pixels; the windows of TensorFlow above it, those of PyTorch below. @param {number} size @param {number} K @param {number} stride */
function rowOfPixels(size, K, stride) {
  const ways = [{ name: "TensorFlow", zeros: samePadding(size, K, stride), y: 0 }, { name: "PyTorch", zeros: torchPadding(K), y: 1 }];
  const widest = Math.max(...ways.map(({ zeros: [before] }) => before));
  const counts = ways.map(({ zeros: [before, after] }) => Math.floor((before + size + after - K) / stride) + 1);
  const longest = Math.max(...ways.map(({ zeros: [, after] }) => after));
  const side = Math.min(E_ROW, fitting(620) / (size + widest + longest + 0.5));
  const height = (/** @type {number} */ outputs) => Math.min(outputs, 9) * 9 + 12;
  const [above, below] = [height(counts[0]) + 20, height(counts[1]) + 24];
  const at = (/** @type {number} */ pixel) => (pixel + widest) * side;
  const pixels = Array.from({ length: size }, (_, i) => svg("rect", { x: at(i), y: above, width: side, height: side, fill: "var(--panel)", stroke: "var(--quiet)" }));
  const numbers = Array.from({ length: size }, (_, i) => svg("text", { x: at(i) + side / 2, y: above + side / 2 + 4, "text-anchor": "middle", style: `font-size: ${Math.min(12, side / 2)}px` }, String(i)));
  const windows = ways.flatMap(({ name, zeros: [before, after], y }, way) => [
    svg("text", { x: 0, y: y ? above + side + below - 4 : 12 }, `${name} (${before}, ${after})`),
    ...[...Array.from({ length: before }, (_, i) => -1 - i), ...Array.from({ length: after }, (_, i) => size + i)].map((zero) =>
      svg("rect", { x: at(zero) + 1, y: above + (y ? side / 2 : 0), width: side - 2, height: side / 2, fill: y ? "url(#e-hatch)" : "var(--blue-soft)", stroke: y ? "var(--orange)" : "var(--blue)" })),
    ...Array.from({ length: counts[way] }, (_, i) => {
      const [start, line] = [i * stride - before, i % 9];
      const height = y ? above + side + 6 + line * 9 : above - 6 - line * 9;
      return svg("path", { d: `M${at(start) + 2} ${height}H${at(start + K) - 2}`, stroke: y ? "var(--orange)" : "var(--blue)", "stroke-width": 4, "stroke-dasharray": y ? "6 2" : "none" });
    })]);
  const hatch = svg("defs", {}, svg("pattern", { id: "e-hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, svg("rect", { width: 3, height: 6, fill: "var(--orange)" })));
  return drawing((size + widest + longest) * side + 2, above + side + below, page.text("e.row", { size, ours: zerosText(ways[0].zeros), theirs: zerosText(ways[1].zeros) }), hatch, ...pixels, ...numbers, ...windows);
}

/** `same_padding`, line by line, with its numbers. @param {number} size @param {number} K @param {number} stride */
function paddingSteps(size, K, stride) {
  const outputs = Math.ceil(size / stride);
  const total = Math.max((outputs - 1) * stride + K - size, 0);
  return [
    `outputs = ceil(${size} / ${stride}) = ${outputs}`,
    `total   = max((${outputs} - 1) * ${stride} + ${K} - ${size}, 0) = ${total}`,
    `before  = ${total} // 2 = ${Math.floor(total / 2)}`,
    `after   = ${total} - ${Math.floor(total / 2)} = ${total - Math.floor(total / 2)}`,
    "", `PyTorch: ${K} // 2 = ${Math.floor(K / 2)}, ${Math.floor(K / 2)}`].join("\n");
}

/** One channel of the reader's input, filtered by a mean over K x K with either padding. @param {number} K @param {number} stride */
function mapsAtTheEdge(K, stride) {
  const channel = Number(page.state.channel || 0);
  const [H, W, C] = page.input.shape;
  const x = { shape: [H, W, 1], data: page.input.data.filter((/** @type {number} */ _, /** @type {number} */ i) => i % C === channel) };
  const mean = filled([K, K, 1, 1], () => 1 / K ** 2);
  const right = depthwise(x, mean, undefined, stride, "same");
  const other = depthwise(x, mean, undefined, stride, [torchPadding(K), torchPadding(K)]);
  return { right, other, differing: right.data.reduce((count, value, i) => count + (cornerOf(other, right.shape, i) === value ? 0 : 1), 0) };
}

/** Value of a map, which may be a row or column larger, at index i of a map of a shape. @param {Tensor} map @param {number[]} shape @param {number} i */
function cornerOf(map, [, W], i) {
  return map.data[Math.floor(i / W) * map.shape[1] + i % W];
}

/** Both maps, the values that differ ringed. @param {Tensor} right @param {Tensor} other */
function edgeMaps(right, other) {
  const [H, W] = right.shape;
  const side = Math.min(240, fitting(240)), cell = side / Math.max(H, W);
  return [["TensorFlow", right], ["PyTorch", other]].map(([name, map]) => {
    const canvas = el("canvas", { width: side, height: side });
    const small = el("canvas");
    drawMap(small, /** @type {Tensor} */ (map), 0, 1);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, W, H, 0, 0, W * cell, H * cell);
    Object.assign(context, { strokeStyle: color("--orange"), lineWidth: 1.5 });
    right.data.forEach((value, i) => {
      if (cornerOf(other, right.shape, i) !== value) context.strokeRect((i % W) * cell + 1, Math.floor(i / W) * cell + 1, cell - 2, cell - 2);
    });
    return el("figure", { style: "margin: 0" }, canvas, el("figcaption", { class: "quiet", style: "max-width: 240px" }, page.text("e.mean", { name: /** @type {string} */ (name) })));
  });
}

/** The whole network with zeros on both sides: which layers differ, and what it answers. */
function networkWithEvenPadding() {
  const mistake = /** @type {any} */ (MISTAKES.find(({ key }) => key === "symmetric-padding"));
  const other = brokenModel(page.model, mistake);
  const values = trace(other, page.input);
  const last = page.model.graph.layers.at(-1).name;
  const best = (/** @type {Tensor} */ output) => output.data.indexOf(output.data.reduce((a, b) => Math.max(a, b)));
  const rows = page.model.graph.layers.filter((/** @type {Layer} */ { type }) => type === "DepthwiseConv2D" || type === "Conv2D").map((/** @type {Layer} */ { name }) => {
    const [ours, theirs] = [page.values.get(name), /** @type {Tensor} */ (values.get(name))];
    const largest = ours.data.reduce((/** @type {number} */ a, /** @type {number} */ b) => Math.max(a, Math.abs(b)), 0);
    return [name, page.number(largestDifference(ours, theirs)), page.number(largest)];
  });
  const [before, after] = [page.values.get(last), /** @type {Tensor} */ (values.get(last))];
  return el("div", {}, el("p", {}, page.text(best(before) === best(after) ? "e.answer-stays" : "e.answer-changes", {
    label: labelOf(best(before)), other: labelOf(best(after)), percent: percent(before.data[best(before)]), otherPercent: percent(after.data[best(after)]),
  })), table(page.text("e.layers"), [page.text("e.layer"), page.text("e.difference"), page.text("e.largest")], rows));
}

/** How many multiplications of the depthwise layers meet only the padding's zeros. */
function paddingShare() {
  const { digits, v1 } = page.facts.padding;
  return page.text("e.share", { digits: page.number(100 * digits, { maximumFractionDigits: 1 }), v1: page.number(100 * v1, { maximumFractionDigits: 1 }) });
}
