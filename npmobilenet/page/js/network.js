/* The graph, walked: every layer type of the published MobileNets. */

const ACTIVATIONS = /** @type {Record<string, (value: number) => number>} */ ({
  linear: (value) => value, relu, relu6, hard_sigmoid: hardSigmoid, hard_swish: hardSwish,
});

/** @typedef {Record<string, Tensor>} LayerParams */
/** @type {Record<string, (layer: Layer, p: LayerParams, ...inputs: Tensor[]) => Tensor>} */
const LAYER_TYPES = {
  Conv2D: ({ kernel_size: [K_h, K_w], stride, padding }, p, x) =>
    K_h * K_w * stride === 1 ? pointwise(x, p.kernel, p.bias) : conv2d(x, p.kernel, p.bias, stride, padding),
  DepthwiseConv2D: ({ stride, padding }, p, x) => depthwise(x, p.kernel, p.bias, stride, padding),
  Dense: (_, p, x) => pointwise(x, p.kernel, p.bias),
  BatchNormalization: ({ epsilon }, p, x) => batchNorm(x, /** @type {any} */ (p), epsilon),
  Activation: (_, p, x) => x,
  ZeroPadding2D: ({ padding }, _, x) => zeroPad(x, padding),
  GlobalAveragePooling2D: ({ keepdims }, _, x) => shaped(globalAveragePool(x), keepdims ? [1, 1, x.shape[2]] : [x.shape[2]]),
  Reshape: ({ target_shape }, _, x) => shaped(x, target_shape),
  Flatten: (_, p, x) => shaped(x, [x.data.length]),
  Dropout: (_, p, x) => x,
  Rescaling: ({ scale, offset }, _, x) => elementwise(x, (value) => value * scale + offset),
  Add: (_, p, x, y) => add(x, y),
  Multiply: (_, p, x, y) => (x.data.length >= y.data.length ? multiply(x, y) : multiply(y, x)),
};

/** @param {Tensor} x @param {number[]} shape @returns {Tensor} */
function shaped({ data }, shape) {
  return { shape, data };
}

/** Refuse a network that the page would compute wrongly, or whose answer is no list of classes. @param {Model} model */
function checkClassifier(model) {
  for (const { name, type, activation = "linear", dilation = 1, groups = 1 } of model.graph.layers) {
    const known = type === "Input" || (LAYER_TYPES[type] && (activation === "softmax" || ACTIVATIONS[activation]));
    if (!known || dilation > 1 || groups > 1) throw new Error(`layer ${name}: the page does not compute this ${type}`);
  }
  const { name } = model.graph.layers[model.graph.layers.length - 1];
  const shape = /** @type {number[]} */ (outputShapes(model).get(name));
  if (model.graph.outputs || shape.length !== 1) throw new Error(`expected a network with one output, a probability per class; got ${name} of shape ${shape.join(" x ")}`);
}

/** Output of one layer. @param {Model} model @param {Layer} layer @param {Tensor[]} inputs */
function applyLayer(model, layer, inputs) {
  const compute = LAYER_TYPES[layer.type];
  if (!compute) throw new Error(`layer ${layer.name}: the page does not compute ${layer.type}`);
  const y = compute(layer, model.params.get(layer.name) || {}, ...inputs);
  if (layer.activation === "softmax") return softmax(y);
  if (!layer.activation || layer.activation === "linear") return y;
  if (!ACTIVATIONS[layer.activation]) throw new Error(`layer ${layer.name}: the page does not compute ${layer.activation}`);
  return elementwise(y, ACTIVATIONS[layer.activation]);
}

/** Layer after layer: [name, output], the input first. @param {Model} model @param {Tensor} x @returns {Generator<[string, Tensor]>} */
function* traceSteps(model, x) {
  const values = new Map();
  for (const layer of model.graph.layers) {
    const y = layer.type === "Input" ? x : applyLayer(model, layer, layer.inputs.map((name) => values.get(name)));
    values.set(layer.name, y);
    yield [layer.name, y];
  }
}

/** Output of every layer by its name. @param {Model} model @param {Tensor} x @returns {Map<string, Tensor>} */
function trace(model, x) {
  return new Map(traceSteps(model, x));
}

/** Output shape of every layer by its name, nothing computed but sizes. @param {Model} model @returns {Map<string, number[]>} */
function outputShapes({ graph }) {
  const shapes = new Map();
  for (const layer of graph.layers) {
    const [x, other] = layer.inputs.map((name) => shapes.get(name));
    shapes.set(layer.name, outputShape(layer, x, other));
  }
  return shapes;
}

/** @param {Layer} layer @param {number[]} x @param {number[]} [other] @returns {number[]} */
function outputShape(layer, x, other) {
  const window = () => windowOutput(x.slice(0, 2), layer.kernel_size, layer.stride, layer.padding);
  if (layer.type === "Input") return layer.shape;
  if (layer.type === "Conv2D") return [...window(), layer.filters];
  if (layer.type === "DepthwiseConv2D") return [...window(), x[2] * layer.depth_multiplier];
  if (layer.type === "Dense") return [...x.slice(0, -1), layer.units];
  if (layer.type === "ZeroPadding2D") return [x[0] + layer.padding[0][0] + layer.padding[0][1], x[1] + layer.padding[1][0] + layer.padding[1][1], x[2]];
  if (layer.type === "GlobalAveragePooling2D") return layer.keepdims ? [1, 1, x[2]] : [x[2]];
  if (layer.type === "Reshape") return layer.target_shape;
  if (layer.type === "Flatten") return [x.reduce((product, side) => product * side, 1)];
  if (layer.type === "Multiply" && other && other.length > x.length) return other;
  return layer.type === "Multiply" && other && other[0] > x[0] ? other : x;
}

/** Multiply-adds of a picture: every weight of a convolution meets every output pixel of its channel once. @param {Model} model */
function multiplyAdds(model) {
  const shapes = outputShapes(model);
  return model.graph.layers.reduce((sum, layer) => {
    const kernel = (model.params.get(layer.name) || {}).kernel;
    const shape = /** @type {number[]} */ (shapes.get(layer.name));
    return sum + (kernel ? kernel.data.length * (shape.length === 3 ? shape[0] * shape[1] : 1) : 0);
  }, 0);
}
