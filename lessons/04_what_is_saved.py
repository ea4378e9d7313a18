# %% [markdown]
# # 4. What is saved?
#
# 30 minutes. Afterwards you can count multiply-adds (乘加) and weights, and tell a factor from a saving.

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
from npmobilenet.analysis.separable_cost import SeparableCost

block = SeparableCost(H=14, W=14, c_in=512, c_out=512)
for name, macs in block.macs.items():
    print(f"{name:12} {macs:12,} multiply-adds  {block.weights[name]:10,} weights")
print("ratio:", block.ratio, "=", float(block.ratio), "  formula 1/N + 1/K²:", float(block.formula))

# %% [markdown]
# The ratio depends on the channels that come out and on the kernel's size, and on nothing else. For many channels
# the kernel decides: it approaches 1/K².

# %%
N = 2 ** np.arange(3, 12)
for K in (3, 5, 7):
    plt.semilogx(N, 1 / N + 1 / K**2, base=2, label=f"K = {K}")
plt.xlabel("channels out")
plt.ylabel("separable / standard")
plt.legend()
plt.show()

# %% [markdown]
# ## Bug hunt
#
# Each sentence was copied from text to text. Right or wrong? Decide, then run the cell.
#
# *"A 5 x 5 x 3 kernel over a 12 x 12 x 3 image gives 8 x 8 x 3."*

# %%
from npmobilenet.reference.convolution import conv2d

print(conv2d(np.ones((1, 12, 12, 3)), np.ones((5, 5, 3, 1)), padding="valid").shape[1:])

# %% [markdown]
# *"A separable convolution has nine times the parameters."*

# %%
print("separable / standard:", block.weights["separable"] / block.weights["standard"])

# %% [markdown]
# *"In Keras, `depth_multiplier` is the resolution multiplier."* It is the number of filters for each input channel:

# %%
for d in (1, 2):
    graph = nm.mobilenet_v1(depth_multiplier=d)
    print(d, graph.input_shape, graph.shapes["conv_dw_1"])

# %% [markdown]
# **Think.** Of which layers does the ratio save least? More sentences: docs/bug-hunt.md of the project.

# %% [markdown]
# ## Now you
#
# Write each function, then run the cell below it. It names the first wrong value and, if it can, the mistake.

# %%
from npmobilenet.exercises import check


# %%
def count_macs(H, W, C, table):
    """Multiply-adds of each row of a network: one for every product, those with zeros of the padding included.

    H, W, C: size and channels of the image
    table: rows (kind, c_out, K, stride), one after the other; kind is "convolution", "depthwise" or "pointwise"
    All have SAME padding: the size of the output is ceil(size / stride). c_in of a row is c_out of the row before.
    returns one whole number for each row; biases and batch normalization do not count
    """
    raise NotImplementedError


# %% tags=["raises-exception"]
check(count_macs)


# %%
def pointwise_conv(x, w):
    """y[i, j, d] = sum over c of x[i, j, c] * w[c, d].

    x: (H, W, c_in)   w: (c_in, c_out)   returns (H, W, c_out)
    """
    raise NotImplementedError


# %% tags=["raises-exception"]
check(pointwise_conv)
