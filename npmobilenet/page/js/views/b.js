/* B. How is one value made? The same value in three lanes: standard, depthwise, pointwise, multiplication by multiplication. */

const B_SPEEDS = [4, 20, 100]; // multiplications a second
const B_MAX_TILES = 32; // maps drawn of a layer

/** @typedef {{x: Tensor, f: Tensor, m: Tensor, stride: number, padding: string|number[][], name: string}} Pair
 *   a depthwise kernel f (K, K, C, 1) and a pointwise kernel m (C, N), and the map x (H, W, C) that they meet */

/** Whole numbers in -2..2 that can be checked on paper, the same for everybody. @returns {Pair} */
function pairByHand() {
  const digits = (/** @type {number[]} */ shape, /** @type {number} */ seed) => filled(shape, (i) => (Math.imul(i + seed, 2654435761) >>> 16) % 5 - 2);
  return { x: digits([5, 5, 3], 1), f: digits([3, 3, 3, 1], 200), m: digits([3, 2], 300), stride: 1, padding: "same", name: "" };
}

/** The drawing that is often copied: 12 x 12 x 3 to 8 x 8 x 256 with a 5 x 5 kernel. @returns {Pair} */
function pairOfBook() {
  const eighths = (/** @type {number[]} */ shape, /** @type {number} */ speed) => filled(shape, (i) => Math.round(8 * Math.sin(speed * (i + 1))) / 8);
  return { x: eighths([12, 12, 3], 0.7), f: eighths([5, 5, 3, 1], 1.3), m: eighths([3, 256], 2.1), stride: 1, padding: "valid", name: "" };
}

/** @param {number[]} shape @param {(index: number) => number} value @returns {Tensor} */
function filled(shape, value) {
  const x = zeros(...shape);
  return { shape, data: x.data.map((_, i) => value(i)) };
}

/** The depthwise and pointwise layers of the network that follow each other, as it has them. @returns {Pair[]} */
function pairsOfNetwork() {
  const { graph, params } = page.model;
  const layers = graph.layers;
  return layers.flatMap((/** @type {Layer} */ layer, /** @type {number} */ at) => {
    const next = layers.slice(at + 1).find((/** @type {Layer} */ other) => other.type === "Conv2D");
    if (layer.type !== "DepthwiseConv2D" || !next || next.kernel_size[0] !== 1) return [];
    const kernel = params.get(next.name).kernel;
    return [{
      x: page.values.get(layer.inputs[0]), f: params.get(layer.name).kernel, m: shaped(kernel, kernel.shape.slice(-2)),
      stride: layer.stride, padding: layer.padding, name: `${layer.name} + ${next.name}`,
    }];
  });
}

/** The pair of the current state. @returns {Pair} */
function currentPair() {
  const { preset = "hand", layer = "0" } = page.state;
  if (preset === "book") return pairOfBook();
  const pairs = preset === "real" ? pairsOfNetwork() : [];
  return pairs[Math.min(Number(layer), pairs.length - 1)] || pairByHand();
}

/** The standard kernel that does in one step what the pair does in two: w[u, v, c, d] = f[u, v, c] * m[c, d].
 * @param {Pair} pair @param {number} d its output channel @returns {Tensor} (K, K, C, 1) */
function standardKernel({ f, m }, d) {
  const [C, N] = m.shape;
  return { shape: f.shape, data: f.data.map((tap, i) => tap * m.data[(i % C) * N + d]) };
}

/** What the page shows at one step: pixel [i, j], N output channels, `step` multiplications done in each way.
 * @param {Pair} pair */
function valueAt(pair) {
  const [H_out, W_out] = windowOutput(pair.x.shape.slice(0, 2), pair.f.shape.slice(0, 2), pair.stride, pair.padding);
  const [C, c_out] = pair.m.shape;
  const K2 = pair.f.shape[0] * pair.f.shape[1];
  const clamp = (/** @type {string|undefined} */ text, /** @type {number} */ fallback, /** @type {number} */ low, /** @type {number} */ high) =>
    Math.max(low, Math.min(high, text === undefined ? fallback : Number(text) || 0));
  const N = clamp(page.state.N, Math.min(c_out, 16), 1, c_out);
  const start = page.state.pixel ? page.state.pixel.split(",").map(Number) : busiestPixel(pair, H_out, W_out);
  const [i, j] = [Math.max(0, Math.min(H_out - 1, start[0] || 0)), Math.max(0, Math.min(W_out - 1, start[1] || 0))];
  const totals = { standard: K2 * C * N, separable: K2 * C + C * N };
  const step = clamp(page.state.step, 0, 0, Math.max(totals.standard, totals.separable));
  return { i, j, H_out, W_out, C, N, K2, c_out, totals, step, d: clamp(page.state.d, 0, 0, N - 1) };
}

/** Where the sum of the absolute products is largest: elsewhere most products of a real map are zero.
 * @param {Pair} pair @param {number} H_out @param {number} W_out @returns {number[]} */
function busiestPixel({ x, f, stride, padding }, H_out, W_out) {
  const sums = depthwise(elementwise(x, Math.abs), elementwise(f, Math.abs), undefined, stride, padding);
  let [best, largest] = [0, -1];
  for (let pixel = 0; pixel < H_out * W_out; pixel++) {
    const sum = sums.data.subarray(pixel * x.shape[2], (pixel + 1) * x.shape[2]).reduce((a, b) => a + b, 0);
    if (sum > largest) [best, largest] = [pixel, sum];
  }
  return [Math.floor(best / W_out), best % W_out];
}

/** Everything that has been multiplied so far in each lane. @param {Pair} pair @param {ReturnType<typeof valueAt>} at */
function lanesAt(pair, at) {
  const { i, j, C, N, K2, step } = at;
  const perFilter = K2 * C;
  const standardFilter = Math.min(N - 1, Math.floor(Math.max(0, step - 1) / perFilter));
  const standard = [...convSteps(pair.x, standardKernel(pair, standardFilter), pair.stride, pair.padding, [i, j, 0])];
  const standardDone = Math.min(step - standardFilter * perFilter, perFilter);
  const channel = Math.min(C - 1, Math.floor(Math.max(0, Math.min(step, perFilter) - 1) / K2));
  const filtered = Array.from({ length: C }, (_, c) => [...depthwiseSteps(pair.x, pair.f, pair.stride, pair.padding, [i, j, c])]);
  const z = { shape: [1, 1, C], data: Float32Array.from(filtered, (steps) => steps[K2 - 1].sum) };
  const mixed = Math.max(0, step - perFilter);
  const filter = Math.min(N - 1, Math.floor(Math.max(0, mixed - 1) / C));
  return {
    standard: { filter: standardFilter, steps: standard, done: standardDone },
    depthwise: { channel, steps: filtered[channel], done: Math.max(0, Math.min(step, perFilter) - channel * K2), z, complete: Math.min(C, Math.floor(step / K2)) },
    pointwise: { filter, steps: [...pointwiseSteps(z, pair.m, [0, 0, filter])], done: Math.max(0, Math.min(mixed, C * N) - filter * C), started: mixed > 0 },
  };
}

registerView({
  letter: "B",

  build(stage) {
    const pairs = pairsOfNetwork();
    stage.append(
      el("div", { class: "controls" },
        choice(page.text("b.preset"), [["hand", page.text("b.hand")], ["book", page.text("b.book")], ["real", page.text("b.real")]],
          page.state.preset || "hand", (preset) => restart({ preset, layer: null })),
        el("span", { id: "b-layer" }, choice(page.text("b.layer"), pairs.map((pair, i) => [String(i), pair.name]), page.state.layer || "0",
          (layer) => restart({ preset: "real", layer })))),
      el("div", { class: "columns" }, el("div", { id: "b-maps" }), el("div", { id: "b-progress", style: "flex: 1 1 22rem" })),
      el("div", { class: "controls", id: "b-controls" },
        el("button", { onclick: () => goTo(-1) }, page.text("b.back")),
        el("button", { id: "b-step", onclick: () => goTo(1) }, page.text("b.step")),
        el("button", { onclick: () => goTo(nextWindow()) }, page.text("b.window")),
        el("button", { onclick: () => goTo(Infinity) }, page.text("b.end")),
        el("button", { onclick: () => page.set({ step: 0 }) }, page.text("b.start")),
        el("button", { id: "b-play", "aria-pressed": "false", onclick: togglePlay }, page.text("b.play")),
        choice(page.text("b.speed"), B_SPEEDS.map((speed) => [String(speed), String(speed)]), String(playing.speed), (speed) => { playing.speed = Number(speed); }),
        el("span", { id: "b-filters" })),
      el("div", { id: "b-lanes", class: "columns" }),
      el("div", { id: "b-result" }));
  },

  update() {
    const pair = currentPair();
    const at = valueAt(pair);
    const lanes = lanesAt(pair, at);
    replaceContent("b-maps", mapsOfPair(pair, at));
    replaceContent("b-progress", progressBars(at));
    replaceContent("b-filters", slider({ label: page.text("b.outputs"), min: 1, max: at.c_out, value: at.N, change: (N) => page.set({ N, step: Math.min(at.step, at.K2 * at.C * N) }) }));
    replaceContent("b-lanes", standardLane(pair, at, lanes), depthwiseLane(at, lanes), pointwiseLane(at, lanes));
    replaceContent("b-result", resultTable(pair, at));
    markExecuted(at, lanes);
    return liveLine(pair, at, lanes);
  },

  describe() {
    const at = valueAt(currentPair());
    const { depthwise: lane, pointwise: mixing } = lanesAt(currentPair(), at);
    const steps = mixing.started ? mixing.steps.slice(0, mixing.done) : lane.steps.slice(0, lane.done);
    const last = steps.at(-1);
    if (!last) return page.text("b.says-start", { row: at.i, column: at.j });
    const numbers = { row: at.i, column: at.j, channel: last.c, x: last.x, w: last.w, product: last.product, sum: last.sum, step: Math.min(at.step, at.totals.separable), total: at.totals.separable };
    return mixing.started ? page.text("b.says-pointwise", { ...numbers, d: mixing.filter }) : page.text("b.says-depthwise", { ...numbers, u: last.u, v: last.v });
  },

  keys(event) {
    if (event.target instanceof HTMLButtonElement) return false; // space and Enter press it
    const at = valueAt(currentPair());
    const moves = /** @type {Record<string, () => void>} */ ({
      " ": () => goTo(event.shiftKey ? nextWindow() : 1), Enter: () => goTo(Infinity), Backspace: () => goTo(-1),
    });
    const map = /** @type {HTMLElement} */ (event.target).closest("#b-map");
    const arrows = /** @type {Record<string, number[]>} */ ({ ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] });
    if (map && arrows[event.key]) {
      const [down, right] = arrows[event.key];
      movePixel(at, at.i + down, at.j + right);
      return true;
    }
    if (!moves[event.key]) return false;
    moves[event.key]();
    return true;
  },

  code: { numpy: ["depthwise_conv2d", "pointwise_conv2d"], javascript: [depthwiseSteps, pointwiseSteps, convSteps], python: ["depthwise", "pointwise", "standard"] },
});

/** Mark the line that has made the last multiplication. @param {ReturnType<typeof valueAt>} at @param {ReturnType<typeof lanesAt>} lanes */
function markExecuted({ step }, { pointwise: { started } }) {
  const which = step ? Number(started) : -1;
  markLine("B", "javascript", which, "sum = Math.fround");
  markLine("B", "numpy", which, started ? "return dense(x, w, b)" : "y = total(");
  markLine("B", "python", which, "total +=");
}

const playing = { timer: 0, speed: B_SPEEDS[0] };

/** @param {Record<string, string|null>} changes */
function restart(changes) {
  page.set({ ...changes, pixel: null, step: 0, d: null, N: null });
}

/** @param {number} steps forward */
function goTo(steps) {
  const { step, totals } = valueAt(currentPair());
  page.set({ step: Math.max(0, Math.min(Math.max(totals.standard, totals.separable), step + steps)) });
}

/** Multiplications until the window of the current channel, or the column of the current filter, is complete. */
function nextWindow() {
  const { step, K2, C } = valueAt(currentPair());
  return step < K2 * C ? K2 - step % K2 : C - (step - K2 * C) % C;
}

/** @param {ReturnType<typeof valueAt>} at @param {number} i @param {number} j */
function movePixel(at, i, j) {
  page.set({ pixel: `${Math.max(0, Math.min(at.H_out - 1, i))},${Math.max(0, Math.min(at.W_out - 1, j))}`, step: 0 });
}

/** Play and pause; where the reader wants no motion, one press is one multiplication. */
function togglePlay() {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return goTo(1);
  const button = /** @type {HTMLElement} */ (document.getElementById("b-play"));
  if (playing.timer) {
    clearTimeout(playing.timer);
    playing.timer = 0;
  } else playOn();
  button.setAttribute("aria-pressed", String(playing.timer !== 0));
}

function playOn() {
  const { step, totals } = valueAt(currentPair());
  playing.timer = 0;
  if (page.state.view !== "B" || step >= Math.max(totals.standard, totals.separable)) {
    const button = document.getElementById("b-play");
    if (button) button.setAttribute("aria-pressed", "false");
    return;
  }
  goTo(1);
  playing.timer = window.setTimeout(playOn, 1000 / playing.speed);
}

/** The map, all channels, the window outlined; by hand with its numbers. @param {Pair} pair @param {ReturnType<typeof valueAt>} at */
function mapsOfPair({ x, f, stride, padding }, at) {
  const [H, W, C] = x.shape;
  const [[top], [left]] = resolvePadding(padding, [H, W], f.shape, stride);
  const K = f.shape[0];
  const tile = C <= 3 ? 150 : 80;
  const columns = Math.min(C, Math.max(1, Math.floor(Math.min(fitting(560), 560) / (tile + 6))));
  const shown = Math.min(C, B_MAX_TILES);
  const limit = x.data.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  const canvas = el("canvas", { width: columns * (tile + 6), height: Math.ceil(shown / columns) * (tile + 6) });
  const context = canvas.getContext("2d");
  for (let c = 0; c < shown; c++) {
    const [x0, y0] = [(c % columns) * (tile + 6), Math.floor(c / columns) * (tile + 6)];
    const map = el("canvas");
    drawMap(map, x, c, limit);
    context.imageSmoothingEnabled = false;
    context.drawImage(map, x0, y0, tile, tile * H / W);
    Object.assign(context, { strokeStyle: color("--orange"), lineWidth: 3 });
    const cell = tile / W;
    context.strokeRect(x0 + (at.j * stride - left) * cell, y0 + (at.i * stride - top) * cell, K * cell, K * cell);
    if (W <= 5) drawNumbers(context, x, c, x0, y0, cell);
  }
  canvas.addEventListener("click", (/** @type {MouseEvent} */ event) => {
    const scale = canvas.width / canvas.getBoundingClientRect().width;
    const [px, py] = [(event.offsetX * scale) % (tile + 6), (event.offsetY * scale) % (tile + 6)];
    movePixel(at, Math.round((py / (tile / W) - (K - 1) / 2 + top) / stride - 0.5), Math.round((px / (tile / W) - (K - 1) / 2 + left) / stride - 0.5));
  });
  const name = page.text("b.map", { row: at.i, column: at.j, C });
  return el("figure", { style: "margin: 0" }, el("div", { id: "b-map", tabindex: 0, role: "application", "aria-label": name }, canvas),
    el("figcaption", { class: "quiet" }, name, C > shown ? " " + page.text("b.more", { count: C - shown }) : ""));
}

/** @param {CanvasRenderingContext2D} context @param {Tensor} x @param {number} c @param {number} x0 @param {number} y0 @param {number} cell */
function drawNumbers(context, x, c, x0, y0, cell) {
  const [H, W, C] = x.shape;
  Object.assign(context, { font: `${cell * 0.5}px sans-serif`, textAlign: "center", textBaseline: "middle" });
  for (let i = 0; i < H; i++)
    for (let j = 0; j < W; j++) {
      const value = x.data[(i * W + j) * C + c];
      context.fillStyle = value > 0 ? "#000" : "#fff";
      context.fillText(String(value), x0 + (j + 0.5) * cell, y0 + (i + 0.5) * cell);
    }
}

/** Two bars that grow by one unit a multiplication. @param {ReturnType<typeof valueAt>} at */
function progressBars({ step, totals }) {
  const done = { standard: Math.min(step, totals.standard), separable: Math.min(step, totals.separable) };
  const full = Math.max(totals.standard, totals.separable);
  return el("div", {}, bars(page.text("b.progress"), /** @type {const} */ (["standard", "separable"]).map((way) => ({
    label: page.text(way === "standard" ? "b.at-once" : "b.apart"), value: done[way], text: `${page.number(done[way])} / ${page.number(totals[way])}`,
    color: way === "standard" ? "var(--orange)" : "var(--blue)",
  })), full), el("p", { class: "quiet" }, page.text(totals.separable > totals.standard ? "b.costs-more" : "b.saves", { standard: totals.standard, separable: totals.separable })));
}

/** The window of one channel against its kernel. @param {string} title @param {Step[]} steps of one channel, K * K @param {number} done @param {number} K @param {string} note */
function windowTable(title, steps, done, K, note) {
  const cell = (/** @type {Step} */ step, /** @type {number} */ index) => el("td", {
    style: index === done - 1 ? "outline: 3px solid var(--orange); outline-offset: -3px" : index < done ? "background: var(--blue-soft)" : "",
  }, `${step.inside ? page.number(step.x) : page.text("b.pad")} × ${page.number(step.w)}`);
  const rows = Array.from({ length: K }, (_, u) => el("tr", {}, ...steps.slice(u * K, (u + 1) * K).map((step, v) => cell(step, u * K + v))));
  return el("div", {}, el("h2", {}, title), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title },
    el("table", {}, el("caption", {}, note), el("tbody", {}, ...rows))));
}

/** @param {Pair} pair @param {ReturnType<typeof valueAt>} at @param {ReturnType<typeof lanesAt>} lanes */
function standardLane(pair, { C }, { standard: { filter, steps, done } }) {
  const channel = done ? steps[done - 1].c : 0;
  const ofChannel = steps.filter((step) => step.c === channel);
  const doneHere = steps.slice(0, done).filter((step) => step.c === channel).length;
  const sum = done ? steps[done - 1].sum : 0;
  return windowTable(page.text("c.standard"), ofChannel, done && steps[done - 1].c === channel ? doneHere : 0, pair.f.shape[0],
    page.text("b.standard-note", { channel, C, d: filter, sum }));
}

/** @param {ReturnType<typeof valueAt>} at @param {ReturnType<typeof lanesAt>} lanes */
function depthwiseLane({ K2, C }, { depthwise: { channel, steps, done } }) {
  return windowTable(page.text("c.depthwise"), steps, done, Math.sqrt(K2), page.text("b.depthwise-note", { channel, C, sum: done ? steps[done - 1].sum : 0 }));
}

/** @param {ReturnType<typeof valueAt>} at @param {ReturnType<typeof lanesAt>} lanes */
function pointwiseLane({ C, c_out }, { depthwise: { z, complete }, pointwise: { filter, steps, done, started } }) {
  const first = Math.max(0, Math.min(C - 9, done - 5)); // a window of nine rows around the current one
  const rows = steps.slice(first, first + 9).map((step, index) => [
    page.text("b.z", { c: step.c }),
    el("span", { style: first + index === done - 1 ? "outline: 3px solid var(--orange)" : "" }, step.c < complete ? page.number(z.data[step.c]) : "?"),
    page.number(step.w), first + index < done ? page.number(step.product) : "", first + index < done ? page.number(step.sum) : ""]);
  return el("div", {}, el("h2", {}, page.text("c.pointwise")),
    table(page.text("b.pointwise-note", { d: filter, N: c_out, sum: started && done ? steps[done - 1].sum : 0 }), ["", page.text("b.filtered"), page.text("b.weight"), page.text("b.product"), page.text("b.sum")], rows));
}

/** The first outputs of both ways: the same numbers, up to rounding. @param {Pair} pair @param {ReturnType<typeof valueAt>} at */
function resultTable(pair, at) {
  const values = outputsBothWays(pair, at, Math.min(at.N, 4));
  const complete = at.step >= at.totals.separable;
  return el("div", {}, table(page.text("b.result"), [page.text("b.output"), page.text("c.standard"), page.text("c.separable")],
    values.map(({ d, standard, separable }) => [`y[${at.i}, ${at.j}, ${d}]`,
      at.step >= (d + 1) * at.K2 * at.C ? page.number(standard) : "…", at.step >= at.K2 * at.C + (d + 1) * at.C ? page.number(separable) : "…"])),
    el("p", {}, complete ? page.text("b.same", { bound: Math.max(...values.map(({ bound }) => bound)) }) : ""));
}

/** Values of the first output channels, both ways, and how far rounding can move them apart. @param {Pair} pair @param {ReturnType<typeof valueAt>} at @param {number} count */
function outputsBothWays(pair, { i, j, C, K2 }, count) {
  const filtered = Array.from({ length: C }, (_, c) => [...depthwiseSteps(pair.x, pair.f, pair.stride, pair.padding, [i, j, c])]);
  const z = { shape: [1, 1, C], data: Float32Array.from(filtered, (steps) => steps[K2 - 1].sum) };
  return Array.from({ length: count }, (_, d) => {
    const steps = [...convSteps(pair.x, standardKernel(pair, d), pair.stride, pair.padding, [i, j, 0])];
    const magnitude = steps.reduce((sum, { product }) => sum + Math.abs(product), 0);
    return { d, standard: steps[steps.length - 1].sum, separable: [...pointwiseSteps(z, pair.m, [0, 0, d])][C - 1].sum, bound: roundingBound(steps.length + C + 1, magnitude) };
  });
}

/** @param {Pair} pair @param {ReturnType<typeof valueAt>} at @param {ReturnType<typeof lanesAt>} lanes */
function liveLine(pair, at, { depthwise: { channel, steps, done, z }, pointwise: mixing }) {
  const { step, totals } = at;
  const shown = Math.min(step, totals.separable);
  if (!mixing.started) return page.text("b.live-depthwise", { step: shown, total: totals.separable, c: channel, sum: done ? steps[done - 1].sum : 0 });
  const magnitude = mixing.steps.reduce((sum, { product }) => sum + Math.abs(product), 0);
  return page.text("b.live-pointwise", { step: shown, total: totals.separable, d: mixing.filter, sum: mixing.done ? mixing.steps[mixing.done - 1].sum : 0, bound: roundingBound(z.data.length, magnitude) });
}
