/* K. Nine times fewer: how much faster? A roofline of every layer, and measured times, each with its machine. */

/** @typedef {{name: string, kind: string, macs: number, bytes: number, perByte: number, seconds: number, waits: boolean}} RoofLayer
 *   seconds: the least time under the roof; waits: for memory, not for arithmetic */

const K_RATES = [2, 5, 10, 20, 50, 100, 200]; // GB/s that memory may deliver
const K_PROGRAMS = /** @type {[string, number][]} */ ([["k.by-numpy", 2], ["k.by-compiled", 4], ["k.by-engine", 7]]); // rungs with the standard convolution next to them
const GIGA = 1e9;
const FLOPS = 2; // a multiply-add

registerView({
  letter: "K",

  build(stage) {
    stage.append(
      el("div", { class: "columns" }, el("div", {}, el("div", { id: "k-roof" }), roofLegend()), el("div", { id: "k-bars" })),
      el("div", { class: "controls" },
        choice(page.text("k.network"), page.facts.roofline.map((/** @type {any} */ { name }) => [name, name]), roofNetwork().name, (network) => page.set({ network })),
        slider({
          label: page.text("k.rate"), min: 0, max: K_RATES.length - 1, value: K_RATES.indexOf(memoryRate() / GIGA), show: (index) => String(K_RATES[index]),
          change: (index) => page.set({ rate: K_RATES[index] }),
        })),
      el("div", { id: "k-shares", class: "twin" }), el("p", { id: "k-machine", class: "quiet twin" }), el("div", { id: "k-times", class: "twin" }), el("div", { id: "k-layers", class: "twin" }));
  },

  update() {
    const layers = roofLayers(roofNetwork().layers, roofPeak(), memoryRate());
    const { ladder } = page.facts;
    replaceContent("k-roof", roofline(layers));
    replaceContent("k-machine", page.text(ladder.recorded ? "k.machine-recorded" : "k.machine", { cpu: ladder.cpu, peak: roofPeak() / GIGA }));
    replaceContent("k-bars", speedupBars(ladder), el("p", { class: "quiet" }, page.text(ladder.recorded ? "k.where-recorded" : "k.where", { cpu: ladder.cpu })), ladderBars(ladder));
    replaceContent("k-times", timesTable(ladder), ladderTable(ladder));
    replaceContent("k-shares", sharesTable(layers));
    replaceContent("k-layers", roofTable(layers));
    const depthwise = kindShares(layers).filter(({ kind }) => isDepthwise(kind));
    const total = (/** @type {"macs"|"time"} */ what) => depthwise.reduce((sum, share) => sum + share[what], 0);
    return page.text("k.live", {
      macs: percentOf(total("macs")), time: percentOf(total("time")), waiting: layers.filter(({ waits }) => waits).length, layers: layers.length,
    });
  },

  code: { javascript: [roofLayers] },
});

/** The chosen network: {name, layers, shares}. */
function roofNetwork() {
  const networks = page.facts.roofline;
  return networks.find((/** @type {any} */ { name }) => name === page.state.network) || networks[0];
}

/** Floating-point operations a second of one thread of the ladder's machine, at most. */
function roofPeak() {
  return page.facts.ladder.peak_flops;
}

/** Bytes a second that the reader lets memory deliver. */
function memoryRate() {
  const rate = Number(page.state.rate);
  return (K_RATES.includes(rate) ? rate : 10) * GIGA;
}

/** The least time of every layer: that of its arithmetic or that of its bytes, whichever is longer.
 * @param {[string, string, number, number][]} layers name, kind, multiply-adds, bytes
 * @param {number} peak floating-point operations a second @param {number} rate bytes a second @returns {RoofLayer[]} */
function roofLayers(layers, peak, rate) {
  return layers.map(([name, kind, macs, bytes]) => {
    const [arithmetic, memory] = [FLOPS * macs / peak, bytes / rate];
    return { name, kind, macs, bytes, perByte: macs / bytes, seconds: Math.max(arithmetic, memory), waits: memory > arithmetic };
  });
}

/** @param {string} kind */
function isDepthwise(kind) {
  return kind.includes(" DW ");
}

/** Shares of each kind in per cent: multiply-adds and weights as counted, the least time under the roof.
 * @param {RoofLayer[]} layers @returns {{kind: string, macs: number, weights: number, time: number}[]} */
function kindShares(layers) {
  const time = layers.reduce((sum, { seconds }) => sum + seconds, 0);
  return roofNetwork().shares.map((/** @type {[string, number, number]} */ [kind, macs, weights]) => ({
    kind, macs, weights, time: 100 * layers.filter((layer) => layer.kind === kind).reduce((sum, { seconds }) => sum + seconds, 0) / time,
  }));
}

/** @param {number} share */
function percentOf(share) {
  return page.number(share, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
}

/** @param {string} kind */
function lookOfKind(kind) {
  if (isDepthwise(kind)) return J_LOOKS.v1;
  if (kind === "Conv 1x1") return J_LOOKS.v2;
  return kind === "Fully connected" ? J_LOOKS.v3 : J_LOOKS.other;
}

/** "Conv DW 3x3" as the page says it. @param {string} kind */
function nameOfKind(kind) {
  const side = kind.slice(-1);
  const name = isDepthwise(kind) ? "depthwise" : kind === "Conv 1x1" ? "pointwise" : kind === "Fully connected" ? "dense" : "standard";
  return page.text(`k.${name}`, { K: side });
}

/** What the roof allows every layer. @param {RoofLayer[]} layers */
function roofline(layers) {
  const [peak, rate] = [roofPeak() / FLOPS / GIGA, memoryRate() / GIGA]; // multiply-adds and bytes, in billions
  const [width, height] = [fitting(600), 340];
  const { frame, px, py } = axes({
    width, height,
    x: { from: 0.1, to: 100, ticks: [0.1, 1, 10, 100], log: true, label: page.text("k.axis-intensity") },
    y: { from: 0.2, to: 500, ticks: [1, 10, 100], log: true, label: page.text("k.axis-rate") },
  });
  const ridge = peak / rate;
  const roof = (/** @type {number} */ perByte) => Math.min(peak, perByte * rate);
  const bend = Math.min(100, Math.max(0.1, ridge));
  const marks = layers.map(({ kind, perByte }) => svg("path", {
    d: lookOfKind(kind).outline, transform: `translate(${px(perByte)} ${py(roof(perByte))})`, fill: isDepthwise(kind) ? lookOfKind(kind).color : "var(--paper)",
    stroke: lookOfKind(kind).color, "stroke-width": 1.8,
  }));
  return growing(drawing(width, height, page.text("k.roof"), frame,
    svg("path", { d: `M${px(0.1)} ${py(roof(0.1))}L${px(bend)} ${py(roof(bend))}H${px(100)}`, fill: "none", stroke: "var(--line)", "stroke-width": 7 }),
    svg("path", { d: `M${px(bend)} ${py(roof(bend))}V${py(0.2)}`, stroke: "var(--quiet)", "stroke-dasharray": "4 3" }),
    svg("text", { x: px(bend) - 6, y: py(0.2) - 10, "text-anchor": "end" }, page.text("k.memory")),
    svg("text", { x: px(bend) + 6, y: py(0.2) - 10 }, page.text("k.arithmetic")),
    ...(width < 500 ? [] : [page.text("k.peak", { peak }), page.facts.ladder.cpu]).map((text, i) =>
      svg("text", { x: px(100) - 4, y: py(peak) + 24 + 18 * i, "text-anchor": "end" }, text)), ...marks), 48);
}

function roofLegend() {
  const kinds = ["Conv DW 3x3", "Conv 1x1", "Conv 3x3", "Fully connected"];
  return el("ul", { class: "legend quiet" }, ...kinds.map((kind) => el("li", {},
    svg("svg", { viewBox: "-8 -8 16 16", width: 16, height: 16, "aria-hidden": "true" },
      svg("path", { d: lookOfKind(kind).outline, fill: isDepthwise(kind) ? lookOfKind(kind).color : "var(--paper)", stroke: lookOfKind(kind).color, "stroke-width": 1.8 })),
    page.text(`k.legend-${kind === "Conv 1x1" ? "pointwise" : isDepthwise(kind) ? "depthwise" : kind === "Conv 3x3" ? "standard" : "dense"}`))));
}

/** Times of the standard and of the separable layer, by program: the rungs that have both. @param {any} ladder
 * @returns {{name: string, separable: number, standard: number, sampled: boolean}[]} */
function bothWays({ rungs, next_to }) {
  const [loops, apart] = rungs;
  return [{ name: page.text("k.by-python"), separable: apart.ms, standard: loops.ms, sampled: Boolean(apart.sampled) },
    ...K_PROGRAMS.flatMap(([key, rung]) => {
      const standard = next_to.find((/** @type {any} */ { number, name }) => number === rung && name === "standard");
      return standard ? [{ name: page.text(key), separable: rungs[rung].ms, standard: standard.ms, sampled: false }] : [];
    })];
}

/** How many times faster the separable layer is, by program; a line where its multiplications are. @param {any} ladder */
function speedupBars(ladder) {
  const rows = bothWays(ladder);
  const fewer = ladder.standard_macs / ladder.macs;
  const [width, height, line] = [fitting(560), rows.length * 56 + 30, 56];
  const full = Math.max(...rows.map((row) => row.standard / row.separable)) * 1.05;
  const x = (/** @type {number} */ ratio) => 4 + (width - 8) * ratio / full;
  return growing(drawing(width, height, page.text("k.speedup"),
    svg("defs", {}, hatch("k-hatch", "var(--blue)")),
    ...rows.flatMap((row, i) => [
      svg("text", { x: 4, y: i * line + 16 }, page.text("k.times", { program: row.name, ratio: page.number(row.standard / row.separable, { maximumSignificantDigits: 3 }) })),
      svg("rect", { x: 4, y: i * line + 22, height: 16, width: x(row.standard / row.separable) - 4, fill: "url(#k-hatch)", stroke: "var(--blue)" }),
      svg("path", { d: `M${x(fewer)} ${i * line + 19}v22`, stroke: "var(--orange)", "stroke-width": 4 })]),
    svg("text", { x: Math.max(x(fewer), 120), y: height - 8, "text-anchor": "middle" }, page.text("k.fewer", { ratio: page.number(fewer, { maximumFractionDigits: 2 }) }))), 44);
}

/** @param {any} ladder */
function timesTable(ladder) {
  const { cpu, layer, macs, standard_macs } = ladder;
  const ms = (/** @type {number} */ time) => page.number(time, { maximumSignificantDigits: 5 });
  return el("div", {}, table(page.text("k.times-caption", { cpu, layer }),
    [page.text("k.program"), page.text("k.separable"), page.text("k.standard-ms"), page.text("k.ratio")],
    [[page.text("k.multiply-adds"), page.number(macs), page.number(standard_macs), page.number(standard_macs / macs, { maximumFractionDigits: 2 })],
      ...bothWays(ladder).map((row) => [row.name + (row.sampled ? " *" : ""), ms(row.separable), ms(row.standard), page.number(row.standard / row.separable, { maximumSignificantDigits: 3 })])]),
  el("p", { class: "quiet" }, page.text("k.sampled")));
}

/** The rungs over time, logarithmic. @param {any} ladder */
function ladderBars({ rungs }) {
  const [width, line] = [fitting(560), 42];
  const [low, high] = [Math.min(...rungs.map((/** @type {any} */ rung) => rung.ms)) / 4, Math.max(...rungs.map((/** @type {any} */ rung) => rung.ms))];
  const x = (/** @type {number} */ ms) => 4 + (width - 110) * Math.log(ms / low) / Math.log(high / low);
  return growing(drawing(width, rungs.length * line + 4, page.text("k.ladder"), svg("defs", {}, hatch("k-ladder-hatch", "var(--blue)")),
    ...rungs.flatMap((/** @type {any} */ rung, /** @type {number} */ i) => [
      svg("text", { x: 4, y: i * line + 15 }, `${rung.number} ${rung.name}`),
      svg("rect", { x: 4, y: i * line + 20, height: 16, width: x(rung.ms) - 4, fill: "url(#k-ladder-hatch)", stroke: "var(--blue)" }),
      svg("text", { x: x(rung.ms) + 6, y: i * line + 33 }, page.text("k.ms", { ms: rung.ms }) + (rung.sampled ? " *" : ""))])), 40);
}

/** @param {any} ladder */
function ladderTable({ cpu, threads, peak_flops, rungs }) {
  const shown = (/** @type {number|null} */ value) => (value === null || value === undefined ? "" : page.number(value, { maximumSignificantDigits: 3 }));
  return table(page.text("k.ladder-caption", { cpu, threads, peak: peak_flops / GIGA }),
    [page.text("k.rung"), "ms", "GFLOP/s", page.text("k.of-peak"), page.text("k.factor"), page.text("k.bound")],
    rungs.map((/** @type {any} */ rung) => [`${rung.number} ${rung.name}` + (rung.sampled ? " *" : ""), page.number(rung.ms, { maximumSignificantDigits: 5 }), shown(rung.gflops),
      shown(100 * rung.share_of_peak), shown(rung.factor), page.text(rung.within_bound ? "k.yes" : "k.no")]));
}

/** @param {RoofLayer[]} layers */
function sharesTable(layers) {
  return table(page.text("k.shares", { network: roofNetwork().name }), [page.text("k.kind"), page.text("k.share-macs"), page.text("k.share-weights"), page.text("k.share-time")],
    kindShares(layers).map(({ kind, macs, weights, time }) => [nameOfKind(kind), percentOf(macs), percentOf(weights), percentOf(time)]));
}

/** The roofline's twin. @param {RoofLayer[]} layers */
function roofTable(layers) {
  return tall(table(page.text("k.layers", { network: roofNetwork().name }),
    [page.text("k.layer"), page.text("k.kind"), page.text("k.multiply-adds"), page.text("k.bytes"), page.text("k.axis-intensity"), page.text("k.waits-for")],
    layers.map(({ name, kind, macs, bytes, perByte, waits }) => [name, nameOfKind(kind), page.number(macs), page.number(bytes), page.number(perByte, { maximumSignificantDigits: 3 }), page.text(waits ? "k.memory" : "k.arithmetic")])));
}
