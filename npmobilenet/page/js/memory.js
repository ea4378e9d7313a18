/* Memory of a block: two policies of npmobilenet/analysis/memory_plan.py, "free" and "split", for the layers of a block. */

const SPLIT_PARTS = 4; // parts of an inverted residual's inner channels
const BYTES = 4; // of a float32

/** @typedef {{kind: string, H: number, c_in: number, c_out: number, inner: number, K: number, stride: number, se: boolean, activation: string}} BlockShape
 * @typedef {{name: string, type: string, reads: string[], shape: number[], weights: number, macs: number, K: number}} BlockLayer
 * @typedef {{name: string, type: string, reads: string[], writes: string, values: number, held: number, sums: boolean, over: string|null, scratch: boolean}} MemoryStep
 *   writes   a tensor of so many values; with `over`, in the memory of that tensor
 *   held     values of K rows of the input, which a depthwise convolution keeps if it writes over it (`scratch`)
 *   sums     what it writes is added to what is there */

/** Channels as a multiple of 8, never down by more than a tenth (TF-Slim). @param {number} channels */
function makeDivisible(channels) {
  const rounded = Math.max(8, Math.floor((channels + 4) / 8) * 8);
  return rounded < 0.9 * channels ? rounded + 8 : rounded;
}

/** Layers of a block as Keras has them: zero padding, batch normalization and activation are layers too.
 * @param {BlockShape} block @returns {BlockLayer[]} */
function blockLayers({ kind, H, c_in, c_out, inner, K, stride, se, activation }) {
  /** @type {BlockLayer[]} */
  const layers = [{ name: "input", type: "Input", reads: [], shape: [H, H, c_in], weights: 0, macs: 0, K: 1 }];
  const last = () => layers[layers.length - 1];
  const add = (/** @type {string} */ name, /** @type {string} */ type, shape = last().shape, weights = 0, reads = [last().name], side = 1) =>
    layers.push({ name, type, reads, shape, weights, macs: weights * shape[0] * shape[1], K: side });
  const convolve = (/** @type {string} */ name, /** @type {string} */ type, /** @type {number} */ channels, side = 1, step = 1, active = true) => {
    const [rows, , before] = last().shape;
    const padded = rows + 2 * Math.floor(side / 2) - (1 - rows % 2);
    if (step === 2 && side > 1) add(`${name}_pad`, "Pad", [padded, padded, before]);
    const out = Math.ceil(rows / step);
    add(name, type, [out, out, channels], side * side * channels * (type === "Depthwise" ? 1 : before), undefined, side);
    add(`${name}_bn`, "Normalization");
    if (active) add(`${name}_activation`, "Activation");
  };
  const addInput = () => { if (stride === 1 && c_in === c_out) add("add", "Add", last().shape, 0, ["input", last().name]); };
  if (kind === "standard") convolve("conv", "Conv", c_out, K, stride);
  else if (kind === "v1") {
    convolve("depthwise", "Depthwise", c_in, K, stride);
    convolve("pointwise", "Conv", c_out);
  } else if (kind === "resnet") {
    convolve("reduce", "Conv", inner);
    convolve("conv", "Conv", inner, K, stride);
    convolve("restore", "Conv", c_out, 1, 1, false);
    addInput();
    add("activation", "Activation");
  } else {
    if (inner !== c_in) convolve("expand", "Conv", inner);
    convolve("depthwise", "Depthwise", inner, K, stride);
    if (se) squeezeExciteLayers(add, last, inner);
    convolve("project", "Conv", c_out, 1, 1, false);
    addInput();
  }
  return layers;
}

/** Pool, squeeze, excite, hard sigmoid in three layers, multiply. @param {Function} add @param {() => BlockLayer} last @param {number} C */
function squeezeExciteLayers(add, last, C) {
  const { name, shape } = last();
  const squeezed = makeDivisible(C / 4);
  add("pool", "Pool", [1, 1, C]);
  add("squeeze", "Conv", [1, 1, squeezed], C * squeezed);
  add("squeeze_activation", "Activation");
  add("excite", "Conv", [1, 1, C], squeezed * C);
  for (const part of ["add_3", "relu6", "divide_6"]) add(`gate_${part}`, "Activation");
  add("multiply", "Multiply", shape, 0, [name, last().name]);
}

/** Bytes in use at every step of the best plan that a policy allows.
 * @param {BlockLayer[]} layers @param {"free"|"split"} policy */
function memoryPlan(layers, policy) {
  if (policy === "free") return measuredPlan(layers.map(stepOf(layers)));
  const folded = withoutPadding(layers);
  const whole = folded.map(stepOf(folded));
  const parts = stepsInParts(folded);
  const plans = ["elementwise", "depthwise", "strided"].flatMap((inPlace) =>
    [whole, ...(parts.length && inPlace !== "elementwise" ? [parts] : [])].map((steps) => measuredPlan(writtenOver(steps, inPlace))));
  return plans.reduce((best, plan) => (plan.peak < best.peak || (plan.peak === best.peak && plan.live.length < best.live.length) ? plan : best));
}

/** Bytes in use at every step: a tensor's memory is taken from the first step that touches it to the last. What is
 * written over another tensor shares its memory. @param {MemoryStep[]} steps */
function measuredPlan(steps) {
  /** @type {Map<string, string>} */
  const home = new Map();
  for (const { writes, over } of steps) if (!home.has(writes)) home.set(writes, over ? home.get(over) || over : writes);
  /** @type {Map<string, {values: number, first: number, last: number}>} */
  const buffers = new Map();
  const touch = (/** @type {string} */ tensor, /** @type {number} */ at, values = 0) => {
    const buffer = buffers.get(home.get(tensor) || tensor) || { values, first: at, last: at };
    buffers.set(home.get(tensor) || tensor, { values: Math.max(buffer.values, values), first: buffer.first, last: at });
  };
  steps.forEach(({ reads, writes, values, held, scratch }, at) => {
    for (const tensor of reads) touch(tensor, at);
    touch(writes, at, values);
    if (scratch) touch(`${writes}, rows held back`, at, held);
  });
  const live = steps.map((_, at) => BYTES * [...buffers.values()].reduce((sum, { values, first, last }) => sum + (first <= at && at <= last ? values : 0), 0));
  const peak = Math.max(...live);
  return { live, peak, names: steps.map(({ name }) => name), at: live.indexOf(peak) };
}

/** @param {BlockLayer[]} layers @returns {(layer: BlockLayer) => MemoryStep} */
function stepOf(layers) {
  const shapes = new Map(layers.map(({ name, shape }) => [name, shape]));
  return ({ name, type, reads, shape, K }) => {
    const [, W, C] = shapes.get(reads[0]) || [0, 0, 0];
    return { name, type, reads, writes: name, values: shape.reduce((a, b) => a * b, 1), held: type === "Depthwise" ? K * W * C : 0, sums: false, over: null, scratch: false };
  };
}

/** Zeros of the padding are part of the convolution that reads them. @param {BlockLayer[]} layers */
function withoutPadding(layers) {
  const pads = new Map(layers.filter(({ type }) => type === "Pad").map(({ name, reads }) => [name, reads[0]]));
  return layers.filter(({ name }) => !pads.has(name)).map((layer) => ({ ...layer, reads: layer.reads.map((name) => pads.get(name) || name) }));
}

/** An inverted residual some inner channels at a time: expand, filter, project and add to the output (V2, section 5.1).
 * Empty for other blocks, and with squeeze-and-excitation, which reads all channels. @param {BlockLayer[]} layers @returns {MemoryStep[]} */
function stepsInParts(layers) {
  const [first, last] = ["expand", "project"].map((wanted) => layers.findIndex(({ name }) => name === wanted));
  if (first < 0 || layers.some(({ type }) => type === "Multiply")) return [];
  const whole = layers.map(stepOf(layers));
  const inner = layers[first].shape[2];
  const width = Math.ceil(inner / SPLIT_PARTS);
  const steps = whole.slice(0, first);
  for (let a = 0; a < inner; a += width) {
    const share = Math.min(width, inner - a) / inner;
    let reads = whole[first].reads;
    for (const step of whole.slice(first, last)) {
      steps.push({ ...step, reads, writes: `${step.name} ${a}`, values: step.values * share, held: step.held * share });
      reads = [`${step.name} ${a}`];
    }
    steps.push({ ...whole[last], reads, sums: true });
  }
  return [...steps, ...whole.slice(last + 1)];
}

/** Let steps write over an input that nobody reads later. @param {MemoryStep[]} steps @param {string} inPlace */
function writtenOver(steps, inPlace) {
  const values = new Map(steps.map((step) => [step.writes, step.values]));
  const lastUse = new Map(steps.flatMap(({ reads, writes }, at) => [...reads, writes].map((tensor) => /** @type {[string, number]} */ ([tensor, at]))));
  return steps.map((step, at) => {
    const free = step.sums ? [] : step.reads.filter((tensor) => lastUse.get(tensor) === at);
    if (["Normalization", "Activation", "Add", "Multiply"].includes(step.type)) return { ...step, over: free.find((tensor) => values.get(tensor) === step.values) || null };
    const fits = step.type === "Depthwise" && inPlace !== "elementwise" && free.length > 0 && step.held < step.values
      && (inPlace === "strided" || values.get(free[0]) === step.values);
    return fits ? { ...step, over: free[0], scratch: true } : step;
  });
}
