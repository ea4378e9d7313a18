/* From a picture, or strokes, to what a network is given. The resize is npmobilenet's own, byte for byte. */

/** @typedef {{width: number, height: number, data: Uint8Array}} Picture RGB, three bytes a pixel */
/** @typedef {{support: number, weight: (x: number) => number}} Filter */

const PRECISION = 22; // bits behind the point of a filter's weights
const LONGEST = 64; // aspect ratio beyond which a picture is never resized as a whole
const CROP = 0.875; // fraction of the short side that is kept: 224 of 256
const INK_CELL = 4; // pixels of the 32 x 32 bitmap to a cell of ink
const PEN = 5; // pixels of 32, the width of a stroke
const BITMAP_SIDE = 32;
const INK_SIDE = 8;
const ENLARGED_SIDE = 64; // pixels, what the 8 x 8 ink is enlarged to

/** @type {Record<string, Filter>} half of each filter's width in pixels, and the filter */
const FILTERS = {
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: { support: 1, weight: (x) => (Math.abs(x) < 1 ? sinc(x) * (Math.fround(0.54) + Math.fround(0.46) * Math.cos(Math.PI * x)) : 0) },
  bicubic: {
    support: 2,
    weight: (x) => {
      const [t, a] = [Math.abs(x), -0.5];
      if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
      return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
    },
  },
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** @param {number} x */
function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** Weights of the pixels that each output pixel of one axis is made of, in units of 2^-22.
 * @param {number} size pixels of the input @param {number} from @param {number} to the part of it that is taken @param {number} target pixels of the output @param {Filter} filter */
function filterWeights(size, from, to, target, { support, weight }) {
  const scale = Math.fround(to - from) / target;
  const stretch = Math.max(scale, 1); // a filter grows where the picture shrinks
  return Array.from({ length: target }, (_, i) => {
    const center = from + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support * stretch + 0.5));
    const end = Math.min(size, Math.trunc(center + support * stretch + 0.5));
    const weights = Array.from({ length: end - first }, (_, k) => weight((k + first - center + 0.5) * (1 / stretch)));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((w) => Math.trunc(w / sum * 2 ** PRECISION + (w < 0 ? -0.5 : 0.5))) };
  });
}

/** Pixels nearest to those of one axis of the output. @param {number} from @param {number} to @param {number} target */
function nearestPixels(from, to, target) {
  const step = Math.fround(to - from) / target;
  let at = from + step * 0.5;
  return Array.from({ length: target }, () => { const pixel = Math.trunc(at); at += step; return pixel; });
}

/** A box of a picture resized to width x height. The vertical pass goes first where it removes more than twice as many
 * rows as the other removes columns: a pass rounds, so that the order is seen.
 * @param {Picture} picture @param {number} width @param {number} height @param {string} filter @param {number[]} [box] left, top, right, bottom in pixels */
function resizePicture(picture, width, height, filter, box = [0, 0, picture.width, picture.height]) {
  const [left, top, right, bottom] = box.map(Math.fround);
  if (filter === "nearest") return pickedPixels(picture, nearestPixels(top, bottom, height), nearestPixels(left, right, width));
  const columns = filterWeights(picture.width, left, right, width, FILTERS[filter]);
  const rows = filterWeights(picture.height, top, bottom, height, FILTERS[filter]);
  const verticalFirst = picture.height > height && picture.height - height > 2 * (picture.width - width);
  return verticalFirst ? resizedAcross(resizedDown(picture, rows), columns) : resizedDown(resizedAcross(picture, columns), rows);
}

/** @param {Picture} picture @param {{first: number, weights: number[]}[]} columns @returns {Picture} */
function resizedAcross({ width, height, data }, columns) {
  const narrow = new Uint8Array(height * columns.length * 3);
  for (let i = 0; i < height; i++)
    for (let j = 0; j < columns.length; j++)
      for (let c = 0; c < 3; c++)
        narrow[(i * columns.length + j) * 3 + c] = weightedPixel(data, (i * width + columns[j].first) * 3 + c, 3, columns[j].weights);
  return { width: columns.length, height, data: narrow };
}

/** @param {Picture} picture @param {{first: number, weights: number[]}[]} rows @returns {Picture} */
function resizedDown({ width, data }, rows) {
  const short = new Uint8Array(rows.length * width * 3);
  rows.forEach(({ first, weights }, i) => {
    for (let j = 0; j < 3 * width; j++) short[i * width * 3 + j] = weightedPixel(data, first * width * 3 + j, width * 3, weights);
  });
  return { width, height: rows.length, data: short };
}

/** @param {Picture} picture @param {number[]} rows @param {number[]} columns @returns {Picture} */
function pickedPixels(picture, rows, columns) {
  const pixels = rows.flatMap((i) => columns.flatMap((j) => [0, 1, 2].map((c) => picture.data[(i * picture.width + j) * 3 + c])));
  return { width: columns.length, height: rows.length, data: Uint8Array.from(pixels) };
}

/** A sum of weighted bytes, rounded and kept in 0..255. @param {Uint8Array} data @param {number} first @param {number} step @param {number[]} weights */
function weightedPixel(data, first, step, weights) {
  let sum = 2 ** (PRECISION - 1);
  for (let k = 0; k < weights.length; k++) sum += data[first + k * step] * weights[k];
  return Math.max(0, Math.min(255, Math.floor(sum / 2 ** PRECISION)));
}

/** A picture as a network is shown it, by a rule of npmobilenet. @param {Picture} picture @param {number} height @param {number} width @param {string} rule
 * @returns {{width: number, height: number, data: Uint8Array|Float32Array}} */
function resizeByRule(picture, height, width, rule) {
  if (rule === "crop") return resizeCrop(picture, height, width);
  if (rule === "keras-dataset") return resizeSmoothly(picture, height, width);
  if (rule === "keras") return resizePicture(picture, width, height, "nearest");
  if (rule === "teachable-machine") return resizeCover(picture, height, width);
  const [, filter, part] = /^torch-(\w+)-([\d.]+)$/.exec(rule) || [];
  if (filter) return resizeTorch(picture, height, width, filter, part === "232" ? 224 / 232 : Number(part));
  if (rule.startsWith("stretch-")) return resizePicture(picture, width, height, rule.slice("stretch-".length));
  throw new Error(`unknown resize '${rule}'`);
}

/** The central part of a picture, stretched to the target: with 0.875, ImageNet's evaluation. A picture of that size stays.
 * @param {Picture} picture @param {number} height @param {number} width @param {number} [part] of the short side @param {string} [filter] */
function resizeCrop(picture, height, width, part = CROP, filter = "bilinear") {
  if (picture.height === height && picture.width === width) return picture;
  const scale = part * Math.min(picture.height / height, picture.width / width);
  const [w, h] = [scale * width, scale * height];
  const [left, top] = [(picture.width - w) / 2, (picture.height - h) / 2];
  return resizePicture(picture, width, height, filter, [left, top, left + w, top + h]);
}

/** The whole picture resized, its short side to target / part, then the center cut out: torchvision and timm.
 * @param {Picture} picture @param {number} height @param {number} width @param {string} filter @param {number} part */
function resizeTorch(picture, height, width, filter, part) {
  const [short, long] = [Math.min(picture.height, picture.width), Math.max(picture.height, picture.width)];
  if (picture.height === height && picture.width === width) return picture;
  if (long > LONGEST * short) return resizeCrop(picture, height, width, part, filter);
  let [H, W] = [Math.floor(height / part), Math.floor(width / part)];
  if (H === W) [H, W] = [Math.trunc(H * picture.height / short), Math.trunc(W * picture.width / short)];
  else {
    const scale = Math.min(picture.height / H, picture.width / W);
    [H, W] = [roundHalfToEven(picture.height / scale), roundHalfToEven(picture.width / scale)];
  }
  const whole = H === picture.height && W === picture.width ? picture : resizePicture(picture, W, H, filter);
  return cutOut(whole, roundHalfToEven((H - height) / 2), roundHalfToEven((W - width) / 2), height, width);
}

/** A part of a picture; beyond its edges is black. @param {Picture} picture @param {number} top @param {number} left @param {number} height @param {number} width @returns {Picture} */
function cutOut(picture, top, left, height, width) {
  const data = new Uint8Array(height * width * 3);
  for (let i = 0; i < height; i++)
    for (let j = 0; j < width; j++) {
      const [row, column] = [top + i, left + j];
      if (row < 0 || column < 0 || row >= picture.height || column >= picture.width) continue;
      for (let c = 0; c < 3; c++) data[(i * width + j) * 3 + c] = picture.data[(row * picture.width + column) * 3 + c];
    }
  return { width, height, data };
}

/** The largest centered box of the target's aspect ratio, as Teachable Machine's script.
 * @param {Picture} picture @param {number} height @param {number} width */
function resizeCover(picture, height, width) {
  const [ratio, own] = [width / height, picture.width / picture.height];
  const w = own > ratio ? ratio * picture.height : picture.width;
  const h = own < ratio ? picture.width / ratio : picture.height;
  const [left, top] = [(picture.width - w) * 0.5, (picture.height - h) * 0.5];
  return resizePicture(picture, width, height, "lanczos", [left, top, left + w, top + h]);
}

/** By the four nearest pixels, in float32 and unrounded, as Keras's image_dataset_from_directory.
 * @param {Picture} picture @param {number} height @param {number} width */
function resizeSmoothly(picture, height, width) {
  const [rows, columns] = [neighborPixels(picture.height, height), neighborPixels(picture.width, width)];
  const at = (/** @type {number} */ i, /** @type {number} */ j, /** @type {number} */ c) => picture.data[(i * picture.width + j) * 3 + c];
  const between = (/** @type {number} */ a, /** @type {number} */ b, /** @type {number} */ share) =>
    Math.fround(a + Math.fround(Math.fround(b - a) * share));
  const values = rows.flatMap(([top, bottom, v]) => columns.flatMap(([left, right, u]) => [0, 1, 2].map((c) =>
    between(between(at(top, left, c), at(top, right, c), u), between(at(bottom, left, c), at(bottom, right, c), u), v))));
  return { width, height, data: Float32Array.from(values) };
}

/** For each output pixel of one axis the pixels before and after it, and the share of the latter. @param {number} size @param {number} target */
function neighborPixels(size, target) {
  const inside = (/** @type {number} */ pixel) => Math.max(0, Math.min(size - 1, pixel));
  return Array.from({ length: target }, (_, i) => {
    const at = Math.fround(Math.fround((i + 0.5) * Math.fround(size / target)) - 0.5);
    return [inside(Math.floor(at)), inside(Math.ceil(at)), Math.fround(at - Math.floor(at))];
  });
}

/** What a network is given: a picture resized and scaled, (H, W, C). @param {Picture} picture @param {Model} model @returns {Tensor} */
function networkInput(picture, { graph, scaling, resize }) {
  const [H, W, C] = graph.layers[0].shape;
  const { data } = resizeByRule(C === 1 ? grayPicture(picture) : picture, H, W, resize || "crop");
  const of = (/** @type {number|number[]} */ value, /** @type {number} */ c) => Math.fround(typeof value === "number" ? value : value[c]);
  const x = zeros(H, W, C);
  for (let i = 0; i < H * W; i++)
    for (let c = 0; c < C; c++) x.data[i * C + c] = Math.fround(data[3 * i + c] * of(scaling.scale, c)) + of(scaling.offset, c);
  return x;
}

/** Luminance in all three channels, as Pillow computes it. @param {Picture} picture @returns {Picture} */
function grayPicture({ width, height, data }) {
  const gray = (/** @type {number} */ i) => (data[i] * 19595 + data[i + 1] * 38470 + data[i + 2] * 7471 + 0x8000) >> 16;
  return { width, height, data: Uint8Array.from(data, (_, i) => gray(i - i % 3)) };
}

/** Strokes, whatever their size, as the data set's digits were made: box, pen, ink, picture.
 * @param {number[][][]} strokes points [x, y] of each @returns {{bitmap: Uint8Array, ink: number[], picture: Picture}} */
function strokesToInk(strokes) {
  const bitmap = inkedBitmap(fittedStrokes(strokes));
  const ink = inkOfCells(bitmap);
  return { bitmap, ink, picture: pictureOfInk(ink) };
}

/** Strokes moved and scaled so that the pen just stays inside the bitmap, their aspect ratio kept. @param {number[][][]} strokes */
function fittedStrokes(strokes) {
  const points = strokes.flat();
  const low = [0, 1].map((axis) => Math.min(...points.map((point) => point[axis])));
  const high = [0, 1].map((axis) => Math.max(...points.map((point) => point[axis])));
  const scale = (BITMAP_SIDE - PEN) / Math.max(high[0] - low[0], high[1] - low[1], 1e-9);
  return strokes.map((stroke) => stroke.map((point) =>
    [0, 1].map((axis) => BITMAP_SIDE / 2 + (point[axis] - (low[axis] + high[axis]) / 2) * scale)));
}

/** 32 x 32 pixels, 1 where a pixel's center is at most half a pen from a stroke. @param {number[][][]} strokes in pixels of the bitmap */
function inkedBitmap(strokes) {
  const bitmap = new Uint8Array(BITMAP_SIDE * BITMAP_SIDE);
  for (const stroke of strokes)
    stroke.forEach((end, k) => inkSegment(bitmap, stroke[Math.max(0, k - 1)], end));
  return bitmap;
}

/** Ink the pixels around a segment; the others are too far away. @param {Uint8Array} bitmap @param {number[]} start @param {number[]} end */
function inkSegment(bitmap, start, end) {
  const [firstX, firstY] = [0, 1].map((axis) => Math.max(0, Math.floor(Math.min(start[axis], end[axis]) - PEN / 2)));
  const [lastX, lastY] = [0, 1].map((axis) => Math.min(BITMAP_SIDE - 1, Math.floor(Math.max(start[axis], end[axis]) + PEN / 2)));
  for (let i = firstY; i <= lastY; i++)
    for (let j = firstX; j <= lastX; j++)
      if (squaredDistance([j + 0.5, i + 0.5], start, end) <= PEN / 2 * (PEN / 2)) bitmap[i * BITMAP_SIDE + j] = 1;
}

/** From a point to a segment. Not Math.hypot: languages round it differently. @param {number[]} point @param {number[]} start @param {number[]} end */
function squaredDistance([x, y], [x0, y0], [x1, y1]) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const length = dx * dx + dy * dy;
  const t = Math.max(0, Math.min(1, ((x - x0) * dx + (y - y0) * dy) / (length || 1)));
  const [restX, restY] = [x - x0 - t * dx, y - y0 - t * dy];
  return restX * restX + restY * restY;
}

/** Ink of 8 x 8 cells: how many of their 16 pixels are inked. @param {Uint8Array} bitmap */
function inkOfCells(bitmap) {
  const ink = Array(INK_SIDE * INK_SIDE).fill(0);
  bitmap.forEach((inked, i) => {
    const [row, column] = [Math.floor(i / BITMAP_SIDE), i % BITMAP_SIDE];
    ink[Math.floor(row / INK_CELL) * INK_SIDE + Math.floor(column / INK_CELL)] += inked;
  });
  return ink;
}

/** 8 x 8 amounts of ink in 0..16, white on black. @param {ArrayLike<number>} ink @returns {Picture} */
function inkPicture(ink) {
  const data = Uint8Array.from({ length: 3 * ink.length }, (_, i) => roundHalfToEven(ink[Math.floor(i / 3)] * 255 / 16));
  return { width: INK_SIDE, height: INK_SIDE, data };
}

/** The picture of an ink that the network is shown, 64 x 64. @param {ArrayLike<number>} ink */
function pictureOfInk(ink) {
  return resizePicture(inkPicture(ink), ENLARGED_SIDE, ENLARGED_SIDE, "bicubic");
}

/** 0s and 1s as black and white. @param {Uint8Array} bitmap @returns {Picture} */
function bitmapPicture(bitmap) {
  return { width: BITMAP_SIDE, height: BITMAP_SIDE, data: Uint8Array.from({ length: 3 * bitmap.length }, (_, i) => 255 * bitmap[Math.floor(i / 3)]) };
}

/** As NumPy rounds. @param {number} x */
function roundHalfToEven(x) {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 ? floor + 1 : floor;
}
