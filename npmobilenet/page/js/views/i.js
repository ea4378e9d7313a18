/* I. Where is the work in the whole network? Every layer as wide as its share of multiply-adds, weights, bytes or time. */

/** @typedef {{name: string, family: string, alpha: number, resolution: number, body: number, macs: number[], bytes: number[], sides: number[]}} CountedNetwork */
/** @typedef {{name: string, kind: string, side: number, channels: number, macs: number, weights: number, bytes: number, time: number}} CountedLayer */
/** @typedef {"macs"|"weights"|"bytes"|"time"} Unit */

const I_FAMILIES = /** @type {Record<string, string>} */ ({
  mobilenet_v1: "MobileNetV1", mobilenet_v2: "MobileNetV2", mobilenet_v3_large: "MobileNetV3-Large", mobilenet_v3_small: "MobileNetV3-Small",
  mobilenet_v3_large_minimalistic: "MobileNetV3-Large minimalistic", mobilenet_v3_small_minimalistic: "MobileNetV3-Small minimalistic",
});
const I_KINDS = /** @type {Record<string, {key: string, fill: string, mark: string, lines: string}>} text, color, and the pattern on it */ ({
  "Conv 1x1": { key: "i.pointwise", fill: "var(--blue)", mark: "none", lines: "" },
  "Conv DW 3x3": { key: "i.depthwise-3", fill: "var(--orange)", mark: "var(--paper)", lines: "M0 8L8 0" },
  "Conv DW 5x5": { key: "i.depthwise-5", fill: "var(--orange)", mark: "var(--paper)", lines: "M0 8L8 0M0 0L8 8" },
  "Conv 3x3": { key: "i.standard", fill: "var(--ink)", mark: "var(--paper)", lines: "M4 0V8" },
  "Fully connected": { key: "i.connected", fill: "var(--paper)", mark: "var(--ink)", lines: "M0 4H8" },
});
const I_HEIGHT = 90; // of the strip, in px
const I_MAPS = 16; // maps drawn of a layer
const I_ROUNDS = 3;
const I_ENOUGH = 4; // ms that a layer is repeated for to be timed: browsers' clocks tick in up to 1 ms
const I_UNITS = /** @type {Unit[]} */ (["macs", "weights", "bytes", "time"]);

/** @type {{model: any, times: Map<string, number>}} times of the layers of the network in use */
const timed = { model: null, times: new Map() };

/** The network that is shown. @returns {CountedNetwork} */
function shownNetwork() {
  const networks = page.facts.networks.networks;
  return networks.find((/** @type {CountedNetwork} */ { name }) => name === page.state.net) || networks[0];
}

/** Which of the counted networks is the one in use: the same layers with the same weights. @returns {CountedNetwork|undefined} */
function countedInUse() {
  const { graph, params } = page.model;
  /** @type {[string, number][]} */
  const kernels = graph.layers.filter((/** @type {Layer} */ { name }) => (params.get(name) || {}).kernel)
    .map((/** @type {Layer} */ { name }) => [name, params.get(name).kernel.data.length]);
  const side = graph.layers[0].shape[0];
  return page.facts.networks.networks.find((/** @type {CountedNetwork} */ network) => {
    const { layers, weights } = page.facts.networks.bodies[network.body];
    const { names } = page.facts.networks.layers[layers];
    return network.resolution === side && names.length === kernels.length && kernels.every(([name, size], i) => name === names[i] && size === weights[i]);
  });
}

/** Layers with a kernel, as counted by the package. @param {CountedNetwork} network @returns {CountedLayer[]} */
function countedLayers({ body, macs, bytes, sides }) {
  const { kinds, layers, bodies } = page.facts.networks;
  const { layers: shared, weights, channels } = bodies[body];
  const { names, kinds: kindOf } = layers[shared];
  return names.map((/** @type {string} */ name, /** @type {number} */ i) => ({
    name, kind: kinds[kindOf[i]], side: sides[i], channels: channels[i], macs: macs[i], weights: weights[i], bytes: bytes[i], time: timed.times.get(name) || 0,
  }));
}

/** Time of every layer of the network in use, in ms: each is repeated for a while, three times; the least counts. */
function timeLayers() {
  if (timed.model === page.model) return;
  Object.assign(timed, { model: page.model, times: new Map() });
  const layers = page.model.graph.layers.filter((/** @type {Layer} */ { name }) => (page.model.params.get(name) || {}).kernel);
  for (let round = 0; round < I_ROUNDS; round++) {
    for (const layer of layers) timed.times.set(layer.name, Math.min(timed.times.get(layer.name) || Infinity, timeOfLayer(layer)));
  }
}

/** @param {Layer} layer @returns {number} ms */
function timeOfLayer(layer) {
  const inputs = layer.inputs.map((name) => page.values.get(name));
  const started = performance.now();
  let runs = 0;
  for (; performance.now() - started < I_ENOUGH; runs++) applyLayer(page.model, layer, inputs);
  return (performance.now() - started) / runs;
}

/** What the view shows. */
function shareState() {
  const [network, inUse] = [shownNetwork(), countedInUse()];
  const timeable = inUse === network && multiplyAdds(page.model) <= LONG_NETWORK;
  const unit = /** @type {Unit} */ (I_UNITS.includes(/** @type {Unit} */ (page.state.unit)) && (page.state.unit !== "time" || timeable) ? page.state.unit : "macs");
  if (unit === "time") timeLayers();
  const layers = countedLayers(network);
  const largest = layers.reduce((best, layer, i) => (layer[unit] > layers[best][unit] ? i : best), 0);
  const at = page.state.layer === undefined ? largest : Math.max(0, Math.min(layers.length - 1, Math.trunc(Number(page.state.layer)) || 0));
  return { network, inUse, timeable, unit, layers, at };
}

/** Sum of a unit over layers. @param {CountedLayer[]} layers @param {Unit} unit */
function sumOf(layers, unit) {
  return layers.reduce((sum, layer) => sum + layer[unit], 0);
}

/** A share as the paper prints it. @param {number} share */
function printedShare(share) {
  return page.number(share, { style: "percent", minimumFractionDigits: 2, maximumFractionDigits: 2 });
}

registerView({
  letter: "I",

  build(stage) {
    const { layers } = shareState();
    stage.append(
      el("div", { id: "i-strip" }),
      el("div", { class: "controls" },
        choice(page.text("i.network"), [...Object.entries(I_FAMILIES), ["digits", page.text("i.digits")]], shownNetwork().family, (family) => chooseNetwork({ family })),
        el("span", { id: "i-alpha" }), el("span", { id: "i-resolution" }), el("span", { id: "i-unit" }),
        el("span", { id: "i-layer" }, slider({ label: page.text("i.layer"), min: 1, max: layers.length, value: 1, change: (layer) => page.set({ layer: layer - 1 }) }))),
      el("div", { class: "columns" }, el("div", { id: "i-kinds" }), el("div", { id: "i-one", style: "flex: 1 1 340px" })),
      el("details", {}, el("summary", {}, page.text("i.table")), el("div", { id: "i-table" })));
  },

  update() {
    const state = shareState();
    updateChoices(state);
    replaceContent("i-strip", stripOf(state));
    replaceContent("i-kinds", shareTable(state), ...("lecture" in page.state ? [] : wholeFigures(state.network)));
    replaceContent("i-one", ...oneLayer(state));
    replaceContent("i-table", shareTableOfLayers(state));
    return shareLine(state);
  },
});

/** Network with these settings, or the nearest to them. @param {{family?: string, alpha?: number, resolution?: number}} changes */
function chooseNetwork(changes) {
  const wanted = { ...shownNetwork(), ...changes };
  const distance = (/** @type {CountedNetwork} */ { alpha, resolution }) => 1000 * Math.abs(alpha - wanted.alpha) + Math.abs(resolution - wanted.resolution);
  const networks = page.facts.networks.networks.filter((/** @type {CountedNetwork} */ { family }) => family === wanted.family);
  const nearest = networks.reduce((/** @type {CountedNetwork} */ best, /** @type {CountedNetwork} */ other) => (distance(other) < distance(best) ? other : best));
  page.set({ net: nearest.name, layer: null });
}

/** Choices that depend on the network are drawn anew when they change, and only then: the focus stays.
 * @param {ReturnType<typeof shareState>} state */
function updateChoices({ network, timeable, unit, layers, at }) {
  const { family, alpha, resolution } = network;
  const networks = page.facts.networks.networks.filter((/** @type {CountedNetwork} */ other) => other.family === family);
  const alphas = [...new Set(networks.map((/** @type {CountedNetwork} */ other) => other.alpha))].sort((a, b) => b - a);
  const sides = networks.filter((/** @type {CountedNetwork} */ other) => other.alpha === alpha).map((/** @type {CountedNetwork} */ other) => other.resolution);
  /** @type {HTMLSelectElement} */ (document.querySelector("#view-I select")).value = family;
  freshChoice("i-alpha", page.text("i.alpha"), alphas.map((value) => [String(value), page.number(value)]), String(alpha), (value) => chooseNetwork({ alpha: Number(value) }));
  freshChoice("i-resolution", page.text("i.resolution"), sides.map((/** @type {number} */ side) => [String(side), String(side)]), String(resolution), (value) => chooseNetwork({ resolution: Number(value) }));
  freshChoice("i-unit", page.text("i.unit"), I_UNITS.filter((name) => name !== "time" || timeable).map((name) => [name, page.text(`i.${name}`)]), unit, (value) => page.set({ unit: value }));
  const input = /** @type {HTMLInputElement} */ (document.querySelector("#i-layer input"));
  input.max = String(layers.length);
  input.value = String(at + 1);
  input.setAttribute("aria-valuetext", `${at + 1}: ${layers[at].name}`);
  /** @type {HTMLElement} */ (document.querySelector("#i-layer output")).textContent = `${at + 1} / ${layers.length}`;
}

/** @param {string} id @param {string} label @param {[string, string][]} options @param {string} chosen @param {(value: string) => void} change */
function freshChoice(id, label, options, chosen, change) {
  const holder = /** @type {HTMLElement} */ (document.getElementById(id));
  const key = JSON.stringify(options);
  if (holder.dataset.options !== key) holder.replaceChildren(choice(label, options, chosen, change));
  holder.dataset.options = key;
  /** @type {HTMLSelectElement} */ (holder.querySelector("select")).value = chosen;
}

/** Patterns of the kinds, for the strip and its legend. */
function kindPatterns() {
  return svg("defs", {}, ...Object.entries(I_KINDS).map(([, { key, fill, mark, lines }]) =>
    svg("pattern", { id: key.replace(".", "-"), width: 8, height: 8, patternUnits: "userSpaceOnUse" },
      svg("rect", { width: 8, height: 8, fill }), svg("path", { d: lines, stroke: mark, "stroke-width": 2 }))));
}

/** @param {string} kind */
function patternOf(kind) {
  return `url(#${I_KINDS[kind].key.replace(".", "-")})`;
}

/** All layers side by side; the one chosen is marked. @param {ReturnType<typeof shareState>} state */
function stripOf({ layers, unit, at }) {
  const width = fitting(1230);
  const total = sumOf(layers, unit);
  let x = 2;
  const places = layers.map((layer) => {
    const place = { x, width: (layer[unit] / total) * (width - 4), layer };
    x += place.width;
    return place;
  });
  const { x: left, width: wide } = places[at];
  return drawing(width, I_HEIGHT + 26, page.text("i.strip", { unit: page.text(`i.${unit}`) }), kindPatterns(),
    ...places.map((place, i) => svg("rect", {
      x: place.x, y: 3, width: place.width, height: I_HEIGHT, fill: patternOf(place.layer.kind), stroke: "var(--quiet)", "stroke-width": 0.7,
      style: "cursor: pointer", onclick: () => page.set({ layer: i }),
    }, svg("title", {}, place.layer.name))),
    svg("rect", { x: left, y: 2, width: Math.max(wide, 1), height: I_HEIGHT + 2, fill: "none", stroke: "var(--ink)", "stroke-width": 4 }),
    svg("path", { d: `M${left + wide / 2} ${I_HEIGHT + 8}l-8 14h16z`, fill: "var(--ink)" }));
}

/** @param {string} kind */
function swatch(kind) {
  return svg("svg", { viewBox: "0 0 28 18", width: 28, height: 18, "aria-hidden": "true", style: "display: inline-block; vertical-align: middle; margin-right: 6px; max-width: none" },
    svg("rect", { x: 1, y: 1, width: 26, height: 16, fill: patternOf(kind), stroke: "var(--quiet)" }));
}

/** @param {string} kind */
function kindName(kind) {
  return page.text(I_KINDS[kind].key);
}

/** What the papers print of a network, of one kind or of the whole. @param {CountedNetwork} network @param {string|null} kind */
function figuresOf(network, kind) {
  return page.facts.networks.figures.filter((/** @type {any} */ figure) => figure.network === network.name && figure.kind === kind);
}

/** Shares by kind, next to the paper's. @param {ReturnType<typeof shareState>} state */
function shareTable({ network, layers, unit }) {
  const kinds = [...new Set(layers.map((layer) => layer.kind))].sort((a, b) => sumOf(ofKind(layers, b), unit) - sumOf(ofKind(layers, a), unit));
  const units = I_UNITS.filter((name) => name !== "time" || unit === "time");
  const printed = !("lecture" in page.state) && kinds.some((kind) => figuresOf(network, kind).length); // a projector has the live line
  const share = (/** @type {string} */ kind, /** @type {Unit} */ name) => printedShare(sumOf(ofKind(layers, kind), name) / sumOf(layers, name));
  return table(page.text("i.kinds"), [page.text("i.kind"), ...units.map((name) => page.text(`i.${name}`)), ...(printed ? [page.text("i.paper")] : [])],
    kinds.map((kind) => [el("span", { style: "white-space: nowrap" }, swatch(kind), kindName(kind)), ...units.map((name) => share(kind, name)), ...(printed ? [paperCell(network, kind)] : [])]));
}

/** @param {CountedLayer[]} layers @param {string} kind */
function ofKind(layers, kind) {
  return layers.filter((layer) => layer.kind === kind);
}

/** The paper's shares of a kind, multiply-adds and weights. @param {CountedNetwork} network @param {string} kind */
function paperCell(network, kind) {
  const figures = figuresOf(network, kind);
  const printed = figures.map((/** @type {any} */ figure) => figure.printed + (figure.verdict === "differs" ? ` (${page.text("i.erratum", { counted: shortCount(figure) })})` : ""));
  const agreed = figures.every((/** @type {any} */ { verdict }) => verdict !== "differs");
  return printed.join(" · ") + (agreed && figures.length ? `: ${page.text("i.rounded")}` : "");
}

/** A count with the paper's two decimals. @param {{counted: string}} figure */
function shortCount({ counted }) {
  return Number(counted).toFixed(2);
}

/** @param {string} verdict of the package: does the count give the printed digits? */
function verdictText(verdict) {
  return page.text(verdict === "differs" ? "i.differs" : verdict === "truncated" ? "i.truncated" : "i.rounded");
}

/** What the paper prints of the whole network. @param {CountedNetwork} network */
function wholeFigures(network) {
  return figuresOf(network, null).map((/** @type {any} */ { unit, printed, counted, verdict, source }) =>
    el("p", { class: "quiet" }, page.text(unit === "macs" ? "i.whole-macs" : "i.whole-params", { printed, counted, verdict: verdictText(verdict), source })));
}

/** The chosen layer: its cost row, and its maps where the network is the one in use. @param {ReturnType<typeof shareState>} state */
function oneLayer({ network, inUse, layers, unit, at }) {
  const layer = layers[at];
  const rows = I_UNITS.filter((name) => name !== "time" || unit === "time").map((name) => [
    page.text(`i.${name}`), name === "time" ? page.text("i.ms", { time: layer.time }) : page.number(layer[name]), printedShare(layer[name] / sumOf(layers, name))]);
  const costs = table(page.text("i.cost", { name: layer.name, kind: kindName(layer.kind), shape: shapeText(layer) }), ["", page.text("i.count"), page.text("i.share")], rows);
  if (inUse === network) return [costs, mapsOfLayer(layer)];
  if (!inUse) return [costs, el("p", { class: "quiet" }, page.text("i.not-counted"))];
  const show = el("button", { onclick: () => page.set({ net: inUse.name, layer: Math.min(at, countedLayers(inUse).length - 1) }) }, page.text("i.show-maps", { name: inUse.name }));
  return [costs, el("p", {}, show)];
}

/** @param {CountedLayer} layer */
function shapeText({ side, channels }) {
  return `${side} × ${side} × ${channels}`;
}

/** Output of a layer for the current picture. @param {CountedLayer} layer */
function mapsOfLayer({ name, channels }) {
  const value = page.values.get(name);
  const map = value.shape.length === 3 ? value : shaped(value, [1, 1, value.data.length]);
  const limit = map.data.reduce((/** @type {number} */ a, /** @type {number} */ b) => Math.max(a, Math.abs(b)), 0);
  const count = Math.min(I_MAPS, channels);
  const caption = page.text("i.maps", { name, count, channels });
  return el("figure", { class: "maps", role: "img", "aria-label": caption }, el("figcaption", { class: "quiet" }, caption),
    ...Array.from({ length: count }, (_, c) => {
      const canvas = el("canvas", { style: "width: 48px" });
      drawMap(canvas, map, c, limit);
      return canvas;
    }));
}

/** The drawing's twin. @param {ReturnType<typeof shareState>} state */
function shareTableOfLayers({ layers, unit }) {
  const total = sumOf(layers, unit);
  return table(page.text("i.table"), [page.text("i.layer"), page.text("i.kind"), page.text("i.shape"), ...I_UNITS.slice(0, 3).map((name) => page.text(`i.${name}`)), page.text("i.share-of", { unit: page.text(`i.${unit}`) })],
    layers.map((layer) => [layer.name, kindName(layer.kind), shapeText(layer), page.number(layer.macs), page.number(layer.weights), page.number(layer.bytes), printedShare(layer[unit] / total)]));
}

/** The live line: the chosen layer, its kind, and the paper. @param {ReturnType<typeof shareState>} state */
function shareLine({ network, layers, unit, at }) {
  const layer = layers[at];
  const share = (/** @type {Unit} */ name, of = ofKind(layers, layer.kind)) => printedShare(sumOf(of, name) / sumOf(layers, name));
  const line = page.text("i.live", {
    name: layer.name, share: share(unit, [layer]), unit: page.text(`i.${unit}`), kind: kindName(layer.kind), macs: share("macs"), weights: share("weights"),
  });
  const figures = figuresOf(network, layer.kind);
  if (!figures.length) return line;
  const [macs, weights] = figures.map((/** @type {any} */ { printed }) => printed);
  return `${line} ${page.text(figures[0].verdict === "differs" ? "i.live-erratum" : "i.live-paper", { macs, weights, counted: shortCount(figures[0]) })}`;
}
