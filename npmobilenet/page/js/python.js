/* Python in the page: MicroPython in a Worker of its own, where an endless loop can be stopped. */

const PYTHON_LIMIT = 5000; // ms that a program may take
const PYTHON_HEAP = 32 * 1024 * 1024; // bytes
const JUDGE_PROGRAM = `
from npmobilenet.exercises.first_five import judge_source
result = judge_source(source, name)
`;
const LAYER_PROGRAM = `
import json
space = {}
exec(compile(source, "exercises.py", "exec"), space)
if "depthwise_conv" not in space:
    raise NameError("there is no function depthwise_conv")
result = json.dumps(space["depthwise_conv"](*json.loads(inputs)))
`;

/** @typedef {{loader: string, wasm: string, modules: Record<string, string>, starter: {header: string, functions: [string, string][]}, exercises: string[]}} PythonCell */
/** @typedef {{result?: string, lines: string[], error?: string, stopped?: boolean, milliseconds: number}} PythonRun */

/** @type {{cell: PythonCell|null, worker: Worker|null, ready: Promise<number>|null, stop: (() => void)|null}} */
const python = { cell: null, worker: null, ready: null, stop: null };

/** What the page carries for Python. @returns {PythonCell} */
function pythonCell() {
  python.cell = python.cell || JSON.parse(embedded("micropython"));
  return /** @type {PythonCell} */ (python.cell);
}

/** What runs in the Worker: first MicroPython starts, with the package's modules as files; then it runs programs.
 * @param {Promise<(options: object) => Promise<any>>} loading */
function pythonWorker(loading) {
  const MOST_LINES = 500;
  const [folder, port] = ["/npmobilenet/exercises", /** @type {any} */ (self)];
  let lines = 0;
  /** @type {any} */ let micropython;
  const start = async (/** @type {ArrayBuffer} */ wasm, /** @type {number} */ heapsize, /** @type {Record<string, string>} */ modules) => {
    const url = URL.createObjectURL(new Blob([wasm], { type: "application/wasm" }));
    const stdout = (/** @type {string} */ line) => { if (lines++ < MOST_LINES) port.postMessage({ line }); };
    micropython = await (await loading)({ url, heapsize, stdout, linebuffer: true });
    for (const path of ["/npmobilenet", folder]) micropython.FS.mkdir(path);
    for (const [name, text] of Object.entries(modules)) micropython.FS.writeFile(`${folder}/${name}.py`, text);
    micropython.runPython("import sys\nsys.path.append('/')\nimport npmobilenet.exercises.first_five");
    port.postMessage({ ready: true });
  };
  const run = (/** @type {string} */ program, /** @type {Record<string, string>} */ values) => {
    lines = 0;
    for (const [name, value] of Object.entries(values)) micropython.globals.set(name, value);
    micropython.runPython(program);
    port.postMessage({ result: micropython.globals.get("result") });
  };
  port.onmessage = async (/** @type {MessageEvent} */ { data }) => {
    try {
      if (data.wasm) await start(data.wasm, data.heapsize, data.modules);
      else run(data.program, data.values);
    } catch (error) {
      port.postMessage({ error: String(/** @type {any} */ (error).message || error) });
    }
  };
}

/** Start MicroPython, once. @returns {Promise<number>} ms that it took */
function startPython() {
  if (python.ready) return python.ready;
  const { loader, wasm, modules } = pythonCell();
  const started = performance.now();
  const url = URL.createObjectURL(new Blob([`${loader}(${pythonWorker})(loading);`], { type: "text/javascript" }));
  const worker = new Worker(url);
  python.worker = worker;
  python.ready = new Promise((resolve, reject) => {
    worker.onerror = (event) => reject(new Error(`MicroPython does not start: ${event.message}`));
    worker.onmessage = ({ data }) => (data.ready ? resolve(performance.now() - started) : reject(new Error(data.error)));
    worker.postMessage({ wasm: bytesOf(wasm), heapsize: PYTHON_HEAP, modules });
  });
  return python.ready;
}

/** End the Worker, whatever it does. */
function endPython() {
  if (python.worker) python.worker.terminate();
  Object.assign(python, { worker: null, ready: null });
}

/** Run a program; after PYTHON_LIMIT, or when `python.stop` is called, it is stopped and MicroPython starts anew.
 * @param {string} program what it computes is its variable `result`, a string
 * @param {Record<string, string>} values its variables @returns {Promise<PythonRun>} */
async function runPython(program, values) {
  await startPython();
  const worker = /** @type {Worker} */ (python.worker);
  const [lines, started] = [/** @type {string[]} */ ([]), performance.now()];
  const outcome = await new Promise((/** @type {(outcome: {result?: string, error?: string, stopped?: boolean}) => void} */ resolve) => {
    const timer = setTimeout(() => resolve({ stopped: true }), PYTHON_LIMIT);
    const finish = (/** @type {any} */ found) => { clearTimeout(timer); resolve(found); };
    python.stop = () => finish({ stopped: true });
    worker.onerror = (event) => finish({ error: event.message });
    worker.onmessage = ({ data }) => ("line" in data ? lines.push(data.line) : finish(data));
    worker.postMessage({ program, values });
  });
  python.stop = null;
  const milliseconds = performance.now() - started;
  if (outcome.stopped || outcome.error !== undefined) {
    endPython();
    startPython().catch(showError);
  }
  return { ...outcome, lines, milliseconds };
}

/** The package's judgment of an exercise, in words: what `npmobilenet check` says. @param {string} source @param {string} name */
function judgePython(source, name) {
  return runPython(JUDGE_PROGRAM, { source, name });
}

/** A feature map or a kernel as nested lists. @param {Tensor} x @returns {any} */
function nestedLists({ shape, data }) {
  if (shape.length === 1) return Array.from(data);
  const size = data.length / shape[0];
  return Array.from({ length: shape[0] }, (_, i) => nestedLists({ shape: shape.slice(1), data: data.subarray(i * size, (i + 1) * size) }));
}

/** Nested lists as a feature map; null if their shape is another, or if they hold anything but finite numbers.
 * @param {any} lists @param {number[]} shape @returns {Tensor|null} */
function tensorOfLists(lists, shape) {
  /** @type {(value: any, depth: number) => boolean} */
  const fits = (value, depth) => depth === shape.length ? Number.isFinite(value)
    : Array.isArray(value) && value.length === shape[depth] && value.every((item) => fits(item, depth + 1));
  return fits(lists, 0) ? { shape, data: Float32Array.from(lists.flat(shape.length - 1)) } : null;
}

/** The layer that the reader's depthwise loops compute: the first depthwise one that pads by itself. @returns {Layer|undefined} */
function layerForLoops() {
  return page.model.graph.layers.find((/** @type {Layer} */ layer) => layer.type === "DepthwiseConv2D" && layer.padding === "same");
}

/** The network with one layer computed by the reader's loops. @param {string} source
 * @returns {Promise<PythonRun & {layer?: Layer, output?: Tensor|null, values?: Map<string, Tensor>}>} */
async function useLoops(source) {
  const layer = /** @type {Layer} */ (layerForLoops());
  const { kernel, bias } = page.model.params.get(layer.name);
  const inputs = [nestedLists(page.values.get(layer.inputs[0])), nestedLists(shaped(kernel, kernel.shape.slice(0, 3))), layer.stride];
  const run = await runPython(LAYER_PROGRAM, { source, inputs: JSON.stringify(inputs) });
  if (run.result === undefined) return run;
  const lists = JSON.parse(run.result.replace(/-?\b(nan|inf)\b/g, "null"));
  const output = tensorOfLists(lists, page.values.get(layer.name).shape);
  if (!output) return { ...run, layer, output };
  const biased = bias ? { shape: output.shape, data: output.data.map((value, i) => value + bias.data[i % bias.data.length]) } : output;
  return { ...run, layer, output: biased, values: traceInstead(page.model, page.input, layer.name, biased) };
}

/** Output of every layer, where that of one is given. @param {Model} model @param {Tensor} x @param {string} name @param {Tensor} output */
function traceInstead(model, x, name, output) {
  const values = new Map();
  for (const layer of model.graph.layers) {
    if (layer.name === name) values.set(name, output);
    else values.set(layer.name, layer.type === "Input" ? x : applyLayer(model, layer, layer.inputs.map((input) => values.get(input))));
  }
  return values;
}

/** The file that `npmobilenet check` takes: what students get, with the reader's functions. @param {Record<string, string>} texts by name */
function exercisesFile(texts) {
  const { header, functions } = pythonCell().starter;
  return [header, ...functions.map(([name, text]) => texts[name] || text)].map((part) => part.trimEnd()).join("\n\n\n") + "\n";
}
