"""The five first exercises solved in loops on lists.

Feature maps are x[i][j][c]; kernels are w[u][v][c][d] (standard), w[u][v][c] (depthwise) and w[c][d] (pointwise).
Every module in `npmobilenet.exercises.IN_MICROPYTHON`, and so this one, runs unchanged in CPython and in MicroPython.
"""

from npmobilenet.exercises.nested import filled


def same_padding(size: int, K: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one axis, the odd one after: TensorFlow's SAME."""
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + K - size, 0)
    return total // 2, total - total // 2


def paddings(x: list, K: int, stride: int) -> tuple:
    """((top, bottom), (left, right)) of a feature map."""
    return same_padding(len(x), K, stride), same_padding(len(x[0]), K, stride)


def convolution(x: list, w: list, b: list, stride: int, padding: "tuple | None" = None) -> list:
    """y[i][j][d] = b[d] + sum over u, v, c of x[i*stride + u - top][j*stride + v - left][c] * w[u][v][c][d]."""
    H, W, K = len(x), len(x[0]), len(w)
    (top, bottom), (left, right) = padding or paddings(x, K, stride)
    y = []
    for i in range((top + H + bottom - K) // stride + 1):
        row = []
        for j in range((left + W + right - K) // stride + 1):
            pixel = []
            for d in range(len(b)):
                total = b[d]
                for u in range(K):
                    for v in range(K):
                        for c in range(len(w[0][0])):
                            r, s = i * stride + u - top, j * stride + v - left
                            if 0 <= r < H and 0 <= s < W:
                                total += x[r][s][c] * w[u][v][c][d]
                pixel.append(total)
            row.append(pixel)
        y.append(row)
    return y


def depthwise_conv(x: list, w: list, stride: int, padding: "tuple | None" = None) -> list:
    """y[i][j][c] = sum over u, v of x[i*stride + u - top][j*stride + v - left][c] * w[u][v][c]."""
    H, W, K = len(x), len(x[0]), len(w)
    (top, bottom), (left, right) = padding or paddings(x, K, stride)
    y = []
    for i in range((top + H + bottom - K) // stride + 1):
        row = []
        for j in range((left + W + right - K) // stride + 1):
            pixel = []
            for c in range(len(w[0][0])):
                total = 0
                for u in range(K):
                    for v in range(K):
                        r, s = i * stride + u - top, j * stride + v - left
                        if 0 <= r < H and 0 <= s < W:
                            total += x[r][s][c] * w[u][v][c]
                pixel.append(total)
            row.append(pixel)
        y.append(row)
    return y


def pointwise_conv(x: list, w: list) -> list:
    """y[i][j][d] = sum over c of x[i][j][c] * w[c][d]."""
    y = []
    for row_in in x:
        row = []
        for pixel_in in row_in:
            pixel = []
            for d in range(len(w[0])):
                total = 0
                for c in range(len(w)):
                    total += pixel_in[c] * w[c][d]
                pixel.append(total)
            row.append(pixel)
        y.append(row)
    return y


def count_macs(H: int, W: int, C: int, table: list) -> list:
    """Multiply-adds of every row (kind, c_out, K, stride) of a table: output pixels times the products of each."""
    counts = []
    for kind, c_out, K, stride in table:
        H, W = -(-H // stride), -(-W // stride)
        if kind == "convolution":
            counts.append(H * W * K * K * C * c_out)
            C = c_out
        elif kind == "depthwise":
            counts.append(H * W * K * K * C)
        else:
            counts.append(H * W * C * c_out)
            C = c_out
    return counts


def best_separable(k: list) -> tuple[list, list]:
    """f[u][v][c] and m[c][d] with the product nearest to k[u][v][c][d]: for each channel, rank one of a matrix."""
    K, C, N = len(k), len(k[0][0]), len(k[0][0][0])
    f, m = filled((K, K, C), lambda u, v, c: 0.0), []
    for c in range(C):
        taps = [k[u][v][c] for u in range(K) for v in range(K)]  # (K*K, N)
        column, size, row = rank_one(taps)
        for u in range(K):
            for v in range(K):
                f[u][v][c] = column[u * K + v]
        m.append([size * row[d] for d in range(N)])
    return f, m


def rank_one(matrix: list) -> tuple[list, float, list]:
    """Unit column, singular value, unit row of the nearest matrix of rank one, by power iteration."""
    row = unit(max(matrix, key=length))
    for _ in range(2000):
        column = unit([dot(line, row) for line in matrix])
        before, row = row, unit([dot(column, [line[d] for line in matrix]) for d in range(len(row))])
        if all(abs(before[d] - row[d]) < 1e-15 for d in range(len(row))):
            break
    return column, dot(column, [dot(line, row) for line in matrix]), row


def dot(a: list, b: list) -> float:
    return sum(a[k] * b[k] for k in range(len(a)))


def length(a: list) -> float:
    return dot(a, a) ** 0.5


def unit(a: list) -> list:
    size = length(a)
    return [value / size for value in a] if size else a
