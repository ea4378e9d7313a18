# %% [markdown]
# # 6. What happens at the edge?
#
# 30 minutes. Afterwards you know where the zeros go, and why a port from one framework to another differs at stride 2.

# %%
try:
    import google.colab  # noqa: F401

    get_ipython().run_line_magic("pip", "install -q npmobilenet[plot]")  # type: ignore[name-defined]
except ImportError:
    pass  # not in Colab: npmobilenet is installed already

# %%
import matplotlib.pyplot as plt
import numpy as np

from npmobilenet.reference.convolution import conv2d
from npmobilenet.reference.shapes import output_size, same_padding

for size in (7, 8, 224):
    for stride in (1, 2):
        pair = same_padding(size, 3, stride)
        print(f"size {size}, stride {stride}: zeros {pair}, {output_size(size, 3, stride, pair)} places")

# %% [markdown]
# SAME padding (填充) adds as few zeros as are needed. At stride (步幅) 2 and an even size that is *one*, and
# TensorFlow puts it at the end. PyTorch's `padding=1` puts one on each side. Both give the same shape, so
# nothing complains:

# %%
x = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1)
w = np.zeros((3, 3, 1, 1), np.float32)
w[1, 1] = 1
tensorflow = conv2d(x, w, stride=2, padding=((0, 1), (0, 1)))
pytorch = conv2d(x, w, stride=2, padding=((1, 1), (1, 1)))
print(tensorflow[0, :, :, 0], pytorch[0, :, :, 0], sep="\n\n")

# %% [markdown]
# The kernel picks the pixel in the middle of its window. The two ways look at different pixels: all windows have
# moved by one, not those at the edge alone.

# %%
figure, axes = plt.subplots(1, 2)
for axis, picked, title in zip(axes, (tensorflow, pytorch), ("zeros (0, 1)", "zeros (1, 1)"), strict=True):
    axis.imshow(np.isin(x[0, :, :, 0], picked), cmap="gray")
    axis.set_title(title)
plt.show()

# %% [markdown]
# **Think.** For which sizes do the two agree at stride 2? Test your rule with `same_padding`.

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
