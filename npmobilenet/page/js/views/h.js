/* H. What does a block look like? Blocks to scale, their memory step by step, V3's tail, pooling, h-swish. */

const H_KINDS = ["standard", "v1", "resnet", "v2", "v3"];
const H_PARTS = ["block", "tail", "pooling", "swish"];
const H_SIDES = [7, 14, 28, 56, 112, 224];
const H_CHANNELS = [8, 16, 24, 32, 40, 48, 64, 80, 96, 112, 128, 160, 192, 256, 320, 512, 1024];
const H_KERNELS = [3, 5, 7];
const H_ACTIVATIONS = ["relu", "relu6", "hard_swish"];
const H_TAIL = ["expand", "depthwise", "project", "widen", "pool", "logits"]; // layers of V3's tail, of both together
const H_TALLEST = 46; // units that the map with the most pixels is high

/** The block of the URL's hash: a real one from the facts, or that of the sliders. @returns {BlockShape & {t: number, real: any}} */
function shownBlock() {
  const { real, kind = "v2", H = 56, c_in = 24, c_out = 24, t = 6, K = 3, stride = 1, se, act } = page.state;
  const found = page.facts.blocks.real.find((/** @type {any} */ block) => realName(block) === real);
  if (found) return { ...found, t: found.inner / found.c_in, real: found };
  const given = { H: Number(H), c_in: Number(c_in), c_out: Number(c_out), K: Number(K), stride: Number(stride), t: Number(t) };
  return { ...given, ...kindOfBlock(String(kind), given, se === undefined ? true : se === "1", act || "hard_swish"), real: null };
}

/** What a kind settles: inner channels, squeeze-and-excitation, activation.
 * @param {string} kind @param {{c_in: number, c_out: number, t: number}} given @param {boolean} se @param {string} act */
function kindOfBlock(kind, { c_in, c_out, t }, se, act) {
  const known = H_KINDS.includes(kind) ? kind : "v2";
  const inner = known === "resnet" ? Math.max(1, Math.round(c_out / t)) : known === "v2" || known === "v3" ? Math.round(c_in * t) : c_in;
  const activation = known === "v3" ? act : known === "resnet" ? "relu" : "relu6";
  return { kind: known, inner, se: known === "v3" && se, activation };
}

/** @param {any} block of the facts */
function realName({ network, number }) {
  return `${network} ${number}`;
}

/** Multiply-adds, weights and peaks of a block: counted by the package for a real one, by the rules of memory.js for another.
 * @param {BlockShape & {real?: any}} block */
function blockCost(block) {
  const layers = blockLayers(block);
  const [free, split] = [memoryPlan(layers, "free"), memoryPlan(layers, "split")];
  const sum = (/** @type {"macs"|"weights"} */ what) => layers.reduce((total, layer) => total + layer[what], 0);
  const counted = block.real || { macs: sum("macs"), weights: sum("weights"), free: free.peak, split: split.peak };
  return { layers, plans: { free, split }, macs: counted.macs, weights: counted.weights, free: counted.free, split: counted.split };
}

/** Sliders by the name of what they move. @type {Map<string, {label: HTMLElement, values: number[]}>} */
const blockSliders = new Map();

registerView({
  letter: "H",

  build(stage) {
    const block = shownBlock();
    const moves = /** @type {[string, number[], string][]} */ ([
      ["H", H_SIDES, "c.side"], ["c_in", H_CHANNELS, "h.c_in"], ["c_out", H_CHANNELS, "h.c_out"],
      ["t", [1, 2, 3, 4, 5, 6, 7, 8], "h.t"], ["K", H_KERNELS, "c.kernel"], ["stride", [1, 2], "c.stride"]]);
    const sliders = moves.map(([name, values, key]) => {
      const label = slider({ label: page.text(key), min: 0, max: values.length - 1, value: 0, show: (at) => String(values[at]), change: (at) => changeBlock({ [name]: values[at] }) });
      label.querySelector("input").style.width = "7rem"; // many controls on one screen
      blockSliders.set(name, { label, values });
      return label;
    });
    const blocks = page.facts.blocks.real.map((/** @type {any} */ each) => /** @type {[string, string]} */ ([realName(each), `${realName(each).replace("MobileNet", "")}: ${each.H} × ${each.H}, ${each.c_in} → ${each.c_out}`]));
    stage.append(
      el("div", { class: "controls" },
        choice(page.text("h.part"), H_PARTS.map((part) => [part, page.text(`h.${part}`)]), page.state.part || "block", (part) => page.set({ part }))),
      el("div", { id: "h-drawing", class: "columns" }),
      el("div", { class: "controls", id: "h-controls" },
        el("span", { id: "h-kind" }, choice(page.text("h.kind"), H_KINDS.map((kind) => [kind, page.text(`h.${kind}`)]), block.kind, (kind) => changeBlock({ kind }))),
        el("span", { id: "h-real" }, choice(page.text("h.real"), [["", page.text("c.own")], ...blocks], block.real ? realName(block.real) : "", (real) => page.set({ real: real || null }))),
        ...sliders,
        checkbox("SE", block.se, (checked) => changeBlock({ kind: "v3", se: checked ? 1 : 0 })),
        el("span", { id: "h-activation" }, choice(page.text("h.activation"), H_ACTIVATIONS.map((name) => [name, activationName(name)]), block.activation, (act) => changeBlock({ kind: "v3", act })))),
      el("div", { id: "h-tables", class: "columns", style: "order: 3" }));
  },

  update() {
    const { part = "block" } = page.state;
    /** @type {HTMLElement} */ (document.getElementById("h-controls")).style.display = part === "block" ? "" : "none";
    if (part === "tail") return showTail();
    if (part === "pooling") return showPooling();
    if (part === "swish") return showSwish();
    return showBlock();
  },

  code: { numpy: ["squeeze_excite", "hard_sigmoid", "hard_swish"], javascript: [measuredPlan, stepsInParts, hardSwish, squeezeExcite] },
});

/** Take what is shown, change it, and leave the list of real blocks. @param {Record<string, string|number>} changes */
function changeBlock(changes) {
  const { kind, H, c_in, c_out, t, K, stride, se, activation } = shownBlock();
  const before = { kind, H, c_in, c_out, t: Math.max(1, Math.min(8, Math.round(t))), K, stride, se: se ? 1 : 0, act: activation };
  const turned = changes.kind && changes.kind !== kind && changes.se === undefined && changes.act === undefined;
  page.set({ ...before, ...changes, ...(turned ? { se: null, act: null } : {}), real: null });
}

/** Controls follow the state: a real block, the browser's back button. @param {ReturnType<typeof shownBlock>} block */
function followBlock(block) {
  for (const [name, { label, values }] of blockSliders) {
    const value = Number(/** @type {any} */ (block)[name]);
    const [input, output] = /** @type {any[]} */ ([label.querySelector("input"), label.querySelector("output")]);
    input.value = String(nearestIndex(values, value));
    input.setAttribute("aria-valuetext", page.number(value));
    output.textContent = page.number(value, { maximumFractionDigits: 2 });
  }
  const select = (/** @type {string} */ id, /** @type {string} */ value) => { /** @type {any} */ (document.querySelector(`#${id} select`)).value = value; };
  select("h-kind", block.kind);
  select("h-real", block.real ? realName(block.real) : "");
  select("h-activation", block.activation);
  /** @type {HTMLInputElement} */ (document.querySelector("#h-controls input[type=checkbox]")).checked = block.se;
}

/** The block, its memory under two policies, all kinds beside each other. */
function showBlock() {
  const block = shownBlock();
  const cost = blockCost(block);
  followBlock(block);
  replaceContent("h-drawing", blockDrawing(block, cost.layers), el("div", { style: "flex: 1 1 0; min-width: min(560px, 100%)" },
    memoryChart(page.text("h.free", { peak: cost.free, step: stepName(cost.plans.free) }), cost.plans.free, cost.plans.free.peak, "var(--blue)"),
    memoryChart(page.text("h.split", { peak: cost.split, step: stepName(cost.plans.split) }), cost.plans.split, cost.plans.free.peak, "var(--orange)"),
    el("p", { class: "quiet lead" }, page.text("h.rule"))));
  replaceContent("h-tables", kindsTable(block), layersTable(cost.layers));
  return page.text("h.live", { macs: cost.macs, weights: cost.weights, free: cost.free, split: cost.split });
}

/** @param {{names: string[], at: number}} plan */
function stepName({ names, at }) {
  return names[at];
}

/** What a layer is called in a drawing. @param {BlockLayer} layer @param {string} activation */
function layerLabel({ name, type, K }, activation) {
  if (type === "Depthwise") return page.text("h.op-depthwise", { K, activation: activationName(activation) });
  if (name === "project" || name === "restore") return page.text("h.op-project", { K });
  return page.text("h.op-conv", { K, activation: activationName(activation) });
}

/** Maps of the block that a convolution writes; squeeze-and-excitation and the addition change none of their size.
 * @param {BlockShape} block @param {BlockLayer[]} layers */
function blockDrawing(block, layers) {
  const gate = layers.find(({ name }) => name === "squeeze");
  const maps = layers.filter(({ type, name }) => type === "Input" || type === "Depthwise" || (type === "Conv" && !["squeeze", "excite"].includes(name)));
  const stages = maps.map((layer) => ({
    shape: layer.shape,
    label: layer.type === "Input" ? "" : (layer.name === "project" && gate ? page.text("h.op-gate", { squeezed: gate.shape[2] }) + "\n" : "") + layerLabel(layer, block.activation),
  }));
  return shapesDrawing(page.text("h.drawing", { kind: page.text(`h.${block.kind}`) }), stages, layers.some(({ type }) => type === "Add"));
}

/** Maps to scale, one below the other: width is channels, height is pixels (H · W), area is values.
 * @param {string} title @param {{shape: number[], label: string}[]} stages @param {boolean} [added] the first map is added to the last
 * @param {number} [widest] channels that take the whole width */
function shapesDrawing(title, stages, added = false, widest = Math.max(...stages.map(({ shape: [, , C] }) => C))) {
  const [width, left, right] = [fitting(560), 112, 34];
  const most = Math.max(...stages.map(({ shape: [H, W] }) => H * W));
  let y = 0;
  const boxes = stages.map(({ shape: [H, W, C], label }) => {
    const [w, h] = [Math.max(1, C / widest * (width - left - right)), Math.max(1.5, H * W / most * H_TALLEST)];
    const lines = label ? label.split("\n") : [];
    y += lines.length ? 4 + 18 * lines.length : 4;
    const box = { lines, text: `${H} × ${W} × ${C}`, x: left + (width - left - right - w) / 2, y, w, h };
    y += Math.max(h, 16);
    return box;
  });
  const middle = left + (width - left - right) / 2;
  const end = (/** @type {{y: number, h: number}} */ { y: top, h }) => top + h / 2;
  const bow = `M${boxes[0].x + boxes[0].w + 3} ${end(boxes[0])}H${width - 12}V${end(boxes[boxes.length - 1])}H${boxes[boxes.length - 1].x + boxes[boxes.length - 1].w + 9}`;
  return el("figure", { style: `margin: 0; width: ${width}px` }, el("figcaption", {}, title), drawing(width, y + 6, title, ...boxes.flatMap(({ lines, text, x, y: top, w, h }) => [
    svg("text", { x: 0, y: top + Math.max(h, 16) / 2 + 5 }, text),
    svg("rect", { x, y: top, width: w, height: h, fill: "var(--blue-soft)", stroke: "var(--blue)", "stroke-width": 1.5 }),
    ...lines.map((line, at) => svg("text", { x: middle, y: top - 6 - 18 * (lines.length - 1 - at), "text-anchor": "middle" }, "↓ " + line))]),
  ...(added ? [svg("path", { d: bow, fill: "none", stroke: "var(--orange)", "stroke-width": 2, "stroke-dasharray": "6 4" }),
    svg("text", { x: boxes[boxes.length - 1].x + boxes[boxes.length - 1].w + 4, y: end(boxes[boxes.length - 1]) - 5, style: "font-weight: 700" }, "+")] : [])),
  el("figcaption", { class: "quiet lead" }, page.text(added ? "h.scale-added" : "h.scale")));
}

/** Bytes in use at every step, and the high-water mark. @param {string} title @param {{live: number[], peak: number}} plan @param {number} full @param {string} fill */
function memoryChart(title, { live, peak }, full, fill) {
  const [width, height] = [fitting(560), 130];
  const { frame, px, py } = axes({
    width, height,
    x: { from: 0, to: live.length, ticks: [], label: page.text("h.steps", { count: live.length }) },
    y: { from: 0, to: full / 1024, ticks: [0, full / 1024], label: "KiB", show: (value) => page.number(value, { maximumSignificantDigits: 3 }) },
  });
  const steps = live.map((bytes, at) => svg("rect", { x: px(at), width: px(1) - px(0), y: py(bytes / 1024), height: py(0) - py(bytes / 1024), fill, stroke: "var(--paper)", "stroke-width": 0.5 }));
  return el("figure", { style: `margin: 0; width: ${width}px` }, el("figcaption", {}, title), drawing(width, height, title, frame, ...steps,
    svg("path", { d: `M${px(0)} ${py(peak / 1024)}H${px(live.length)}`, stroke: "var(--ink)", "stroke-dasharray": "6 4" })));
}

/** All kinds with the same sliders. @param {ReturnType<typeof shownBlock>} block */
function kindsTable({ kind, H, c_in, c_out, t, K, stride, se, activation, real }) {
  const rows = H_KINDS.map((each) => {
    const other = each === kind ? { kind, H, c_in, c_out, K, stride, se, activation, inner: shownBlock().inner, real }
      : { H, c_in, c_out, K, stride, ...kindOfBlock(each, { c_in, c_out, t }, true, "hard_swish") };
    const cost = blockCost(other);
    return [page.text(`h.${each}`) + (each === kind ? " ●" : ""), ...[cost.macs, cost.weights, cost.free, cost.split].map((count) => page.number(count))];
  });
  return table(page.text("h.kinds"), [page.text("h.kind"), page.text("c.macs"), page.text("c.weights"), page.text("h.peak-free"), page.text("h.peak-split")], rows);
}

/** The drawing's twin. @param {BlockLayer[]} layers */
function layersTable(layers) {
  return table(page.text("h.layers"), [page.text("h.layer"), page.text("h.shape"), page.text("h.values"), page.text("c.macs"), page.text("c.weights")],
    layers.map(({ name, shape, macs, weights }) => [name, shape.join("\u00a0×\u00a0"), page.number(shape.reduce((a, b) => a * b, 1)), page.number(macs), page.number(weights)]));
}

/** V3's last stage before and after (V3, figure 5). */
function showTail() {
  const { tail } = page.facts.blocks;
  const ways = ["before", "after"];
  replaceContent("h-drawing", ...ways.map((way) => shapesDrawing(page.text(`h.tail-${way}`), [{ output: tail[way][0].input }, ...tail[way]].map((/** @type {any} */ layer, /** @type {number} */ at) => ({
    shape: layer.output, label: at ? page.text(layer.differs ? "h.tail-changed" : "h.tail-step", { layer: page.text(`h.tail-${layer.name}`), macs: layer.macs }) : "",
  })))));
  replaceContent("h-tables", el("div", { style: "flex: 1 1 30rem" }, bars(page.text("h.tail-bars"), ways.map((way) => ({
    label: page.text(`h.tail-${way}`).split(":")[0].split("：")[0], value: tail[`${way}_macs`], text: page.number(tail[`${way}_macs`]), color: way === "before" ? "var(--orange)" : "var(--blue)",
  })))), table(page.text("h.tail-table"), [page.text("h.layer"), ...ways.map((way) => page.text(`h.tail-${way}`))], H_TAIL.map((name) => [
    page.text(`h.tail-${name}`), ...ways.map((way) => tail[way].find((/** @type {any} */ layer) => layer.name === name)).map((layer) => (layer ? page.number(layer.macs) : "–"))])));
  return page.text("h.live-tail", { before: tail.before_macs, after: tail.after_macs, saved: page.number(tail.saved_macs), printed: page.number(tail.printed_saving) });
}

/** V1's last map to 1000 classes, two ways. */
function showPooling() {
  const { map, classes, pooled_weights: pooled, flat_weights: flat, body_weights: body } = page.facts.blocks.pooling;
  const values = map.reduce((/** @type {number} */ a, /** @type {number} */ b) => a * b, 1);
  const dense = { shape: [1, 1, classes], label: page.text("h.dense") };
  replaceContent("h-drawing",
    shapesDrawing(page.text("h.pooled"), [{ shape: map, label: "" }, { shape: [1, 1, map[2]], label: page.text("h.op-pool") }, dense], false, values),
    shapesDrawing(page.text("h.flat"), [{ shape: map, label: "" }, { shape: [1, 1, values], label: page.text("h.op-flatten") }, dense], false, values));
  replaceContent("h-tables", el("div", { style: "flex: 1 1 30rem" }, bars(page.text("h.pooling-bars"), [
    { label: page.text("h.pooled"), value: pooled, text: page.number(pooled) },
    { label: page.text("h.body"), value: body, text: page.number(body), color: "var(--quiet)" },
    { label: page.text("h.flat"), value: flat, text: page.number(flat), color: "var(--orange)" }])),
  table(page.text("h.pooling-bars"), [page.text("h.way"), page.text("c.weights")], [[page.text("h.pooled"), page.number(pooled)], [page.text("h.body"), page.number(body)], [page.text("h.flat"), page.number(flat)]]));
  return page.text("h.live-pooling", { flat, pooled, ratio: flat / pooled, body });
}

/** 1 / (1 + e^-x) @param {number} x */
function sigmoid(x) {
  return 1 / (1 + Math.exp(-x));
}

/** x / (1 + e^-x) @param {number} x */
function swish(x) {
  return x * sigmoid(x);
}

/** Largest distance between two functions over -6..6, and where. @param {(x: number) => number} f @param {(x: number) => number} g */
function largestDistance(f, g) {
  let [distance, at] = [0, 0];
  for (let i = 0; i <= 1200; i++) {
    const x = (i - 600) / 100;
    if (Math.abs(f(x) - g(x)) > distance) [distance, at] = [Math.abs(f(x) - g(x)), Math.abs(x)];
  }
  return { distance, at };
}

/** h-swish over swish, hard sigmoid over sigmoid (V3, figure 6). */
function showSwish() {
  const pairs = [["swish", swish, hardSwish, 6], ["sigmoid", sigmoid, hardSigmoid, 1.2]];
  const found = pairs.map(([, f, g]) => largestDistance(/** @type {any} */ (f), /** @type {any} */ (g)));
  replaceContent("h-drawing", ...pairs.map(([name, f, g, top]) => curvesChart(page.text(`h.curves-${name}`), /** @type {any} */ (f), /** @type {any} */ (g), Number(top))));
  replaceContent("h-tables", table(page.text("h.distances"), ["", page.text("h.distance"), page.text("h.at")],
    pairs.map(([name], at) => [page.text(`h.curves-${name}`), page.number(found[at].distance), `± ${page.number(found[at].at)}`])));
  return page.text("h.live-swish", { swish: found[0].distance, at: page.number(found[0].at), sigmoid: found[1].distance, other: page.number(found[1].at) });
}

/** A smooth function, dashed, and the one of straight pieces. @param {string} title @param {(x: number) => number} f @param {(x: number) => number} g @param {number} top */
function curvesChart(title, f, g, top) {
  const [width, height] = [fitting(560), 300];
  const { frame, px, py } = axes({
    width, height,
    x: { from: -6, to: 6, ticks: [-6, -3, 0, 3, 6], label: "x" },
    y: { from: top > 2 ? -0.6 : -0.1, to: top, ticks: top > 2 ? [0, 2, 4, 6] : [0, 0.5, 1], label: "y", show: (value) => page.number(value) },
  });
  const curve = (/** @type {(x: number) => number} */ h) => "M" + Array.from({ length: 241 }, (_, i) => -6 + i / 20).map((x) => `${px(x).toFixed(1)} ${py(h(x)).toFixed(1)}`).join("L");
  const { at } = largestDistance(f, g);
  return el("figure", { style: `margin: 0; width: ${width}px` }, el("figcaption", {}, title), drawing(width, height, title, frame,
    svg("path", { d: curve(g), fill: "none", stroke: "var(--blue)", "stroke-width": 3 }),
    svg("path", { d: curve(f), fill: "none", stroke: "var(--orange)", "stroke-width": 2, "stroke-dasharray": "7 5" }),
    ...[-at, at].map((x) => svg("circle", { cx: px(x), cy: py((f(x) + g(x)) / 2), r: 9, fill: "none", stroke: "var(--ink)", "stroke-width": 2 }))));
}
