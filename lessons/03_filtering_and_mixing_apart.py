# %% [markdown]
# # 3. What if filtering and mixing are done apart?
#
# 30 minutes. Afterwards you know what a depthwise convolution (深度卷积) and a pointwise convolution (逐点卷积) compute, and
# which standard convolution both together are.

# %%
try:
    import google.colab  # noqa: F401

    get_ipython().run_line_magic("pip", "install -q npmobilenet[plot]")  # type: ignore[name-defined]
except ImportError:
    pass  # not in Colab: npmobilenet is installed already

# %%
import numpy as np

from npmobilenet.reference.convolution import conv2d, depthwise_conv2d, pointwise_conv2d

rng = np.random.default_rng(0)
x = rng.integers(-3, 4, (1, 6, 6, 3)).astype(np.float32)
f = rng.integers(-3, 4, (3, 3, 3)).astype(np.float32)
m = rng.integers(-3, 4, (3, 4)).astype(np.float32)
filtered = depthwise_conv2d(x, f[..., None])
mixed = pointwise_conv2d(filtered, m[None, None])
print("picture", x.shape[1:], " filtered", filtered.shape[1:], " mixed", mixed.shape[1:])

# %% [markdown]
# Filtering looks at neighbors and keeps channels apart: change channel 0, and only channel 0 of the result changes.

# %%
changed = x.copy()
changed[..., 0] += 1
difference = depthwise_conv2d(changed, f[..., None]) - filtered
print("largest change by channel:", np.abs(difference).max(axis=(0, 1, 2)))

# %% [markdown]
# Mixing looks at one pixel alone and combines its channels. One after the other, they are a standard convolution
# whose kernel is the product of both, `f[u, v, c] * m[c, d]`. The numbers here are whole, so the results are equal
# exactly.

# %%
standard = conv2d(x, f[:, :, :, None] * m)
print("equal:", np.array_equal(standard, mixed))
print("weights:", f.size + m.size, "instead of", f[:, :, :, None].size * m.shape[1])

# %% [markdown]
# **Think.** Is every standard kernel such a product? Count the weights on both sides before you answer; lesson 5
# measures.

# %% [markdown]
# ## Now you
#
# Write each function, then run the cell below it. It names the first wrong value and, if it can, the mistake.

# %%
from npmobilenet.exercises import check


# %%
def depthwise_conv(x, w, stride):
    """y[i, j, c] = sum over u, v of x[i*stride + u - top, j*stride + v - left, c] * w[u, v, c], zeros outside.

    x: (H, W, C)   w: (K, K, C)   SAME padding as TensorFlow: the odd zero at the end   returns (H_out, W_out, C)
    """
    raise NotImplementedError


# %% tags=["raises-exception"]
check(depthwise_conv)


# %%
def pointwise_conv(x, w):
    """y[i, j, d] = sum over c of x[i, j, c] * w[c, d].

    x: (H, W, c_in)   w: (c_in, c_out)   returns (H, W, c_out)
    """
    raise NotImplementedError


# %% tags=["raises-exception"]
check(pointwise_conv)
