/* A little linear algebra. A matrix is a list of rows. */

/** Singular values and vectors by one-sided Jacobi: columns are turned in pairs until all are at right angles.
 * A = U diag(S) V', U is (m, n), S falls, V is (n, n); n <= m is quickest, any will do.
 * @param {number[][]} A (m, n) @returns {{U: number[][], S: number[], V: number[][]}} */
function svd(A) {
  if (A.length < A[0].length) {
    const { U, S, V } = svd(transposed(A));
    return { U: V, S, V: U };
  }
  const columns = transposed(A);
  const turned = columns.map((_, i) => columns.map((_, j) => Number(i === j)));
  for (let sweep = 0, right = false; !right && sweep < 60; sweep++) {
    right = true;
    for (let i = 0; i < columns.length; i++)
      for (let j = i + 1; j < columns.length; j++)
        if (turnPair(columns, turned, i, j)) right = false;
  }
  const lengths = columns.map((column) => Math.hypot(...column));
  const order = lengths.map((_, i) => i).sort((i, j) => lengths[j] - lengths[i]);
  return {
    U: transposed(order.map((i) => columns[i].map((value) => (lengths[i] ? value / lengths[i] : 0)))),
    S: order.map((i) => lengths[i]),
    V: transposed(order.map((i) => turned[i])),
  };
}

/** Turn columns i and j, and those of V, so that they are at right angles; false if they are.
 * @param {number[][]} columns @param {number[][]} turned @param {number} i @param {number} j */
function turnPair(columns, turned, i, j) {
  const alpha = dotProduct(columns[i], columns[i]), beta = dotProduct(columns[j], columns[j]), between = dotProduct(columns[i], columns[j]);
  if (Math.abs(between) <= 2 ** -52 * Math.sqrt(alpha * beta)) return false;
  const zeta = (beta - alpha) / (2 * between);
  const t = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.hypot(1, zeta));
  const c = 1 / Math.hypot(1, t), s = c * t;
  for (const pair of [columns, turned])
    [pair[i], pair[j]] = [pair[i].map((x, k) => c * x - s * pair[j][k]), pair[i].map((x, k) => s * x + c * pair[j][k])];
  return true;
}

/** The x of least length that makes |A x - b| least. @param {number[][]} A (m, n) @param {number[]} b (m) @returns {number[]} (n) */
function leastSquares(A, b) {
  const { U, S, V } = svd(A);
  const smallest = S[0] * Math.max(A.length, A[0].length) * 2 ** -52; // below is rounding
  const [columns, rows] = [transposed(U), V];
  const parts = S.map((s, i) => (s > smallest ? dotProduct(columns[i], b) / s : 0));
  return rows.map((row) => dotProduct(row, parts));
}

/** @param {number[][]} A @returns {number[][]} */
function transposed(A) {
  return A[0].map((_, j) => A.map((row) => row[j]));
}

/** @param {number[]} x @param {number[]} y */
function dotProduct(x, y) {
  return x.reduce((sum, value, i) => sum + value * y[i], 0);
}

/** The X that makes |A X - B| least in every column, by Householder reflections: quick for many rows. The columns of A are
 * independent. @param {number[][]} A (m, n) @param {number[][]} B (m, k) @returns {number[][]} (n, k) */
function leastSquaresByReflections(A, B) {
  const [n, k] = [A[0].length, B[0].length];
  const R = A.map((row, i) => [...row, ...B[i]]); // A beside B: both are reflected
  for (let j = 0; j < n; j++) reflectColumn(R, j);
  const X = Array.from({ length: n }, () => new Array(k).fill(0));
  for (let j = n - 1; j >= 0; j--)
    for (let c = 0; c < k; c++) {
      let rest = R[j][n + c];
      for (let l = j + 1; l < n; l++) rest -= R[j][l] * X[l][c];
      X[j][c] = rest / R[j][j];
    }
  return X;
}

/** Reflect the rows from j on so that column j becomes zero below row j, in place. @param {number[][]} R @param {number} j */
function reflectColumn(R, j) {
  const norm = Math.hypot(...R.slice(j).map((row) => row[j]));
  if (norm === 0) return;
  const v = R.map((row, i) => (i < j ? 0 : row[j]));
  v[j] += v[j] < 0 ? -norm : norm;
  const square = dotProduct(v, v);
  for (let l = j; l < R[0].length; l++) {
    let product = 0;
    for (let i = j; i < R.length; i++) product += v[i] * R[i][l];
    for (let i = j; i < R.length; i++) R[i][l] -= 2 * product / square * v[i];
  }
}

/** `leastSquares` in the plane, in closed form: the p with the least sum of (a . p - y)² over rows a; the shortest such p
 * for one row, the origin for none. @param {number[][]} rows (n, 2) @param {ArrayLike<number>} y (n) @returns {[number, number]} */
function planeLeastSquares(rows, y) {
  if (rows.length === 0) return [0, 0];
  const [a] = rows;
  if (rows.length === 1) return [a[0] * y[0] / (a[0] ** 2 + a[1] ** 2), a[1] * y[0] / (a[0] ** 2 + a[1] ** 2)];
  let [xx, xy, yy, bx, by] = [0, 0, 0, 0, 0];
  rows.forEach(([x0, x1], i) => {
    xx += x0 * x0; xy += x0 * x1; yy += x1 * x1;
    bx += x0 * y[i]; by += x1 * y[i];
  });
  const determinant = xx * yy - xy * xy;
  return [(yy * bx - xy * by) / determinant, (xx * by - xy * bx) / determinant];
}
