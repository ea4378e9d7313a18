/* How far rounding can move a value: the model of npmobilenet/reference/roundoff.py, for one value. */

const HALF_STEP = 2 ** -24; // float32's unit roundoff: half the distance from 1 to the next number
const SMALLEST_NORMAL = 2 ** -126;

/** n u / (1 - n u): the relative error that n roundings can make (Higham 2002, lemma 3.1). @param {number} n */
function gamma(n) {
  return n * HALF_STEP < 1 ? n * HALF_STEP / (1 - n * HALF_STEP) : Infinity;
}

/** Largest error of a sum of n rounded products, in any order of summing. @param {number} n @param {number} magnitude sum of |x| |w| */
function roundingBound(n, magnitude) {
  return gamma(n) * magnitude + n * SMALLEST_NORMAL;
}
