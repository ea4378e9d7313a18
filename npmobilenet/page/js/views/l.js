/* L. Break it, and find it: nine mistakes of ports, what each layer makes of them, and a search for one made by chance. */

/** @typedef {{mistake: Mistake, where: string}} Change where: EVERYWHERE, or the name of a layer */
/** @typedef {{key: string, findings: Finding[], port: Map<string, Tensor>, limits: number[]}} Examination
 *   limits: how far rounding may move the output of each layer of the right network, its inputs taken as exact */

const EVERYWHERE = "all";
const LONG_SEARCH = LONG_NETWORK / 4; // multiply-adds; every layer is computed four times
const L_TILE = 96; // px of a feature map

registerView({
  letter: "L",

  build(stage) {
    stage.append(
      el("div", { class: "columns" },
        el("div", {}, el("div", { id: "l-bars" }), differenceLegend()),
        el("div", { id: "l-maps", style: "flex: 1 1 18rem" })),
      el("div", { id: "l-notes" }),
      el("div", { class: "controls", id: "l-switches" }, el("fieldset", { class: "grid" })),
      el("div", { class: "controls", id: "l-search" }, el("fieldset", {}, el("legend", {}, page.text("l.find")), ...searchControls())),
      el("p", { id: "l-verdict", class: "twin", "aria-live": "polite" }),
      el("div", { id: "l-table", class: "twin" }),
      el("p", { class: "quiet twin" }, page.text("l.compare") + " ", el("code", {}, "npmobilenet compare pack dump.npz")));
  },

  update() {
    if (search.values !== page.values) Object.assign(search, { values: page.values, found: new Map(), running: "", chance: null });
    showControls();
    const changes = currentChanges();
    const found = examination(changes);
    if (!found) return page.text("l.working");
    replaceContent("l-bars", differenceBars(found));
    replaceContent("l-maps", ...firstWrongMaps(found));
    replaceContent("l-notes", ...(isSearching() ? [] : changes.filter((change) => !changesAnything(change)).map((change) =>
      el("p", {}, page.text(change.where === EVERYWHERE ? "l.nothing-anywhere" : "l.nothing", { mistake: page.text(`l.${change.mistake.key}`), layer: change.where })))));
    replaceContent("l-verdict", isSearching() ? verdict(found, changes[0]) : "");
    replaceContent("l-table", findingsTable(found));
    return searchLine(found);
  },

  code: { javascript: [brokenModel, judge, timesTolerance, firstWrong] },
});

/** A check box, and where: everywhere that it fits, or in one layer. @param {Mistake} mistake */
function mistakeSwitch(mistake) {
  const places = placesOf(page.model, mistake);
  const where = choice(page.text("l.where"), [[EVERYWHERE, page.text("l.everywhere")], ...places.map((name) => /** @type {[string, string]} */ ([name, name]))],
    page.state[mistake.key] || EVERYWHERE, (place) => page.set({ [mistake.key]: place }));
  where.dataset.mistake = mistake.key;
  return el("div", { class: "row", style: "margin: 0" },
    checkbox(page.text(`l.${mistake.key}`), mistake.key in page.state, (on) => page.set({ [mistake.key]: on ? EVERYWHERE : null })), where);
}

/** Buttons of the search: a new mistake, an answer, the solution, back. */
function searchControls() {
  return [
    el("button", { id: "l-new", onclick: () => page.set({ ...withoutSwitches(), find: 1 + Math.floor(Math.random() * 99999), guess: null, shown: null }) }, page.text("l.new")),
    el("span", { id: "l-answer", class: "row", style: "margin: 0" },
      choice(page.text("l.guess"), [["", "–"], ...MISTAKES.map(({ key }) => /** @type {[string, string]} */ ([key, page.text(`l.${key}`)]))], page.state.guess || "", (guess) => page.set({ guess: guess || null, shown: null })),
      el("button", { id: "l-show", onclick: () => page.set({ shown: "" }) }, page.text("l.show")),
      el("button", { id: "l-stop", onclick: () => page.set({ find: null, guess: null, shown: null }) }, page.text("l.stop"))),
  ];
}

/** @returns {Record<string, null>} */
function withoutSwitches() {
  return Object.fromEntries(MISTAKES.map(({ key }) => [key, null]));
}

function isSearching() {
  return Number(page.state.find) > 0;
}

/** Bring the controls in line with the state. */
function showControls() {
  const searching = isSearching();
  const part = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
  const switches = /** @type {HTMLElement} */ (part("l-switches").querySelector("fieldset"));
  if (!switches.firstChild || search.model !== page.model) switches.replaceChildren(el("legend", {}, page.text("l.switches")), ...MISTAKES.map(mistakeSwitch));
  search.model = page.model;
  part("l-switches").hidden = searching;
  part("l-answer").hidden = !searching;
  const guess = /** @type {HTMLSelectElement} */ (part("l-answer").querySelector("select"));
  guess.value = page.state.guess || "";
  for (const label of /** @type {NodeListOf<HTMLElement>} */ (switches.querySelectorAll("[data-mistake]"))) {
    const on = page.state[label.dataset.mistake || ""];
    label.hidden = on === undefined;
    const [box, select] = [/** @type {any} */ (label.parentElement).querySelector("input"), /** @type {any} */ (label.querySelector("select"))];
    box.checked = on !== undefined;
    if (on !== undefined) select.value = on;
  }
}

/** The mistakes that the port makes now: those switched on, or the one that is searched. @returns {Change[]} */
function currentChanges() {
  if (isSearching()) return [changeByChance(Number(page.state.find))];
  return MISTAKES.filter(({ key }) => key in page.state).map((mistake) => ({ mistake, where: page.state[mistake.key] }));
}

/** @param {Change} change @returns {string[]} */
function layersOf({ mistake, where }) {
  const places = placesOf(page.model, mistake);
  return where === EVERYWHERE ? places : places.filter((name) => name === where);
}

/** Whether a mistake moves the output of a layer by more than rounding, for this picture. @param {Mistake} mistake @param {string} name */
function changesLayer(mistake, name) {
  const other = brokenModel(page.model, mistake, [name]);
  const [layer, changed] = [page.model, other].map(({ graph }) => graph.layers.find((/** @type {Layer} */ one) => one.name === name));
  const output = layer.type === "Input" ? rescaledInput(page.input, page.model, other)
    : applyLayer(other, changed, layer.inputs.map((/** @type {string} */ input) => page.values.get(input)));
  return timesTolerance(page.model, layer, page.values, new Map(page.values).set(name, output)) > 1;
}

/** @param {Change} change */
function changesAnything(change) {
  return layersOf(change).some((name) => changesLayer(change.mistake, name));
}

/** Numbers in 0..1 from a seed (mulberry32). @param {number} seed @returns {() => number} */
function randomFrom(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A mistake that the seed chooses, everywhere or in one layer, drawn again until it is more than rounding for this picture
 * (the input range always is). @param {number} seed @returns {Change} */
function changeByChance(seed) {
  if (search.chance && search.chance.seed === seed) return search.chance.change;
  const random = randomFrom(seed);
  for (;;) {
    const mistake = MISTAKES[Math.floor(random() * MISTAKES.length)];
    const places = placesOf(page.model, mistake);
    const where = random() < 0.5 ? EVERYWHERE : places[Math.floor(random() * places.length)];
    const change = { mistake, where };
    if (!changesAnything(change)) continue;
    search.chance = { seed, change };
    return change;
  }
}

/** The network with all these mistakes. @param {Change[]} changes @returns {Model} */
function modelWith(changes) {
  return changes.reduce((model, change) => brokenModel(model, change.mistake, layersOf(change)), page.model);
}

/** What is known of the current network and picture.
 * @type {{model: Model|null, values: Map<string, Tensor>|null, found: Map<string, Examination>, running: string, chance: {seed: number, change: Change}|null}} */
const search = { model: null, values: null, found: new Map(), running: "", chance: null };

/** What the mistakes do, layer by layer; null while a large network is still being computed. @param {Change[]} changes @returns {Examination|null} */
function examination(changes) {
  const key = changes.map(({ mistake, where }) => `${mistake.key} ${where}`).join();
  const known = search.found.get(key);
  if (known) return known;
  const steps = examine(key, modelWith(changes), page.model, page.values, page.input);
  if (multiplyAdds(page.model) > LONG_SEARCH) {
    if (search.running !== key) examineInSlices(key, steps);
    return null;
  }
  for (;;) {
    const { done, value } = steps.next();
    if (!done) continue;
    search.found.set(key, /** @type {Examination} */ (value));
    return /** @type {Examination} */ (value);
  }
}

/** Layer after layer: the port, its findings, the bounds. @param {string} key @param {Model} other @param {Model} model @param {Map<string, Tensor>} values @param {Tensor} input
 * @returns {Generator<undefined, Examination>} */
function* examine(key, other, model, values, input) {
  const [port, findings, limits] = [new Map(), /** @type {Finding[]} */ ([]), /** @type {number[]} */ ([])];
  for (const [name, value] of traceSteps(other, rescaledInput(input, model, other))) {
    port.set(name, value);
    yield;
  }
  for (const finding of judge(model, values, port)) {
    findings.push(finding);
    yield;
  }
  for (const layer of model.graph.layers) {
    const bound = layer.type === "Input" ? inputBound(tensorOf(values, layer.name), model) : layerBound(model, layer, layer.inputs.map((name) => tensorOf(values, name)));
    limits.push(bound ? bound.data.reduce((a, b) => Math.max(a, b), 0) : 0);
    yield;
  }
  return { key, findings, port, limits };
}

/** The same in slices, so that the page answers. @param {string} key @param {Generator<undefined, Examination>} steps */
async function examineInSlices(key, steps) {
  search.running = key;
  let shown = performance.now();
  for (;;) {
    const { done, value } = steps.next();
    if (search.running !== key) return; // another question has come
    if (done) {
      search.found.set(key, value);
      search.running = "";
      if (page.state.view === "L") page.refresh();
      return;
    }
    if (performance.now() - shown > SLICE) {
      await new Promise((resolve) => setTimeout(resolve));
      shown = performance.now();
    }
  }
}

/** Difference of every layer from the right network, logarithmic; how far rounding may go as a line. @param {Examination} found */
function differenceBars({ findings, limits }) {
  const [width, height] = [fitting(760), 270];
  const last = findings.length;
  const sizes = [...findings.map(({ difference }) => difference), ...limits].filter((size) => size > 0 && size < Infinity);
  const powers = [Math.floor(Math.log10(Math.min(1e-8, ...sizes))), Math.ceil(Math.log10(3 * Math.max(1, ...sizes)))];
  const ticks = Array.from({ length: powers[1] - powers[0] + 1 }, (_, i) => powers[0] + i).filter((power) => power % 2 === 0);
  const { frame, px, py } = axes({
    width, height,
    x: { from: 0, to: last, ticks: Array.from({ length: Math.floor(last / 10) + 1 }, (_, i) => 10 * i), label: page.text("l.axis-layer") },
    y: { from: powers[0], to: powers[1], ticks, label: page.text("l.axis-difference"), show: (power) => `1e${power}` },
  });
  const level = (/** @type {number} */ size) => py(Math.min(powers[1], Math.max(powers[0], Math.log10(size))));
  const step = px(1) - px(0);
  const bars = findings.flatMap(({ status, difference }, i) => difference === 0 ? [] : [
    svg("rect", {
      x: px(i) + step * 0.1, width: step * 0.8, y: level(difference), height: Math.max(2, py(powers[0]) - level(difference)),
      fill: status === "wrong" ? "var(--orange)" : status === "inherits" ? "url(#l-hatch)" : "var(--quiet)",
    }),
    ...(status === "wrong" ? [svg("path", { d: `M${px(i + 0.5)} ${level(difference) - 3}l-5 -8h10z`, fill: "var(--orange)" })] : [])]);
  const line = { d: limits.map((limit, i) => (limit > 0 ? `M${px(i)} ${level(limit)}H${px(i + 1)}` : "")).join(""), fill: "none" };
  return growing(drawing(width, height, page.text("l.bars"), svg("defs", {}, hatch("l-hatch", "var(--blue)")), frame, ...bars,
    svg("path", { ...line, stroke: "var(--paper)", "stroke-width": 6 }), svg("path", { ...line, stroke: "var(--ink)", "stroke-width": 2 })), 62);
}

function differenceLegend() {
  const sign = (/** @type {any} */ ...children) => svg("svg", { viewBox: "-8 -8 16 16", width: 16, height: 16, "aria-hidden": "true" }, ...children);
  const signs = {
    wrong: sign(svg("rect", { x: -4, y: 0, width: 8, height: 8, fill: "var(--orange)" }), svg("path", { d: "M0 -1l-5 -7h10z", fill: "var(--orange)" })),
    inherits: sign(svg("defs", {}, hatch("l-legend-hatch", "var(--blue)")), svg("rect", { x: -6, y: -6, width: 12, height: 13, fill: "url(#l-legend-hatch)" })),
    rounding: sign(svg("path", { d: "M-8 0H8", stroke: "var(--ink)", "stroke-width": 1.5 })),
  };
  return el("ul", { class: "legend", style: "max-width: max(62vw, 336px)" }, ...Object.entries(signs).map(([name, drawn]) => el("li", {}, drawn, page.text(`l.legend-${name}`))));
}

/** What the first wrong layer makes: right, of this port, and their difference, in the channel where it is largest. @param {Examination} found */
function firstWrongMaps({ findings, port }) {
  const name = firstWrong(findings);
  if (!name) return [el("p", {}, page.text("l.same"))];
  const [right, ported] = [page.values.get(name), tensorOf(port, name)];
  const heading = el("h2", {}, page.text("l.first", { layer: name }));
  const kind = el("p", {}, layerInWords(name));
  if (!sameShape(right, ported)) return [heading, kind, el("p", {}, page.text("l.shapes", { right: right.shape.join(" × "), port: ported.shape.join(" × ") }))];
  const difference = { shape: right.shape, data: ported.data.map((value, i) => value - right.data[i]) };
  const at = difference.data.reduce((best, value, i) => (Math.abs(value) > Math.abs(difference.data[best]) ? i : best), 0);
  const changed = difference.data.reduce((count, value) => count + (value === 0 ? 0 : 1), 0);
  const counted = el("p", {}, page.text("l.changed", { changed, count: difference.data.length, right: right.data[at], port: ported.data[at] }));
  if (right.shape.length !== 3) return [heading, kind, counted];
  const channel = at % right.shape[2];
  const limit = Math.max(largestMagnitude(right, channel), largestMagnitude(ported, channel));
  const maps = /** @type {[string, Tensor][]} */ ([["right", right], ["port", ported], ["difference", difference]]).map(([key, map]) => {
    const canvas = el("canvas", { role: "img", "aria-label": page.text(`l.map-${key}`), style: `width: ${L_TILE}px; height: ${L_TILE}px` });
    drawMap(canvas, map, channel, key === "difference" ? undefined : limit);
    return el("figure", { style: "margin: 0" }, canvas, el("figcaption", { class: "quiet" }, page.text(`l.map-${key}`)));
  });
  return [heading, kind, counted, el("div", { class: "row" }, ...maps), el("p", { class: "quiet" }, page.text("l.channel", { channel, channels: right.shape[2] }))];
}

/** @param {string} name */
function layerInWords(name) {
  const layer = page.model.graph.layers.find((/** @type {Layer} */ one) => one.name === name);
  const shape = page.values.get(name).shape.join(" × ");
  if (layer.kernel_size) return page.text("l.window", { type: layer.type, K: layer.kernel_size.join(" × "), stride: layer.stride, shape });
  return page.text("l.plain", { type: layer.activation ? `${layer.type} (${layer.activation})` : layer.type, shape });
}

/** The drawing's twin: every layer that differs. @param {Examination} found */
function findingsTable({ findings, limits }) {
  const rows = findings.map((finding, i) => ({ ...finding, limit: limits[i] })).filter(({ difference }) => difference !== 0);
  const number = (/** @type {number} */ value) => {
    if (value === Infinity) return "∞";
    return value < 1e6 ? page.number(value, { maximumSignificantDigits: 3 }) : value.toExponential(1);
  };
  const caption = page.text("l.table", { differ: rows.length, layers: findings.length });
  if (!rows.length) return el("p", { class: "quiet" }, caption);
  return tall(table(caption, [page.text("l.layer"), page.text("l.status"), page.text("l.axis-difference"), page.text("l.limit"), page.text("l.times")],
    rows.map(({ layer, status, difference, limit, times }) => [layer, page.text(`l.is-${status}`), number(difference), number(limit), number(times)])));
}

/** The likeliest class of a trace, and its probability. @param {Map<string, Tensor>} values */
function answerOf(values) {
  const { data } = tensorOf(values, page.model.graph.layers.at(-1).name);
  const best = data.reduce((first, value, i) => (value > data[first] ? i : first), 0);
  return { label: labelOf(best), percent: percent(data[best]) };
}

/** @param {Examination} found */
function searchLine({ findings, port }) {
  const [right, ported] = [answerOf(page.values), answerOf(port)];
  const numbers = { label: ported.label, percent: ported.percent, right: right.label, rightPercent: right.percent, layers: findings.length };
  const first = firstWrong(findings);
  if (!first) return page.text("l.live-same", numbers);
  const count = (/** @type {string} */ status) => findings.filter((finding) => finding.status === status).length;
  return page.text("l.live", { ...numbers, first, wrong: count("wrong"), inherits: count("inherits") });
}

/** What the reader is told about an answer. @param {Examination} found @param {Change} change */
function verdict(found, change) {
  const { guess, find } = page.state;
  const [solution, layer] = [page.text(`l.${change.mistake.key}`), change.where === EVERYWHERE ? page.text("l.everywhere") : change.where];
  if (guess === change.mistake.key) return page.text("l.found", { solution, layer });
  if ("shown" in page.state) return page.text("l.solution", { solution, layer });
  const mistake = MISTAKES.find(({ key }) => key === guess);
  if (!mistake) return page.text("l.ask", { seed: find });
  const first = /** @type {string} */ (firstWrong(found.findings));
  const answer = page.text(`l.${mistake.key}`);
  if (!placesOf(page.model, mistake).includes(first)) return page.text("l.not-there", { answer, layer: first });
  const other = brokenModel(page.model, mistake, [first]);
  const output = tensorOf(trace(other, rescaledInput(page.input, page.model, other)), first);
  const [theirs, right] = [tensorOf(found.port, first), page.values.get(first)];
  if (sameShape(output, theirs) && largestDifference(output, theirs) === 0) return page.text("l.as-good", { answer, solution, layer });
  return page.text("l.not-that", { answer, layer: first, answers: largestDifference(output, right), is: largestDifference(theirs, right) });
}
