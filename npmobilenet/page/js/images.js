/* From a picture, or strokes, to what a network is given. The resize is npmobilenet's own, byte for byte. */

/** @typedef {{width: number, height: number, data: Uint8Array}} Picture RGB, three bytes a pixel */
/** @typedef {{support: number, weight: (x: number) => number}} Filter */

const PRECISION = 22; // bits behind the point of a filter's weights
const CROP = 0.875; // fraction of the short side that is kept: 224 of 256
const INK_CELL = 4; // pixels of the 32 x 32 bitmap to a cell of ink
const PEN = 5; // pixels of 32, the width of a stroke
const BITMAP_SIDE = 32;
const INK_SIDE = 8;
const ENLARGED_SIDE = 64; // pixels, what the 8 x 8 ink is enlarged to

const BILINEAR = { support: 1, weight: (/** @type {number} */ x) => Math.max(0, 1 - Math.abs(x)) };
const BICUBIC = {
  support: 2,
  weight: (/** @type {number} */ x) => {
    const [t, a] = [Math.abs(x), -0.5];
    if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
    return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
  },
};

/** Weights of the pixels that each output pixel of one axis is made of, in units of 2^-22.
 * @param {number} size pixels of the input @param {number} from @param {number} to the part of it that is taken @param {number} target pixels of the output @param {Filter} filter */
function filterWeights(size, from, to, target, { support, weight }) {
  const scale = (to - from) / target;
  const stretch = Math.max(scale, 1); // a picture that shrinks takes a wider filter
  return Array.from({ length: target }, (_, i) => {
    const center = from + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support * stretch + 0.5));
    const end = Math.min(size, Math.trunc(center + support * stretch + 0.5));
    const weights = Array.from({ length: end - first }, (_, k) => weight((k + first - center + 0.5) / stretch));
    const sum = weights.reduce((a, b) => a + b, 0);
    const whole = weights.map((w) => { const scaled = w / sum * 2 ** PRECISION; return Math.trunc(scaled + (scaled < 0 ? -0.5 : 0.5)); });
    return { first, weights: whole };
  });
}

/** A box of a picture resized to width x height: rows first, then columns.
 * @param {Picture} picture @param {number} width @param {number} height @param {Filter} filter @param {number[]} [box] left, top, right, bottom in pixels */
function resizePicture(picture, width, height, filter, [left, top, right, bottom] = [0, 0, picture.width, picture.height]) {
  const columns = filterWeights(picture.width, left, right, width, filter);
  const rows = filterWeights(picture.height, top, bottom, height, filter);
  const narrow = new Uint8Array(picture.height * width * 3);
  for (let i = 0; i < picture.height; i++)
    for (let j = 0; j < width; j++)
      for (let c = 0; c < 3; c++)
        narrow[(i * width + j) * 3 + c] = weightedPixel(picture.data, (i * picture.width + columns[j].first) * 3 + c, 3, columns[j].weights);
  const data = new Uint8Array(height * width * 3);
  for (let i = 0; i < height; i++)
    for (let j = 0; j < width; j++)
      for (let c = 0; c < 3; c++)
        data[(i * width + j) * 3 + c] = weightedPixel(narrow, (rows[i].first * width + j) * 3 + c, width * 3, rows[i].weights);
  return { width, height, data };
}

/** A sum of weighted bytes, rounded and kept in 0..255. @param {Uint8Array} data @param {number} first @param {number} step @param {number[]} weights */
function weightedPixel(data, first, step, weights) {
  let sum = 2 ** (PRECISION - 1);
  for (let k = 0; k < weights.length; k++) sum += data[first + k * step] * weights[k];
  return Math.max(0, Math.min(255, Math.floor(sum / 2 ** PRECISION)));
}

/** The central 0.875 of a picture, stretched to the target: ImageNet's evaluation. A picture of that size stays.
 * @param {Picture} picture @param {number} height @param {number} width */
function resizeCrop(picture, height, width) {
  if (picture.height === height && picture.width === width) return picture;
  const scale = CROP * Math.min(picture.width / width, picture.height / height);
  const [w, h] = [scale * width, scale * height];
  const [left, top] = [(picture.width - w) / 2, (picture.height - h) / 2];
  return resizePicture(picture, width, height, BILINEAR, [left, top, left + w, top + h]);
}

/** What a network is given: a picture resized and scaled, (H, W, C). @param {Picture} picture @param {Model} model @returns {Tensor} */
function networkInput(picture, { graph, scaling }) {
  const [H, W, C] = graph.layers[0].shape;
  const { data } = resizeCrop(picture, H, W);
  const of = (/** @type {number|number[]} */ value, /** @type {number} */ c) => (typeof value === "number" ? value : value[c]);
  const x = zeros(H, W, C);
  for (let i = 0; i < H * W; i++)
    for (let c = 0; c < C; c++) {
      const pixel = C === 3 ? data[3 * i + c] : Math.round(0.299 * data[3 * i] + 0.587 * data[3 * i + 1] + 0.114 * data[3 * i + 2]);
      x.data[i * C + c] = Math.fround(pixel * Math.fround(of(scaling.scale, c))) + Math.fround(of(scaling.offset, c));
    }
  return x;
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

/** 32 x 32 pixels, 1 where the pen has been. @param {number[][][]} strokes in pixels of the bitmap */
function inkedBitmap(strokes) {
  const bitmap = new Uint8Array(BITMAP_SIDE * BITMAP_SIDE);
  for (const stroke of strokes)
    stroke.forEach((end, k) => {
      const start = stroke[Math.max(0, k - 1)];
      bitmap.forEach((_, i) => {
        if (distanceToSegment([i % BITMAP_SIDE + 0.5, Math.floor(i / BITMAP_SIDE) + 0.5], start, end) <= PEN / 2) bitmap[i] = 1;
      });
    });
  return bitmap;
}

/** @param {number[]} point @param {number[]} start @param {number[]} end */
function distanceToSegment([x, y], [x0, y0], [x1, y1]) {
  const length = (x1 - x0) ** 2 + (y1 - y0) ** 2;
  const t = length ? Math.max(0, Math.min(1, ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length)) : 0;
  return Math.hypot(x - x0 - t * (x1 - x0), y - y0 - t * (y1 - y0));
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
  return resizePicture(inkPicture(ink), ENLARGED_SIDE, ENLARGED_SIDE, BICUBIC);
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
