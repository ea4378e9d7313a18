/* Linear algebra in float64: least squares. */

/** Least squares by Householder reflections: X (k, r) with the smallest |A X - B| in every column.
 * @param {number[][]} A (m, k), m >= k @param {number[][]} B (m, r) @returns {number[][]} (k, r) */
function leastSquares(A, B) {
  const [k, r] = [A[0].length, B[0].length];
  const R = A.map((row, i) => [...row, ...B[i]]); // A beside B: both are reflected
  for (let j = 0; j < k; j++) reflectColumn(R, j);
  const X = Array.from({ length: k }, () => new Array(r).fill(0));
  for (let j = k - 1; j >= 0; j--)
    for (let c = 0; c < r; c++) {
      let rest = R[j][k + c];
      for (let l = j + 1; l < k; l++) rest -= R[j][l] * X[l][c];
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
  const square = v.reduce((sum, value) => sum + value * value, 0);
  for (let l = j; l < R[0].length; l++) {
    let product = 0;
    for (let i = j; i < R.length; i++) product += v[i] * R[i][l];
    for (let i = j; i < R.length; i++) R[i][l] -= 2 * product / square * v[i];
  }
}

/** The point p of the plane with the smallest sum of (a . p - y)² over rows a (2): exact if two rows are not parallel and
 * the equations have a solution; the shortest such p for one row; the origin for none.
 * @param {number[][]} rows (n, 2) @param {ArrayLike<number>} y (n) @returns {[number, number]} */
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
