/* One value, one multiplication at a time: the loops of ops.js as generators. The last sum is the value to the bit. */

/** @typedef {{u: number, v: number, c: number, row: number, column: number, x: number, w: number, product: number, sum: number, inside: boolean}} Step
 *   a multiplication: tap (u, v) of channel c meets pixel (row, column); outside the map x is a zero of the padding */

/** Standard convolution at [i, j, d]. @param {Tensor} x (H, W, c_in) @param {Tensor} w (K_h, K_w, c_in, c_out) @param {number} stride @param {string|number[][]} padding @param {number[]} at @returns {Generator<Step>} */
function* convSteps(x, w, stride, padding, [i, j, d]) {
  const [H, W, c_in] = x.shape;
  const [K_h, K_w, , c_out] = w.shape;
  const [[top], [left]] = resolvePadding(padding, [H, W], [K_h, K_w], stride);
  let sum = 0;
  for (let u = 0; u < K_h; u++)
    for (let v = 0; v < K_w; v++)
      for (let c = 0; c < c_in; c++) {
        const row = i * stride + u - top, column = j * stride + v - left;
        const inside = row >= 0 && row < H && column >= 0 && column < W;
        const pixel = inside ? x.data[(row * W + column) * c_in + c] : 0;
        const weight = w.data[((u * K_w + v) * c_in + c) * c_out + d];
        sum = Math.fround(sum + pixel * weight);
        yield { u, v, c, row, column, x: pixel, w: weight, product: pixel * weight, sum, inside };
      }
}

/** Depthwise convolution at [i, j, d], where d = c*M + m. @param {Tensor} x (H, W, C) @param {Tensor} w (K_h, K_w, C, M) @param {number} stride @param {string|number[][]} padding @param {number[]} at @returns {Generator<Step>} */
function* depthwiseSteps(x, w, stride, padding, [i, j, d]) {
  const [H, W, C] = x.shape;
  const [K_h, K_w, , M] = w.shape;
  const [[top], [left]] = resolvePadding(padding, [H, W], [K_h, K_w], stride);
  const c = Math.floor(d / M);
  let sum = 0;
  for (let u = 0; u < K_h; u++)
    for (let v = 0; v < K_w; v++) {
      const row = i * stride + u - top, column = j * stride + v - left;
      const inside = row >= 0 && row < H && column >= 0 && column < W;
      const pixel = inside ? x.data[(row * W + column) * C + c] : 0;
      const weight = w.data[((u * K_w + v) * C + c) * M + d % M];
      sum = Math.fround(sum + pixel * weight);
      yield { u, v, c, row, column, x: pixel, w: weight, product: pixel * weight, sum, inside };
    }
}

/** Pointwise convolution at [i, j, d]. @param {Tensor} x (H, W, c_in) @param {Tensor} w (c_in, c_out) or (1, 1, c_in, c_out) @param {number[]} at @returns {Generator<Step>} */
function* pointwiseSteps(x, w, [i, j, d]) {
  const [c_in, c_out] = w.shape.slice(-2);
  const first = (i * x.shape[1] + j) * c_in;
  let sum = 0;
  for (let c = 0; c < c_in; c++) {
    const [pixel, weight] = [x.data[first + c], w.data[c * c_out + d]];
    sum = Math.fround(sum + pixel * weight);
    yield { u: 0, v: 0, c, row: i, column: j, x: pixel, w: weight, product: pixel * weight, sum, inside: true };
  }
}
