/* F. What do BN and ReLU6 do? One channel before, between and after; epsilon; folding; float16. */

const F_BINS = 24;
const F_LONGEST = 60e6; // multiply-adds of a network that is run again at every move of a slider
const F_LEVELS = 255; // steps of 8 bits over 0..6, the range of ReLU6
const F_WINDOW = 0.1; // width of the piece of the number line that is drawn

/** The two numbers that are left of a channel's four: y = x * scale + shift.
 * @param {Record<string, Tensor>} p gamma, beta, moving_mean, moving_variance @param {number} epsilon @param {number} c */
function scaleAndShift({ gamma, beta, moving_mean, moving_variance }, epsilon, c) {
  const scale = (gamma ? gamma.data[c] : 1) / Math.sqrt(moving_variance.data[c] + epsilon);
  return { scale, shift: (beta ? beta.data[c] : 0) - moving_mean.data[c] * scale };
}

/** A convolution that does its batch normalization too: w' = w * scale, b' = b * scale + shift, channel by channel.
 * @param {Tensor} w (..., c_out), of a depthwise convolution (K, K, C, M) with c_out = C * M @param {Tensor|undefined} b @param {LayerParams} norm @param {number} epsilon */
function foldBatchNorm(w, b, norm, epsilon) {
  const c_out = norm.moving_mean.data.length;
  const folded = Array.from({ length: c_out }, (_, c) => scaleAndShift(norm, epsilon, c));
  return {
    kernel: { shape: w.shape, data: w.data.map((value, i) => value * folded[i % c_out].scale) },
    bias: { shape: [c_out], data: Float32Array.from(folded, ({ scale, shift }, c) => (b ? b.data[c] : 0) * scale + shift) },
  };
}

/** 1 where ReLU lets x pass; at 0 it is 0, as TensorFlow's gradient. @param {number} x */
function reluDerivative(x) {
  return x > 0 ? 1 : 0;
}

/** 1 where ReLU6 lets x pass; at 0 and at 6 it is 0, as TensorFlow's gradient. @param {number} x */
function relu6Derivative(x) {
  return x > 0 && x < 6 ? 1 : 0;
}

/** Distance from |x| to the next larger float16: 11 significant bits, exponents from -14 on. @param {number} x */
function float16Spacing(x) {
  return 2 ** (Math.max(-14, binaryExponent(Math.abs(x))) - 10);
}

/** Largest k with 2**k <= x. @param {number} x */
function binaryExponent(x) {
  if (x === 0) return -Infinity;
  const k = Math.floor(Math.log2(x));
  return 2 ** k > x ? k - 1 : 2 ** (k + 1) <= x ? k + 1 : k;
}

/** The nearest float16; of two equally near the even one. @param {number} x */
function float16(x) {
  if (x === 0 || !Number.isFinite(x)) return x;
  const steps = x / float16Spacing(x);
  const whole = Math.round(steps);
  const even = Math.abs(steps % 1) === 0.5 && whole % 2 !== 0 ? whole - 1 : whole;
  const rounded = even * float16Spacing(x);
  return Math.abs(rounded) > 65504 ? Math.sign(x) * Infinity : rounded;
}

/** The batch normalizations of the network: each with the layer that it reads and the activation that reads it. */
function normalizations() {
  const { layers } = page.model.graph;
  return layers.filter((/** @type {Layer} */ layer) => layer.type === "BatchNormalization").map((/** @type {Layer} */ norm) => ({
    norm,
    source: layers.find((/** @type {Layer} */ layer) => layer.name === norm.inputs[0]),
    activation: (layers.find((/** @type {Layer} */ layer) => layer.type === "Activation" && layer.inputs[0] === norm.name) || { activation: "linear" }).activation,
  }));
}

/** The channel that epsilon moves most among those with negative and positive values. @param {any} chosen */
function mostTellingChannel({ norm }) {
  const p = page.model.params.get(norm.name);
  const y = page.values.get(norm.name);
  const C = y.shape[y.shape.length - 1];
  let [best, largest] = [0, -1];
  for (let c = 0; c < C; c++) {
    const values = valuesOfChannel(y, c);
    const moved = Math.abs(scaleAndShift(p, 1e-5, c).scale / scaleAndShift(p, norm.epsilon, c).scale - 1);
    if (values.some((value) => value < 0) && values.some((value) => value > 0) && moved > largest) [best, largest] = [c, moved];
  }
  return best;
}

/** Values of one channel. @param {Tensor} x (..., C) @param {number} c @returns {number[]} */
function valuesOfChannel(x, c) {
  const C = x.shape[x.shape.length - 1];
  return Array.from({ length: x.data.length / C }, (_, i) => x.data[i * C + c]);
}

/** What the URL's hash describes. */
function normState() {
  const all = normalizations();
  const { layer = "conv_dw_1_bn", channel, x, eps, fold, half } = page.state;
  const chosen = all.find((/** @type {any} */ each) => each.norm.name === layer) || all[0];
  const C = page.values.get(chosen.norm.name).shape.at(-1);
  const c = channel === undefined ? mostTellingChannel(chosen) : Math.max(0, Math.min(C - 1, Math.floor(Number(channel)) || 0));
  const exponent = eps === undefined ? Math.log10(chosen.norm.epsilon) : Math.max(-6, Math.min(-1, Number(eps)));
  const epsilon = eps === undefined ? chosen.norm.epsilon : Number((10 ** exponent).toPrecision(3));
  return { all, ...chosen, c, C, x: numberOfX(x), exponent, epsilon, fold: fold !== undefined, half: half !== undefined };
}

/** One layer's output with its input, its numbers and its output rounded to float16. @param {Layer} layer @param {Tensor} x */
function inFloat16(layer, x) {
  const rounded = (/** @type {Tensor} */ tensor) => elementwise(tensor, float16);
  const params = Object.entries(page.model.params.get(layer.name)).map(([name, tensor]) => [name, rounded(/** @type {Tensor} */ (tensor))]);
  const model = { ...page.model, params: new Map([[layer.name, Object.fromEntries(params)]]) };
  return rounded(applyLayer(model, layer, [rounded(x)]));
}

/** The network with another epsilon in every batch normalization, and one of them in float16: output of every layer.
 * @param {{epsilon: number, half: boolean, norm: Layer}} changes */
function traceChanged({ epsilon, half, norm }) {
  const values = new Map();
  for (const layer of page.model.graph.layers) {
    const inputs = layer.inputs.map((/** @type {string} */ name) => values.get(name));
    const changed = layer.type === "BatchNormalization" ? { ...layer, epsilon } : layer;
    values.set(layer.name, layer.type === "Input" ? page.input
      : half && layer.name === norm.name ? inFloat16(changed, inputs[0]) : applyLayer(page.model, changed, inputs));
  }
  return values;
}

/** Answer of the changed network, kept while nothing changes. @type {{key: string, values: any, answer: {index: number, probability: number}|null}} */
const changedAnswer = { key: "", values: null, answer: null };

/** The likeliest class of the changed network; null if the network is too long to run at every move.
 * @param {{epsilon: number, half: boolean, norm: Layer}} changes */
function answerOfChanged(changes) {
  const key = `${changes.epsilon} ${changes.half && changes.norm.name}`;
  if (multiplyAdds(page.model) > F_LONGEST) return null;
  if (changedAnswer.key !== key || changedAnswer.values !== page.values) {
    const { data } = traceChanged(changes).get(page.model.graph.layers.at(-1).name);
    const index = data.indexOf(Math.max(...data));
    Object.assign(changedAnswer, { key, values: page.values, answer: { index, probability: data[index] } });
  }
  return changedAnswer.answer;
}

/** The channel at its three places, with the epsilon and the format that are chosen, on the layer's own input.
 * @param {ReturnType<typeof normState>} state */
function channelStages({ norm, source, activation, c, epsilon, half }) {
  const x = page.values.get(source.name);
  const changed = { ...norm, epsilon };
  const y = half ? inFloat16(changed, x) : applyLayer(page.model, changed, [x]);
  const after = valuesOfChannel(y, c);
  return { before: valuesOfChannel(x, c), after, active: after.map(ACTIVATIONS[activation] || ((value) => value)) };
}

registerView({
  letter: "F",

  build(stage) {
    const { x, half, fold } = page.state;
    stage.append(
      el("div", { id: "f-channel", class: "columns" }),
      el("div", { id: "f-curves", class: "columns" }),
      el("div", { class: "controls" },
        el("span", { id: "f-layer", class: "row", style: "margin: 0" }),
        slider({ label: "x", min: -2, max: 9, step: 0.05, value: numberOfX(x), show: (value) => page.number(value), change: (value) => page.set({ x: value }) }),
        checkbox(page.text("f.fold"), fold !== undefined, (checked) => page.set({ fold: checked ? 1 : null })),
        checkbox(page.text("f.half"), half !== undefined, (checked) => page.set({ half: checked ? 1 : null }))),
      el("div", { id: "f-tables", class: "columns", style: "order: 3" }));
    normControls.model = null;
  },

  update() {
    replaceContent("f-curves", activationCurves(numberOfX(page.state.x), false), activationCurves(numberOfX(page.state.x), true), numberLine(numberOfX(page.state.x)));
    if (normalizations().length === 0) return page.text("f.live-none");
    if (normControls.model !== page.model) rebuildNormControls();
    const state = normState();
    const stages = channelStages(state);
    replaceContent("f-channel", ...Object.entries(stages).map(([name, values]) => channelHistogram(page.text(`f.${name}`, { activation: activationName(state.activation) }), values)));
    replaceContent("f-tables", state.fold ? foldTable(state) : fourNumbers(state), stagesTable(stages, state), spacingTable(state.x));
    return normLine(state);
  },

  code: { numpy: ["batch_norm", "relu6"], javascript: [batchNorm, scaleAndShift, foldBatchNorm, relu6, relu6Derivative, float16] },
});

/** Network that the controls were made for. @type {{model: any}} */
const normControls = { model: null };

/** Layer, channel and epsilon: another layer has other channels, another network other layers. */
function rebuildNormControls() {
  normControls.model = page.model;
  const { all, norm, C, c, exponent } = normState();
  replaceContent("f-layer",
    choice(page.text("f.layer"), all.map((/** @type {any} */ each) => [each.norm.name, each.norm.name]), norm.name, (layer) => { normControls.model = null; page.set({ layer, channel: null }); }),
    slider({ label: page.text("f.channel"), min: 0, max: C - 1, value: c, change: (channel) => page.set({ channel }) }),
    slider({ label: "ε", min: -6, max: -1, step: 0.25, value: exponent, show: (value) => page.number(Number((10 ** value).toPrecision(3)), { maximumSignificantDigits: 2 }), change: (eps) => page.set({ eps }) }));
}

/** x of the URL's hash, within its slider. @param {string|undefined} text */
function numberOfX(text) {
  return Math.max(-2, Math.min(9, Number(text ?? 2) || 0));
}

/** @param {string} activation */
function activationName(activation) {
  return ({ relu: "ReLU", relu6: "ReLU6", hard_swish: "h-swish", linear: page.text("f.nothing") })[activation] || activation;
}

/** Epsilon, the channel, the answer. @param {ReturnType<typeof normState>} state */
function normLine(state) {
  const { norm, c, epsilon } = state;
  const p = page.model.params.get(norm.name);
  const { scale, shift } = scaleAndShift(p, epsilon, c);
  const moved = Math.abs(scale / scaleAndShift(p, norm.epsilon, c).scale - 1);
  const values = { layer: norm.name, c, scale, shift: `${shift < 0 ? "−" : "+"} ${page.number(Math.abs(shift))}`, epsilon: twoDigits(epsilon), own: twoDigits(norm.epsilon), moved: page.number(moved, { style: "percent", maximumSignificantDigits: 2 }) };
  const line = page.text(epsilon === norm.epsilon ? "f.live-own" : "f.live-epsilon", values)
    + (state.half ? page.text("f.live-half", { moved: page.number(movedByFloat16(state), { maximumSignificantDigits: 2 }) }) : "");
  const answer = answerOfChanged(state);
  if (!answer) return line;
  const before = answers()[0];
  const same = epsilon === norm.epsilon && !state.half;
  const key = same ? "f.live-is" : answer.index === before.index ? "f.live-stays" : "f.live-changes";
  return line + page.text(key, { before: before.label, after: labelOf(answer.index), probability: page.number(Number(answer.probability), { style: "percent", maximumFractionDigits: 2 }) });
}

/** Largest change of the channel's values by float16. @param {ReturnType<typeof normState>} state */
function movedByFloat16(state) {
  const other = channelStages({ ...state, half: false }).after;
  return channelStages(state).after.reduce((largest, value, i) => Math.max(largest, Math.abs(value - other[i])), 0);
}

/** @param {number} value */
function twoDigits(value) {
  return page.number(value, { maximumSignificantDigits: 2 });
}

/** Values of a channel, counted in bins. @param {string} title @param {number[]} values */
function channelHistogram(title, values) {
  const [width, height] = [fitting(380), 140];
  const [low, high] = [Math.min(0, ...values), Math.max(...values, 0)];
  const span = high - low || 1;
  const counts = new Array(F_BINS).fill(0);
  for (const value of values) counts[Math.min(F_BINS - 1, Math.floor((value - low) / span * F_BINS))]++;
  const most = Math.max(...counts);
  const { frame, px, py } = axes({
    width, height,
    x: { from: low, to: low + 1.05 * span, ticks: [...new Set([low, 0, low + span])].filter((tick) => tick === 0 || Math.abs(tick) > span / 8), label: page.text("f.value"), show: (value) => page.number(value, { maximumSignificantDigits: 3 }) },
    y: { from: 0, to: most, ticks: [0, most], label: page.text("f.pixels") },
  });
  const rectangles = counts.map((count, bin) => svg("rect", {
    x: px(low + span * bin / F_BINS) + 1, width: Math.max(1, (px(low + span) - px(low)) / F_BINS - 2), y: py(count), height: py(0) - py(count), fill: "var(--blue)",
  }));
  return el("figure", { style: `margin: 0; width: ${width}px` }, el("figcaption", {}, title), drawing(width, height, title, frame, ...rectangles));
}

/** ReLU and ReLU6, or their derivatives with an open circle where they jump. @param {number} x marked @param {boolean} derivative */
function activationCurves(x, derivative) {
  const [width, height] = [fitting(380), 190];
  const [f, f6] = derivative ? [reluDerivative, relu6Derivative] : [relu, relu6];
  const { frame, px, py } = axes({
    width, height,
    x: { from: -2, to: 9, ticks: [-2, 0, 2, 4, 6, 8], label: "x" },
    y: { from: derivative ? -0.15 : 0, to: derivative ? 1.3 : 9, ticks: derivative ? [0, 1] : [0, 2, 4, 6, 8], label: derivative ? "dy/dx" : "y" },
  });
  const corners = [-2, 0, 6, 9];
  const pieces = (/** @type {(x: number) => number} */ curve) => [0, 1, 2].map((i) => {
    const [a, b] = [corners[i], corners[i + 1]];
    const values = derivative ? [curve((a + b) / 2), curve((a + b) / 2)] : [curve(a), curve(b)];
    return `M${px(a)} ${py(values[0])}L${px(b)} ${py(values[1])}`;
  }).join("");
  const line = (/** @type {(x: number) => number} */ curve, /** @type {Record<string, any>} */ look) => svg("path", { d: pieces(curve), fill: "none", ...look });
  const circle = (/** @type {number} */ at, /** @type {number} */ y, /** @type {string} */ fill) => svg("circle", { cx: px(at), cy: py(y), r: 5, fill, stroke: "var(--blue)", "stroke-width": 2 });
  const jumps = derivative ? [0, 6].flatMap((at) => [circle(at, 1, "var(--paper)"), circle(at, 0, "var(--blue)")]) : [];
  const title = page.text(derivative ? "f.derivatives" : "f.activations");
  return el("figure", { style: `margin: 0; width: ${width}px` }, el("figcaption", {}, title), drawing(width, height, title, frame,
    line(f, { stroke: "var(--orange)", "stroke-width": 2, "stroke-dasharray": "7 5" }), line(f6, { stroke: "var(--blue)", "stroke-width": 3 }), ...jumps,
    svg("path", { d: `M${px(x)} ${py(f6(x))}m-7 0h14m-7 -7v14`, stroke: "var(--ink)", "stroke-width": 2 }),
    svg("text", { x: derivative ? px(8.9) : px(7.6), y: py(f(8.9)) + (derivative ? 18 : 12), "text-anchor": "end" }, "ReLU"),
    svg("text", { x: px(8.9), y: py(f6(8.9)) + (derivative ? -6 : 18), "text-anchor": "end" }, "ReLU6")));
}

/** A piece of the number line around x: the numbers that float16 has, and those of 8 bits over 0..6. @param {number} x */
function numberLine(x) {
  const [width, height, margin] = [fitting(380), 190, 24];
  const from = x - F_WINDOW / 2;
  const px = (/** @type {number} */ value) => margin + (value - from) / F_WINDOW * (width - 2 * margin);
  const ticks = (/** @type {number} */ step, /** @type {number} */ y, /** @type {string} */ stroke, low = -Infinity, high = Infinity) => {
    const numbers = [];
    for (let k = Math.ceil(from / step); k * step <= from + F_WINDOW; k++) if (k * step >= low - step / 2 && k * step <= high + step / 2) numbers.push(k * step);
    return svg("path", { d: numbers.map((number) => `M${px(number)} ${y}v26`).join(""), stroke, "stroke-width": step * width > 0.5 * F_WINDOW ? 1.5 : 0.5 });
  };
  const clear = { "paint-order": "stroke", stroke: "var(--paper)", "stroke-width": 5 };
  const title = page.text("f.line", { from: page.number(from, { maximumFractionDigits: 2 }), to: page.number(from + F_WINDOW, { maximumFractionDigits: 2 }) });
  return el("figure", { style: `margin: 0; width: ${width}px` }, el("figcaption", {}, title), drawing(width, height, title,
    svg("path", { d: `M${px(x)} 34v120m-6 10l6 -9l6 9z`, stroke: "var(--ink)", fill: "var(--ink)" }),
    svg("text", { x: margin, y: 30, ...clear }, page.text("f.float16", { spacing: float16Spacing(x) })), ticks(float16Spacing(x), 40, "var(--blue)"),
    svg("path", { d: `M${margin} 66H${width - margin}`, stroke: "var(--quiet)" }),
    svg("text", { x: margin, y: 112, ...clear }, page.text(x >= 0 && x <= 6 ? "f.int8" : "f.int8-outside", { spacing: 6 / F_LEVELS })), ticks(6 / F_LEVELS, 122, "var(--orange)", 0, 6),
    svg("path", { d: `M${margin} 148H${width - margin}`, stroke: "var(--quiet)" }),
    svg("text", { x: px(x), y: 182, "text-anchor": "middle" }, `x = ${page.number(x)}`)));
}

/** The four numbers of the channel, and what they are used for. @param {ReturnType<typeof normState>} state */
function fourNumbers({ norm, c, epsilon }) {
  const p = page.model.params.get(norm.name);
  return table(page.text("f.four", { c }), ["γ", "β", "μ", "σ²", "ε"],
    [[...["gamma", "beta", "moving_mean", "moving_variance"].map((name) => (p[name] ? page.number(p[name].data[c]) : "–")), twoDigits(epsilon)]]);
}

/** The channel's filter before and after folding, the two numbers, and the largest difference it makes. @param {ReturnType<typeof normState>} state */
function foldTable(state) {
  const { norm, source, c, C, epsilon } = state;
  const p = page.model.params.get(norm.name);
  const { scale, shift } = scaleAndShift(p, epsilon, c);
  const heading = page.text("f.folded", { c, scale, shift });
  const conv = page.model.params.get(source.name);
  if (!conv || !conv.kernel) return el("p", {}, heading);
  const folded = foldBatchNorm(conv.kernel, conv.bias, p, epsilon);
  const weights = (/** @type {Tensor} */ w) => w.data.filter((/** @type {number} */ _, /** @type {number} */ i) => i % C === c);
  const [before, after] = [weights(conv.kernel), weights(folded.kernel)];
  const shown = Math.min(9, before.length);
  const rows = Array.from({ length: shown }, (_, i) => [`w[${i}]`, page.number(before[i]), page.number(after[i])]);
  if (before.length > shown) rows.push(["…", "…", "…"]);
  rows.push(["b", page.number(conv.bias ? conv.bias.data[c] : 0), page.number(folded.bias.data[c])]);
  return el("div", {}, table(heading, [page.text("f.number"), page.text("f.before-folding"), page.text("f.after-folding")], rows),
    el("p", {}, page.text("f.difference", { difference: foldDifference(state, folded) })));
}

/** Largest difference in the channel between convolution then normalization, and the folded convolution. @param {ReturnType<typeof normState>} state @param {LayerParams} folded */
function foldDifference({ norm, source, c, epsilon }, folded) {
  const model = { ...page.model, params: new Map([[source.name, folded]]) };
  const apart = applyLayer(page.model, { ...norm, epsilon }, [page.values.get(source.name)]);
  const together = applyLayer(model, source, [page.values.get(source.inputs[0])]);
  const other = valuesOfChannel(together, c);
  return valuesOfChannel(apart, c).reduce((largest, value, i) => Math.max(largest, Math.abs(value - other[i])), 0);
}

/** The histograms' twin. @param {ReturnType<typeof channelStages>} stages @param {ReturnType<typeof normState>} state */
function stagesTable(stages, { activation }) {
  const share = (/** @type {number[]} */ values, /** @type {(value: number) => boolean} */ test) => page.number(values.filter(test).length / values.length, { style: "percent", maximumFractionDigits: 1 });
  return table(page.text("f.stages"), [page.text("f.place"), page.text("f.least"), page.text("f.mean"), page.text("f.most"), page.text("f.not-positive"), page.text("f.six")],
    Object.entries(stages).map(([name, values]) => [page.text(`f.${name}`, { activation: activationName(activation) }), ...[
      Math.min(...values), values.reduce((sum, value) => sum + value, 0) / values.length, Math.max(...values)].map((value) => page.number(value, { maximumSignificantDigits: 3 })),
      share(values, (value) => value <= 0), share(values, (value) => value >= 6)]));
}

/** Distances between neighbors, where the number line cannot show them. @param {number} x */
function spacingTable(x) {
  const rows = [...new Set([Number(x.toFixed(2)), 0.5, 5, 100, 1000])].map((at) => [page.number(at), page.number(float16Spacing(at), { maximumSignificantDigits: 3 }), at >= 0 && at <= 6 ? page.number(6 / F_LEVELS, { maximumSignificantDigits: 3 }) : "–",
    page.number(relu6(at)), relu6Derivative(at)]);
  return table(page.text("f.spacing"), ["x", "float16", page.text("f.bits"), "ReLU6", page.text("f.derivative")], rows);
}
