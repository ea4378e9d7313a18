# %% [markdown]
# # 2. What is a convolution, number by number?
#
# 45 minutes. Afterwards you can compute any value of a convolution (卷积) by hand, and write all of it.

# %%
try:
    import google.colab  # noqa: F401

    get_ipython().run_line_magic("pip", "install -q npmobilenet[plot]")  # type: ignore[name-defined]
except ImportError:
    pass  # not in Colab: npmobilenet is installed already

# %%
import numpy as np

from npmobilenet.reference.convolution import conv2d

rng = np.random.default_rng(0)
x = rng.integers(-3, 4, (1, 12, 12, 3)).astype(np.float32)
w = rng.integers(-3, 4, (5, 5, 3, 1)).astype(np.float32)
window = x[0, 0:5, 0:5, :]
print("products in one value:", window.size)
print("their sum:", (window * w[:, :, :, 0]).sum())
print("the layer: ", conv2d(x, w, padding="valid")[0, 0, 0, 0])

# %% [markdown]
# A window (窗口) of the picture is multiplied by the kernel (卷积核), value by value, and everything is added up,
# over the channels too. So one kernel of three channels gives *one* channel:

# %%
print("picture", x.shape[1:], " kernel", w.shape[:3], " result", conv2d(x, w, padding="valid").shape[1:])

# %% [markdown]
# A mathematician's convolution flips the kernel first. Networks do not; strictly it is a correlation (互相关).
# An *impulse*, a single 1, shows the difference: a correlation shows the
# kernel turned by half a turn.

# %%
impulse = np.zeros((1, 5, 5, 1), np.float32)
impulse[0, 2, 2, 0] = 1
kernel = np.arange(1, 10, dtype=np.float32).reshape(3, 3, 1, 1)
print(kernel[:, :, 0, 0])
print(conv2d(impulse, kernel)[0, 1:4, 1:4, 0])

# %% [markdown]
# **Think.** What do you have to do to `kernel` so that the impulse shows it the right way round?

# %% [markdown]
# ## Now you
#
# Write each function, then run the cell below it. It names the first wrong value and, if it can, the mistake.

# %%
from npmobilenet.exercises import check


# %%
def same_padding(size, K, stride):
    """Zeros before and after one axis of `size` pixels, so that a window of K with this stride has ceil(size / stride)
    places. Never fewer than 0; of an odd number the extra one is after.

    returns (before, after)
    """
    raise NotImplementedError


# %% tags=["raises-exception"]
check(same_padding)


# %%
def convolution(x, w, b, stride):
    """y[i, j, d] = b[d] + sum over u, v, c of x[i*stride + u - top, j*stride + v - left, c] * w[u, v, c, d].

    x: (H, W, c_in)   w: (K, K, c_in, c_out)   b: (c_out,)   returns (H_out, W_out, c_out), H_out = ceil(H / stride)
    SAME padding: outside x are zeros; of an odd number the extra one is at the end (see same_padding).
    """
    raise NotImplementedError


# %% tags=["raises-exception"]
check(convolution)
