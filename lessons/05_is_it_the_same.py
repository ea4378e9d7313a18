# %% [markdown]
# # 5. Is it the same?
#
# 30 minutes. Afterwards you can say when a kernel can be separated without loss, and what is lost otherwise.

# %%
try:
    import google.colab  # noqa: F401

    get_ipython().run_line_magic("pip", "install -q npmobilenet[plot]")  # type: ignore[name-defined]
except ImportError:
    pass  # not in Colab: npmobilenet is installed already

# %%
import matplotlib.pyplot as plt
import numpy as np

import npmobilenet as nm

sobel = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
laplace = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
for name, kernel in (("Sobel", sobel), ("Laplace", laplace)):
    print(name, "rank", np.linalg.matrix_rank(kernel))

# %% [markdown]
# A kernel of rank (秩) 1 is a column times a row: *spatially separable* (空间可分离). That is not what MobileNet
# does. It is separable *in depth*: for each input channel, the matrix with a row for each place of the kernel
# and a column for each output channel must have rank 1. A random kernel does not:

# %%
rng = np.random.default_rng(0)
k = rng.normal(size=(3, 3, 4, 8))
ranks = [int(np.linalg.matrix_rank(k[:, :, c].reshape(9, -1))) for c in range(k.shape[2])]
print("rank in each channel:", ranks)

# %% [markdown]
# How near can rank 1 come? The first singular value (奇异值) holds the share that is kept. Here is the first
# layer of the digits network, which was trained as a standard convolution.

# %%
trained = nm.load("digits").params["conv1/kernel"]


def kept(kernel):
    """Share of the sum of squares that the nearest separable kernel keeps, for each input channel."""
    s = [np.linalg.svd(kernel[:, :, c].reshape(-1, kernel.shape[3]), compute_uv=False) for c in range(kernel.shape[2])]
    return [float(v[0] ** 2 / (v**2).sum()) for v in s]


print("random: ", np.round(kept(k), 3))
print("trained:", np.round(kept(trained), 3))
plt.bar(range(trained.shape[2]), kept(trained))
plt.xlabel("input channel")
plt.ylabel("share kept by rank 1")
plt.show()

# %% [markdown]
# So it is not the same: a separable layer can do less. It is trained as it is, not made from a standard one.
#
# **Think.** Many filters of `conv_dw` layers could be separated spatially too. Why does nobody do it for 3 x 3?

# %% [markdown]
# ## Now you
#
# Write each function, then run the cell below it. It names the first wrong value and, if it can, the mistake.

# %%
from npmobilenet.exercises import check


# %%
def best_separable(k):
    """f and m so that the products f[u, v, c] * m[c, d] are nearest to k[u, v, c, d], in the sum of squares.

    k: (K, K, C, N)   returns f (K, K, C) and m (C, N)
    For each channel c, k[:, :, c, :] is a matrix of K*K rows and N columns; which of rank one is nearest to it?
    """
    raise NotImplementedError


# %% tags=["raises-exception"]
check(best_separable)


# %%
def depthwise_conv(x, w, stride):
    """y[i, j, c] = sum over u, v of x[i*stride + u - top, j*stride + v - left, c] * w[u, v, c], zeros outside.

    x: (H, W, C)   w: (K, K, C)   SAME padding as TensorFlow: the odd zero at the end   returns (H_out, W_out, C)
    """
    raise NotImplementedError


# %% tags=["raises-exception"]
check(depthwise_conv)
