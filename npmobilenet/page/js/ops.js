/* What a layer computes, as loops. The letters are those of npmobilenet/reference. Numbers are float32: whatever is
 * stored in a tensor is rounded to it; between two roundings JavaScript computes in float64. Sums run over u, v, c.
 * Given float64 tensors, the same loops compute in float64, which bounds.js and mistakes.js call exact. */

/** Zeros of a shape. @param {...number} shape @returns {Tensor} */
function zeros(...shape) {
  return { shape, data: new Float32Array(shape.reduce((product, side) => product * side, 1)) };
}

/** Zeros of a shape, in the number format of x. @param {Tensor} x @param {...number} shape @returns {Tensor} */
function zerosLike(x, ...shape) {
  const Numbers = /** @type {Float32ArrayConstructor} */ (x.data.constructor);
  return { shape, data: new Numbers(shape.reduce((product, side) => product * side, 1)) };
}

/** Standard convolution. y[i, j, d] = b[d] + sum of x[i*stride + u - top, j*stride + v - left, c] * w[u, v, c, d]
 * @param {Tensor} x (H, W, c_in) @param {Tensor} w (K_h, K_w, c_in, c_out) @param {Tensor} [b] (c_out) @param {number} [stride] @param {string|number[][]} [padding] */
function conv2d(x, w, b, stride = 1, padding = "same") {
  const [H, W, c_in] = x.shape;
  const [K_h, K_w, , c_out] = w.shape;
  const [[top], [left]] = resolvePadding(padding, [H, W], [K_h, K_w], stride);
  const y = zerosLike(x, ...windowOutput([H, W], [K_h, K_w], stride, padding), c_out);
  const [H_out, W_out] = y.shape;
  for (let i = 0; i < H_out; i++)
    for (let j = 0; j < W_out; j++)
      for (let u = 0; u < K_h; u++)
        for (let v = 0; v < K_w; v++) {
          const row = i * stride + u - top, column = j * stride + v - left;
          if (row < 0 || row >= H || column < 0 || column >= W) continue; // the padding's zeros
          for (let c = 0; c < c_in; c++) {
            const pixel = x.data[(row * W + column) * c_in + c];
            for (let d = 0; d < c_out; d++)
              y.data[(i * W_out + j) * c_out + d] += pixel * w.data[((u * K_w + v) * c_in + c) * c_out + d];
          }
        }
  return addBias(y, b);
}

/** Depthwise convolution. y[i, j, c*M + m] = b[c*M + m] + sum of x[i*stride + u - top, j*stride + v - left, c] * w[u, v, c, m]
 * @param {Tensor} x (H, W, C) @param {Tensor} w (K_h, K_w, C, M) @param {Tensor} [b] (C*M) @param {number} [stride] @param {string|number[][]} [padding] */
function depthwise(x, w, b, stride = 1, padding = "same") {
  const [H, W, C] = x.shape;
  const [K_h, K_w, , M] = w.shape;
  const [[top], [left]] = resolvePadding(padding, [H, W], [K_h, K_w], stride);
  const y = zerosLike(x, ...windowOutput([H, W], [K_h, K_w], stride, padding), C * M);
  const [H_out, W_out] = y.shape;
  for (let i = 0; i < H_out; i++)
    for (let j = 0; j < W_out; j++)
      for (let u = 0; u < K_h; u++)
        for (let v = 0; v < K_w; v++) {
          const row = i * stride + u - top, column = j * stride + v - left;
          if (row < 0 || row >= H || column < 0 || column >= W) continue; // the padding's zeros
          for (let c = 0; c < C; c++)
            for (let m = 0; m < M; m++)
              y.data[(i * W_out + j) * C * M + c * M + m] += x.data[(row * W + column) * C + c] * w.data[((u * K_w + v) * C + c) * M + m];
        }
  return addBias(y, b);
}

/** Pointwise convolution. y[i, j, d] = b[d] + sum over c of x[i, j, c] * w[c, d]
 * @param {Tensor} x (..., c_in) @param {Tensor} w (c_in, c_out), or (1, 1, c_in, c_out) @param {Tensor} [b] (c_out) */
function pointwise(x, w, b) {
  const [c_in, c_out] = w.shape.slice(-2);
  const y = zerosLike(x, ...x.shape.slice(0, -1), c_out);
  for (let pixel = 0; pixel < x.data.length / c_in; pixel++)
    for (let c = 0; c < c_in; c++)
      for (let d = 0; d < c_out; d++)
        y.data[pixel * c_out + d] += x.data[pixel * c_in + c] * w.data[c * c_out + d];
  return addBias(y, b);
}

/** The bias b (C) added in place to y (..., C). @param {Tensor} y @param {Tensor} [b] */
function addBias(y, b) {
  if (b) for (let i = 0; i < y.data.length; i++) y.data[i] += b.data[i % b.data.length];
  return y;
}

/** Batch normalization. y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, one scale and one shift per channel
 * @param {Tensor} x (..., C) @param {{gamma?: Tensor, beta?: Tensor, moving_mean: Tensor, moving_variance: Tensor}} p @param {number} epsilon */
function batchNorm(x, { gamma, beta, moving_mean, moving_variance }, epsilon) {
  const y = zerosLike(x, ...x.shape);
  const C = moving_mean.data.length;
  for (let i = 0; i < x.data.length; i++) {
    const c = i % C;
    const scale = (gamma ? gamma.data[c] : 1) / Math.sqrt(moving_variance.data[c] + epsilon);
    y.data[i] = (x.data[i] - moving_mean.data[c]) * scale + (beta ? beta.data[c] : 0);
  }
  return y;
}

/** Each value by itself. @param {Tensor} x @param {(value: number) => number} f @returns {Tensor} */
function elementwise(x, f) {
  return { shape: x.shape, data: x.data.map(f) };
}

/** max(x, 0) @param {number} x */
function relu(x) {
  return Math.max(x, 0);
}

/** min(max(x, 0), 6) @param {number} x */
function relu6(x) {
  return Math.min(Math.max(x, 0), 6);
}

/** relu6(x + 3) / 6 @param {number} x */
function hardSigmoid(x) {
  return relu6(x + 3) / 6;
}

/** x * relu6(x + 3) / 6 @param {number} x */
function hardSwish(x) {
  return x * hardSigmoid(x);
}

/** Mean of every channel over its whole map. y[c] = sum over i, j of x[i, j, c] / (H * W)
 * @param {Tensor} x (H, W, C) */
function globalAveragePool(x) {
  const [H, W, C] = x.shape;
  const y = zerosLike(x, C);
  for (let i = 0; i < H * W; i++) for (let c = 0; c < C; c++) y.data[c] += x.data[i * C + c];
  return elementwise(y, (sum) => sum / (H * W));
}

/** Squeeze-and-excitation: a gate per channel, from the mean of each channel. y = x * hardSigmoid(relu(mean @ w1 + b1) @ w2 + b2)
 * @param {Tensor} x (H, W, C) @param {Tensor} w1 @param {Tensor} b1 @param {Tensor} w2 @param {Tensor} b2 */
function squeezeExcite(x, w1, b1, w2, b2) {
  const squeezed = elementwise(pointwise(globalAveragePool(x), w1, b1), relu);
  return multiply(x, elementwise(pointwise(squeezed, w2, b2), hardSigmoid));
}

/** Products of a map and a map, or of a map (H, W, C) and one value per channel. @param {Tensor} x @param {Tensor} gate */
function multiply(x, gate) {
  return { shape: x.shape, data: x.data.map((value, i) => value * gate.data[i % gate.data.length]) };
}

/** Sums, value by value. @param {Tensor} x @param {Tensor} y */
function add(x, y) {
  return { shape: x.shape, data: x.data.map((value, i) => value + y.data[i]) };
}

/** Probabilities. exp(x) / sum of exp(x), shifted by the maximum so that nothing overflows @param {Tensor} x (classes) */
function softmax(x) {
  const largest = x.data.reduce((a, b) => Math.max(a, b), -Infinity);
  const exponentials = elementwise(x, (value) => Math.exp(value - largest));
  const sum = exponentials.data.reduce((a, b) => a + b, 0);
  return elementwise(exponentials, (value) => value / sum);
}

/** Zeros around a map. @param {Tensor} x (H, W, C) @param {number[][]} padding [[top, bottom], [left, right]] */
function zeroPad(x, [[top, bottom], [left, right]]) {
  const [H, W, C] = x.shape;
  const y = zerosLike(x, top + H + bottom, left + W + right, C);
  for (let i = 0; i < H; i++) y.data.set(x.data.subarray(i * W * C, (i + 1) * W * C), ((i + top) * y.shape[1] + left) * C);
  return y;
}
