/* P. Can you write it yourself? The five first exercises in Python, judged by the package's own checker. */

const P_STORE = "npmobilenet.exercises"; // name in the browser's storage
const P_PAUSE = 400; // ms of not writing, after which the text is kept
const P_ASKS = /** @type {Record<string, string>} what the exercises ask for */ ({
  convolution: "p.both", depthwise_conv: "p.filter", pointwise_conv: "p.mix", count_macs: "p.count", best_separable: "p.nearest",
});
const P_INDENT = "    ";

/** @type {{texts: Record<string, string>, saved: string|undefined, timer: number, verdicts: Record<string, string>, output: string,
 *   busy: boolean, started: number, mine: any}} what the reader writes */
const writing = { texts: storedTexts(), saved: undefined, timer: 0, verdicts: {}, output: "", busy: false, started: 0, mine: null };

/** Texts that an earlier visit has left, where the browser allows it. @returns {Record<string, string>} */
function storedTexts() {
  try {
    return JSON.parse(localStorage.getItem(P_STORE) || "{}");
  } catch {
    return {};
  }
}

/** Name of the exercise that is shown. */
function currentExercise() {
  const { exercises } = pythonCell();
  return exercises.includes(page.state.exercise) ? page.state.exercise : "depthwise_conv";
}

/** @param {string} name */
function starterOf(name) {
  return /** @type {[string, string]} */ (pythonCell().starter.functions.find(([other]) => other === name))[1];
}

/** The reader's text of an exercise. @param {string} name */
function textOf(name) {
  return writing.texts[name] || starterOf(name);
}

registerView({
  letter: "P",

  build(stage) {
    const { exercises } = pythonCell();
    stage.append(
      el("div", { class: "controls" },
        choice(page.text("p.exercise"), exercises.map((name) => [name, `${name}: ${page.text(P_ASKS[name])}`]), currentExercise(), openExercise)),
      el("div", { class: "columns" },
        el("div", { class: "editor" },
          el("div", { class: "lines", id: "p-lines", "aria-hidden": "true" }),
          el("textarea", {
            id: "p-text", wrap: "off", spellcheck: "false", autocapitalize: "off", autocomplete: "off", lang: "en",
            "aria-label": page.text("p.text"), oninput: textChanged, onkeydown: editorKey,
          })),
        el("div", { class: "editor-output" },
          el("pre", { id: "p-output", tabindex: 0, lang: "en", "aria-label": page.text("p.output") }),
          el("div", { id: "p-network" }))),
      el("div", { class: "controls" },
        el("button", { id: "p-run", onclick: runExercise }, page.text("p.run")),
        el("button", { id: "p-stop", onclick: stopProgram }, page.text("p.stop")),
        el("button", { id: "p-mine", onclick: useMine }, page.text("p.mine")),
        el("button", { onclick: saveFile }, page.text("p.save")),
        el("button", { onclick: startOver }, page.text("p.over"))));
  },

  update() {
    adoptLinkedText();
    const name = currentExercise();
    const box = editor();
    if (box.value !== textOf(name)) box.value = textOf(name);
    sizeEditor();
    /** @type {HTMLSelectElement} */ (document.querySelector("#view-P select")).value = name;
    /** @type {HTMLElement} */ (document.getElementById("p-output")).textContent = writing.output || page.text("p.no-output");
    for (const [id, disabled] of /** @type {[string, boolean][]} */ ([["p-mine", name !== "depthwise_conv" || !layerForLoops()], ["p-stop", !writing.busy]]))
      /** @type {HTMLButtonElement} */ (document.getElementById(id)).disabled = disabled;
    if (writing.mine && writing.mine.of !== page.values) writing.mine = null;
    replaceContent("p-network", ...(writing.mine ? [networkWithMine(writing.mine)] : []));
    if (!writing.started && location.hash.startsWith("#P")) wakePython(); // not for the handout
    return pythonLine(name);
  },

  describe() {
    const lines = writing.busy ? [] : writing.output.split("\n");
    return lines.length > 1 ? `${pythonLine(currentExercise())}. ${lines[1]}. ${lines.at(-1)}` : pythonLine(currentExercise());
  },

  code: { javascript: [judgePython, useLoops] },
});

/** @returns {HTMLTextAreaElement} */
function editor() {
  return /** @type {HTMLTextAreaElement} */ (document.getElementById("p-text"));
}

/** The line of live numbers. @param {string} name */
function pythonLine(name) {
  if (writing.busy) return page.text("p.running");
  if (writing.mine) return mineLine(writing.mine);
  const right = Object.values(writing.verdicts).filter((verdict) => /: right in all \d+ cases$/.test(verdict)).length;
  const verdict = (writing.verdicts[name] || "").split("\n")[0];
  if (verdict) return page.text("p.live", { verdict, right, total: pythonCell().exercises.length });
  return writing.started > 0 ? page.text("p.ready", { name, ms: Math.round(writing.started) }) : page.text("p.starting");
}

/** @param {any} mine */
function mineLine({ layer, values, of }) {
  const last = page.model.graph.layers.at(-1).name;
  const [[label, share], [ownLabel, ownShare]] = [likeliest(values.get(last)), likeliest(of.get(last))];
  return page.text("p.mine-live", { layer: layer.name, label, share, ownLabel, ownShare });
}

/** Start MicroPython when the view is first seen. */
function wakePython() {
  writing.started = -1;
  startPython().then((milliseconds) => {
    writing.started = Math.max(1, milliseconds);
    if (page.state.view === "P") page.refresh();
  }).catch(showError);
}

/** Take over the text of a link, or of the browser's back button. */
function adoptLinkedText() {
  const { code } = page.state;
  if (code === undefined || code === writing.saved) return;
  writing.saved = code;
  writing.texts[currentExercise()] = code;
}

/** @param {string} exercise */
function openExercise(exercise) {
  keepTexts();
  writing.saved = writing.texts[exercise];
  writing.output = writing.verdicts[exercise] || "";
  writing.mine = null;
  page.set({ exercise, code: writing.saved === undefined ? null : writing.saved });
}

function textChanged() {
  writing.texts[currentExercise()] = editor().value;
  sizeEditor();
  clearTimeout(writing.timer);
  writing.timer = window.setTimeout(keepTexts, P_PAUSE);
}

/** Keep the texts in the browser's storage, where it allows that, and the one that is shown in the URL's hash. */
function keepTexts() {
  clearTimeout(writing.timer);
  try {
    localStorage.setItem(P_STORE, JSON.stringify(writing.texts));
  } catch {
    // the hash keeps the text that is shown
  }
  if (page.state.view !== "P") return;
  const text = writing.texts[currentExercise()];
  if (text === writing.saved) return;
  writing.saved = text;
  page.set({ exercise: currentExercise(), code: text === undefined ? null : text });
}

/** As many lines as the text has; their numbers beside them. */
function sizeEditor() {
  const count = Math.max(14, editor().value.split("\n").length + 1);
  editor().rows = count;
  replaceContent("p-lines", Array.from({ length: count }, (_, i) => i + 1).join("\n"));
}

/** Ctrl+Enter runs; Enter keeps the indentation, Backspace takes one away. The tabulator leaves the text, as everywhere.
 * @param {KeyboardEvent} event */
function editorKey(event) {
  const box = editor();
  const before = box.value.slice(0, box.selectionStart);
  const line = before.slice(before.lastIndexOf("\n") + 1);
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    runExercise();
  } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    typeText("\n" + (/^ */.exec(line) || [""])[0] + (/:\s*$/.test(line) ? P_INDENT : ""));
  } else if (event.key === "Backspace" && box.selectionStart === box.selectionEnd && line !== "" && /^( {4})+$/.test(line)) {
    event.preventDefault();
    box.setSelectionRange(box.selectionStart - P_INDENT.length, box.selectionStart);
    typeText("");
  }
}

/** Type at the cursor, so that the browser can undo it. @param {string} text */
function typeText(text) {
  if (document.execCommand(text ? "insertText" : "delete", false, text)) return;
  editor().setRangeText(text, editor().selectionStart, editor().selectionEnd, "end");
  textChanged();
}

/** Judge what is written. */
async function runExercise() {
  if (writing.busy) return;
  keepTexts();
  const name = currentExercise();
  const run = await whileBusy(() => judgePython(textOf(name), name));
  if (run.result !== undefined) writing.verdicts[name] = run.result;
  else delete writing.verdicts[name];
  writing.output = [...run.lines, run.result !== undefined ? run.result : failureText(run)].join("\n");
  refreshIfShown();
}

/** Stop the program; the focus goes to the button that starts it again. */
function stopProgram() {
  /** @type {HTMLElement} */ (document.getElementById("p-run")).focus();
  if (python.stop) python.stop();
}

/** Compute a layer of the network by the reader's loops. */
async function useMine() {
  if (writing.busy) return;
  keepTexts();
  const [of, layer] = [page.values, /** @type {Layer} */ (layerForLoops())];
  const run = await whileBusy(() => useLoops(textOf("depthwise_conv")));
  const shape = of.get(layer.name).shape.join(" × ");
  const failure = run.output ? "" : run.result !== undefined ? page.text("p.other-shape", { shape }) : failureText(run);
  writing.mine = failure ? null : { ...run, of };
  const size = run.stopped ? page.text("p.size", { layer: layer.name, macs: loopMacs(layer, of) }) : "";
  writing.output = [...run.lines, failure, size].filter((line) => line !== "").join("\n");
  refreshIfShown();
}

/** Multiply-adds of a depthwise layer. @param {Layer} layer @param {Map<string, Tensor>} values */
function loopMacs({ name }, values) {
  const [H, W] = /** @type {Tensor} */ (values.get(name)).shape;
  return page.model.params.get(name).kernel.data.length * H * W;
}

/** @template T @param {() => Promise<T>} work @returns {Promise<T>} */
async function whileBusy(work) {
  writing.busy = true;
  writing.output = "";
  writing.mine = null;
  refreshIfShown();
  try {
    return await work();
  } finally {
    writing.busy = false;
  }
}

function refreshIfShown() {
  if (page.state.view === "P") page.refresh();
}

/** @param {PythonRun} run */
function failureText(run) {
  if (!run.stopped) return String(run.error).trim();
  return page.text(run.milliseconds < PYTHON_LIMIT ? "p.stopped" : "p.endless", { seconds: page.number(run.milliseconds / 1000, { maximumFractionDigits: 1 }) });
}

/** The layer's maps by both, and the answers that are made with them. @param {any} mine */
function networkWithMine({ layer, output, values, milliseconds, of }) {
  const right = of.get(layer.name);
  const difference = right.data.reduce((/** @type {number} */ largest, /** @type {number} */ value, /** @type {number} */ i) => Math.max(largest, Math.abs(value - output.data[i])), 0);
  const last = page.model.graph.layers.at(-1).name;
  const limit = right.data.reduce((/** @type {number} */ largest, /** @type {number} */ value) => Math.max(largest, Math.abs(value)), 0);
  return el("section", { "aria-label": page.text("p.mine") },
    el("h2", {}, page.text("p.with-mine", { layer: layer.name, macs: loopMacs(layer, of), ms: Math.round(milliseconds) })),
    ...[["p.yours", output], ["p.own", right]].map(([key, map]) => mapRow(page.text(String(key)), map, limit)),
    table(page.text("p.answers"), ["", page.text("p.answer"), page.text("p.probability")],
      [["p.yours", values.get(last)], ["p.own", of.get(last)]].map(([key, probabilities]) => [page.text(key), ...likeliest(probabilities)])),
    el("p", { class: difference ? "" : "good" }, page.text("p.difference", { difference })));
}

/** Likeliest answer and its probability. @param {Tensor} probabilities @returns {string[]} */
function likeliest({ data }) {
  const best = data.indexOf(data.reduce((a, b) => Math.max(a, b), 0));
  return best < 0 ? ["–", "–"] : [labelOf(best), page.number(data[best], { style: "percent", maximumFractionDigits: 2 })];
}

/** The first maps of a layer in a row. @param {string} name @param {Tensor} map @param {number} limit */
function mapRow(name, map, limit) {
  return el("figure", { class: "maps" }, el("figcaption", {}, name), ...Array.from({ length: Math.min(8, map.shape[2]) }, (_, c) => {
    const canvas = el("canvas", { role: "img", "aria-label": page.text("p.map", { name, channel: c }), style: "width: 48px" });
    drawMap(canvas, map, c, limit);
    return canvas;
  }));
}

/** Hand the reader a file that `npmobilenet check` takes. */
function saveFile() {
  keepTexts();
  const url = URL.createObjectURL(new Blob([exercisesFile(writing.texts)], { type: "text/x-python" }));
  el("a", { href: url, download: "exercises.py" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** Back to the empty function. */
function startOver() {
  const name = currentExercise();
  if (writing.texts[name] === undefined || !window.confirm(page.text("p.over-sure", { name }))) return;
  delete writing.texts[name];
  delete writing.verdicts[name];
  writing.output = "";
  keepTexts();
  page.refresh();
}
