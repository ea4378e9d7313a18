/* Nine mistakes that ports of MobileNet make, and the search for the layer that made one: as npmobilenet compare. */

/** @typedef {{key: string, fits: (layer: Layer) => boolean, change: (layer: Layer, p: LayerParams) => [Layer, LayerParams]}} Mistake */
/** @typedef {{layer: string, status: "same"|"inherits"|"wrong", difference: number, times: number}} Finding
 *   difference from the right network; distance from the layer on its own inputs, in rounding bounds (times) */

/** @type {Mistake[]} */
const MISTAKES = [
  { key: "symmetric-padding", fits: isUneven, change: (layer, p) => [{ ...layer, padding: evenPadding(layer) }, p] },
  { key: "epsilon", fits: isBatchNorm, change: (layer, p) => [{ ...layer, epsilon: 1e-5 }, p] },
  { key: "no-batch-norm", fits: isBatchNorm, change: (layer) => [{ ...layer, type: "Activation", activation: "linear" }, {}] },
  { key: "relu", fits: (layer) => layer.activation === "relu6", change: (layer, p) => [{ ...layer, activation: "relu" }, p] },
  { key: "flipped-kernel", fits: hasWindow, change: (layer, p) => [layer, movedTaps(p, (u, v, K) => [K - 1 - u, K - 1 - v])] },
  { key: "transposed-kernel", fits: hasWindow, change: (layer, p) => [layer, movedTaps(p, (u, v) => [v, u])] },
  { key: "stride-phase", fits: (layer) => hasWindow(layer) && layer.stride === 2, change: (layer, p) => [{ ...layer, padding: latePadding(layer) }, p] },
  { key: "input-range", fits: (layer) => layer.type === "Input", change: (layer, p) => [layer, p] },
  { key: "one-filter", fits: (layer) => layer.type === "DepthwiseConv2D", change: (layer, p) => [layer, oneFilter(p)] },
];

/** Names of the layers in which a mistake can be made. @param {Model} model @param {Mistake} mistake @returns {string[]} */
function placesOf(model, mistake) {
  const shapes = outputShapes(model);
  return model.graph.layers.filter((layer) => mistake.fits(inPlace(layer, model, shapes))).map(({ name }) => name);
}

/** The network with a mistake in some layers, or in all that it fits. @param {Model} model @param {Mistake} mistake @param {string[]} [where] layer names @returns {Model} */
function brokenModel(model, mistake, where = placesOf(model, mistake)) {
  const shapes = outputShapes(model);
  const params = new Map(model.params);
  const layers = model.graph.layers.map((layer) => {
    if (!where.includes(layer.name)) return layer;
    const [changed, p] = mistake.change(inPlace(layer, model, shapes), params.get(layer.name) || {});
    params.set(layer.name, p);
    return changed;
  });
  const scaling = mistake.key === "input-range" && where.length ? otherRange(model.scaling) : model.scaling;
  return { ...model, graph: { ...model.graph, layers }, params, scaling };
}

/** What a network with another scaling is given for the same picture. @param {Tensor} x @param {Model} model @param {Model} other @returns {Tensor} */
function rescaledInput(x, model, other) {
  if (model.scaling === other.scaling) return x;
  const C = x.shape[2];
  const value = (/** @type {number|number[]} */ numbers, /** @type {number} */ i) => (Array.isArray(numbers) ? numbers[i % C] : numbers);
  const pixel = (/** @type {number} */ x, /** @type {number} */ i) =>
    Math.round((x - value(model.scaling.offset, i)) / value(model.scaling.scale, i));
  return { shape: x.shape, data: x.data.map((x, i) => pixel(x, i) * value(other.scaling.scale, i) + value(other.scaling.offset, i)) };
}

/** Every layer of a port, judged: is it wrong on the inputs that it was given, or does it inherit what came before?
 * @param {Model} model the right network @param {Map<string, Tensor>} right its trace @param {Map<string, Tensor>} port the trace of another @returns {Generator<Finding>} */
function* judge(model, right, port) {
  const tainted = new Set();
  for (const layer of model.graph.layers) {
    const times = timesTolerance(model, layer, right, port);
    const status = times > 1 ? "wrong" : layer.inputs.some((name) => tainted.has(name)) ? "inherits" : "same";
    if (status !== "same") tainted.add(layer.name);
    const [x, y] = [tensorOf(port, layer.name), tensorOf(right, layer.name)];
    yield { layer: layer.name, status, times, difference: sameShape(x, y) ? largestDifference(x, y) : Infinity };
  }
}

/** The first layer that is wrong on its own inputs. @param {Iterable<Finding>} findings @returns {string|null} */
function firstWrong(findings) {
  for (const { layer, status } of findings) if (status === "wrong") return layer;
  return null;
}

/** Distance of a layer of a port from what it should make of the port's inputs, in rounding bounds; above 1 it is wrong.
 * @param {Model} model @param {Layer} layer @param {Map<string, Tensor>} right @param {Map<string, Tensor>} port */
function timesTolerance(model, layer, right, port) {
  const actual = tensorOf(port, layer.name);
  const inputs = layer.inputs.map((name) => tensorOf(port, name));
  const expected = layer.type === "Input" ? tensorOf(right, layer.name) : exactLayer(model, layer, inputs);
  if (!sameShape(actual, expected)) return Infinity;
  const bound = layer.type === "Input" ? inputBound(expected, model) : layerBound(model, layer, inputs);
  let times = 0;
  for (let i = 0; i < actual.data.length; i++) {
    const difference = Math.abs(actual.data[i] - expected.data[i]);
    if (difference !== 0) times = Math.max(times, difference / (bound ? bound.data[i] : 0));
  }
  return times;
}

/** Rounding of x = pixels * scale + offset, three times. @param {Tensor} x @param {Model} model @returns {Tensor} */
function inputBound(x, { scaling: { scale, offset } }) {
  if (scale === 1 && offset === 0) return elementwise(inFloat64(x), () => 0);
  const offsets = [offset].flat();
  const size = (/** @type {number} */ value, /** @type {number} */ o) => gamma(3) * (Math.abs(value - o) + Math.abs(o));
  return { shape: x.shape, data: inFloat64(x).data.map((value, i) => size(value, offsets[i % offsets.length])) };
}

/** @param {Map<string, Tensor>} values @param {string} name @returns {Tensor} */
function tensorOf(values, name) {
  return /** @type {Tensor} */ (values.get(name));
}

/** @param {Tensor} x @param {Tensor} y */
function sameShape(x, y) {
  return x.shape.length === y.shape.length && x.shape.every((side, axis) => side === y.shape[axis]);
}

/** @param {Tensor} x @param {Tensor} y */
function largestDifference(x, y) {
  let largest = 0;
  for (let i = 0; i < x.data.length; i++) largest = Math.max(largest, Math.abs(x.data[i] - y.data[i]));
  return largest;
}

/** A layer that knows the size of its input, and the zeros that a layer before it has put around it.
 * @param {Layer} layer @param {Model} model @param {Map<string, number[]>} shapes @returns {Layer} */
function inPlace(layer, { graph }, shapes) {
  const source = graph.layers.find(({ name }) => name === layer.inputs[0]);
  const padded = source && source.type === "ZeroPadding2D" ? source.padding : [[0, 0], [0, 0]];
  return { ...layer, size: source && shapes.get(source.name), padded };
}

/** Zeros of a convolution itself, at [[top, bottom], [left, right]]. @param {Layer} layer @returns {number[][]} */
function ownZeros({ padding, size, kernel_size, stride }) {
  return resolvePadding(padding, size, kernel_size, stride);
}

/** Whether there are more zeros after a map than before it. @param {Layer} layer */
function isUneven(layer) {
  return hasWindow(layer) && ownZeros(layer).some(([before, after], axis) => before + layer.padded[axis][0] !== after + layer.padded[axis][1]);
}

/** As many zeros on both sides, which is PyTorch's padding=1: own zeros are what a layer before has not put there.
 * @param {Layer} layer */
function evenPadding(layer) {
  return ownZeros(layer).map(([before, after], axis) => {
    const [first, last] = layer.padded[axis];
    const even = Math.max(before + first, after + last);
    return [even - first, even - last];
  });
}

/** Windows that start one pixel later. @param {Layer} layer */
function latePadding(layer) {
  return ownZeros(layer).map(([before, after]) => [before - 1, after + 1]);
}

/** @param {Layer} layer */
function isBatchNorm(layer) {
  return layer.type === "BatchNormalization";
}

/** Whether a layer has a kernel of more than one tap. @param {Layer} layer */
function hasWindow(layer) {
  return (layer.type === "Conv2D" || layer.type === "DepthwiseConv2D") && layer.kernel_size[0] > 1;
}

/** A kernel whose taps stand elsewhere. @param {LayerParams} p @param {(u: number, v: number, K: number) => number[]} from @returns {LayerParams} */
function movedTaps(p, from) {
  const [K_h, K_w, ...channels] = p.kernel.shape;
  const size = channels.reduce((product, side) => product * side, 1);
  const kernel = zeros(...p.kernel.shape);
  for (let u = 0; u < K_h; u++)
    for (let v = 0; v < K_w; v++) {
      const [from_u, from_v] = from(u, v, K_h);
      const start = (from_u * K_w + from_v) * size;
      kernel.data.set(p.kernel.data.subarray(start, start + size), (u * K_w + v) * size);
    }
  return { ...p, kernel };
}

/** The first channel's filter for all channels. @param {LayerParams} p @returns {LayerParams} */
function oneFilter(p) {
  const [, , C, M] = p.kernel.shape;
  const data = p.kernel.data.map((_, i) => p.kernel.data[i - i % (C * M) + i % M]);
  return { ...p, kernel: { shape: p.kernel.shape, data } };
}

/** 0..1 for -1..1, and -1..1 for anything else. @param {Model["scaling"]} scaling @returns {Model["scaling"]} */
function otherRange({ offset }) {
  return [offset].flat().some((value) => value < 0) ? { scale: 1 / 255, offset: 0 } : { scale: 1 / 127.5, offset: -1 };
}
