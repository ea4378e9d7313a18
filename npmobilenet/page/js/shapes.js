/* The integers of a convolution: padding and output size. */

/** Zeros before and after one axis so that the window gives ceil(size / stride) outputs; the odd zero goes to the end.
 * TensorFlow's SAME, which Keras uses. @param {number} size @param {number} K @param {number} stride @returns {[number, number]} */
function samePadding(size, K, stride) {
  const outputs = Math.ceil(size / stride);
  const total = Math.max((outputs - 1) * stride + K - size, 0);
  return [Math.floor(total / 2), total - Math.floor(total / 2)];
}

/** Any way of stating a padding as zeros at [[top, bottom], [left, right]].
 * @param {string|number[][]} padding "same", "valid" or the zeros @param {number[]} size @param {number[]} kernel @param {number} stride */
function resolvePadding(padding, size, kernel, stride) {
  if (padding === "same") return [samePadding(size[0], kernel[0], stride), samePadding(size[1], kernel[1], stride)];
  if (padding === "valid") return [[0, 0], [0, 0]];
  return /** @type {number[][]} */ (padding);
}

/** Rows and columns of a window's output. @param {number[]} size (H, W) @param {number[]} kernel (K_h, K_w) @param {number} stride @param {string|number[][]} padding */
function windowOutput(size, kernel, stride, padding) {
  const zeros = resolvePadding(padding, size, kernel, stride);
  return size.map((side, axis) => Math.max(Math.floor((zeros[axis][0] + side + zeros[axis][1] - kernel[axis]) / stride) + 1, 0));
}
