/* How far float32's rounding can move a value: npmobilenet/reference/rounding.py, for a layer that is judged on the
 * inputs that it was given. A sum of n products, in any order, is off by at most gamma_n * sum of |x| |w|. */

const HALF_STEP = 2 ** -24; // float32's unit roundoff: half the distance from 1 to the next number
const SMALLEST_NORMAL = 2 ** -126;
const EXP_ROUNDINGS = 8; // exp counts as so many
const BATCH_NORM_ROUNDINGS = 9; // epsilon and its sum, 4 for 1 / sqrt, gamma, the product, two sums

/** n u / (1 - n u): the relative error that n roundings can make (Higham 2002, lemma 3.1). @param {number} n */
function gamma(n) {
  return n * HALF_STEP < 1 ? n * HALF_STEP / (1 - n * HALF_STEP) : Infinity;
}

/** Largest error of a sum of n rounded products, in any order of summing. @param {number} n @param {number} magnitude sum of |x| |w| */
function roundingBound(n, magnitude) {
  return gamma(n) * magnitude + n * SMALLEST_NORMAL;
}

/** The same numbers in float64. @param {Tensor} x @returns {Tensor} */
function inFloat64({ shape, data }) {
  return { shape, data: /** @type {any} */ (Float64Array.from(data)) };
}

/** Absolute values in float64. @param {Tensor} x @returns {Tensor} */
function magnitudes(x) {
  return elementwise(inFloat64(x), Math.abs);
}

/** A function on every array of a layer. @param {LayerParams} p @param {(x: Tensor) => Tensor} f @returns {LayerParams} */
function mapArrays(p, f) {
  return Object.fromEntries(Object.entries(p).map(([name, x]) => [name, f(x)]));
}

/** Output of a layer in float64, from the inputs that it was given. @param {Model} model @param {Layer} layer @param {Tensor[]} inputs */
function exactLayer(model, layer, inputs) {
  const p = mapArrays(model.params.get(layer.name) || {}, inFloat64);
  return applyLayer({ ...model, params: new Map([[layer.name, p]]) }, layer, inputs.map(inFloat64));
}

/** Bound on the error of every value of a layer's output, its inputs taken as exact.
 * @param {Model} model @param {Layer} layer @param {Tensor[]} inputs @returns {Tensor} */
function layerBound(model, layer, inputs) {
  const p = model.params.get(layer.name) || {};
  const x = inputs.map(inFloat64);
  const bound = (LAYER_BOUNDS[layer.type] || unrounded)(layer, p, ...x);
  if (!layer.activation || layer.activation === "linear") return bound;
  const linear = exactLayer(model, { ...layer, activation: "linear" }, x);
  return ACTIVATION_BOUNDS[layer.activation](linear, bound || elementwise(linear, () => 0));
}

/** @type {Record<string, (layer: Layer, p: LayerParams, ...x: Tensor[]) => Tensor>} */
const LAYER_BOUNDS = {
  Conv2D: (layer, p, x) => sumBound(layer, p, x, p.kernel.data.length / layer.filters + 1),
  DepthwiseConv2D: (layer, p, x) => sumBound(layer, p, x, layer.kernel_size[0] * layer.kernel_size[1] + 1),
  Dense: (layer, p, x) => sumBound(layer, p, x, p.kernel.shape[0] + 1),
  BatchNormalization: (layer, p, x) => batchNormBound(x, p, layer.epsilon),
  Rescaling: ({ scale, offset }, _, x) => elementwise(magnitudes(x), (size) => roundingBound(3, size * Math.abs(scale) + Math.abs(offset))),
  GlobalAveragePooling2D: (layer, p, x) => sumBound(layer, p, x, x.shape[0] * x.shape[1] + 1),
  Add: (_, p, x, y) => elementwise(add(magnitudes(x), magnitudes(y)), (size) => gamma(1) * size),
  Multiply: (layer, p, x, y) => elementwise(LAYER_TYPES.Multiply(layer, p, magnitudes(x), magnitudes(y)), (size) => roundingBound(1, size)),
};

/** A layer of sums, computed from magnitudes: sum of |x| |w| + |b|, times gamma_n. @param {Layer} layer @param {LayerParams} p @param {Tensor} x @param {number} n */
function sumBound(layer, p, x, n) {
  const magnitude = LAYER_TYPES[layer.type](layer, mapArrays(p, magnitudes), magnitudes(x));
  return elementwise(magnitude, (size) => roundingBound(n, size));
}

/** (|x| + |mean|) |scale| + |beta|, times gamma_n. @param {Tensor} x @param {LayerParams} p @param {number} epsilon */
function batchNormBound(x, p, epsilon) {
  const { moving_mean, moving_variance, ...learned } = mapArrays(p, magnitudes);
  const negative = elementwise(moving_mean, (mean) => -mean);
  const magnitude = batchNorm(magnitudes(x), { ...learned, moving_mean: negative, moving_variance }, epsilon);
  return elementwise(magnitude, (size) => roundingBound(BATCH_NORM_ROUNDINGS, size));
}

/** Layers that move values and compute nothing. @returns {any} */
function unrounded() {
  return null;
}

/** An error through an activation, and the activation's own roundings; x is the exact input.
 * @type {Record<string, (x: Tensor, error: Tensor) => Tensor>} */
const ACTIVATION_BOUNDS = {
  relu: (x, error) => withErrors(x, error, (value, e) => Math.max(e + Math.min(value, 0), 0)),
  relu6: (x, error) => withErrors(x, error, relu6Bound),
  hard_sigmoid: (x, error) => withErrors(x, error, hardSigmoidBound),
  hard_swish: (x, error) => withErrors(x, error, (value, e) => productBound(value, e, hardSigmoid(value), hardSigmoidBound(value, e))),
  softmax: softmaxBound,
};

/** f of a value and its error, for all. @param {Tensor} x @param {Tensor} error @param {(value: number, error: number) => number} f @returns {Tensor} */
function withErrors(x, error, f) {
  return { shape: x.shape, data: x.data.map((value, i) => f(value, error.data[i])) };
}

/** No more than the way to 0 or to 6. @param {number} x @param {number} error */
function relu6Bound(x, error) {
  const y = relu6(x);
  const upwards = Math.min(Math.max(error + Math.min(x, 0), 0), 6 - y);
  const downwards = Math.min(Math.max(error - Math.max(x - 6, 0), 0), y);
  return Math.max(upwards, downwards);
}

/** @param {number} x @param {number} error */
function hardSigmoidBound(x, error) {
  const inside = error + gamma(3) * (Math.abs(x) + error + 3);
  const clipped = relu6Bound(x + 3, inside) / 6;
  return clipped + gamma(2) * (hardSigmoid(x) + clipped);
}

/** |x| e_y + e_x |y| + e_x e_y, and one rounding of the product. @param {number} x @param {number} e_x @param {number} y @param {number} e_y */
function productBound(x, e_x, y, e_y) {
  const spread = Math.abs(x) * e_y + e_x * Math.abs(y) + e_x * e_y;
  return spread + roundingBound(1, Math.abs(x * y) + spread);
}

/** Every exponential has a relative error r, their sum the mean of these, weighted by p. @param {Tensor} x @param {Tensor} error @returns {Tensor} */
function softmaxBound(x, error) {
  const p = softmax(x);
  const largest = x.data.reduce((a, b) => Math.max(a, b), -Infinity);
  const largestError = error.data.reduce((a, b) => Math.max(a, b), 0);
  const g = gamma(EXP_ROUNDINGS), h = gamma(x.data.length + 1);
  const r = withErrors(x, error, (value, e) => {
    const exponent = Math.min(e + gamma(1) * (Math.abs(value - largest) + 2 * largestError), 40);
    return Math.expm1(exponent) * (1 + g) + g;
  });
  const R = p.data.reduce((sum, value, i) => sum + value * r.data[i], 0);
  return withErrors(p, r, (value, e) => (R < 1 ? Math.min(value * (e + h + e * h + R) / (1 - R) + 2 * SMALLEST_NORMAL, 1) : 1));
}
