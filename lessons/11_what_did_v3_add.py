# %% [markdown]
# # 11. What did V3 add?
#
# 35 minutes. Afterwards you know hard swish, squeeze-and-excitation (压缩与激励), and the cheaper end of V3.

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
from npmobilenet.reference.activations import hard_swish, silu
from npmobilenet.reference.squeeze_excite import squeeze_excite

a = np.linspace(-6, 6, 1001)
plt.plot(a, silu(a), label="swish")
plt.plot(a, hard_swish(a), label="hard swish")
plt.legend()
plt.show()
gap = np.abs(silu(a) - hard_swish(a))
print("largest difference:", round(float(gap.max()), 4), "at", round(float(abs(a[gap.argmax()])), 2))
print("at -3, 0 and 3:", hard_swish(np.array([-3.0, 0.0, 3.0])))

# %% [markdown]
# Swish needs an exponential. Hard swish, x · ReLU6(x + 3) / 6, is made of a sum, a cut and two products, and is
# near it.
#
# A *gate* looks at the whole picture, one mean for each channel, and decides how much of each channel goes on:

# %%
rng = np.random.default_rng(0)
x = rng.uniform(0, 1, (1, 4, 4, 3))
y = squeeze_excite(x, rng.normal(size=(3, 2)), np.zeros(2), rng.normal(size=(2, 3)), np.zeros(3))
print("gate of each channel:", np.round((y / x).mean(axis=(0, 1, 2)), 3))
print("the same at every pixel:", np.allclose(y / x, (y / x)[:, :1, :1]))

# %% [markdown]
# What do the networks cost?

# %%
large, small = nm.mobilenet_v3_large(), nm.mobilenet_v3_small()
for name, graph in (("V2", nm.mobilenet_v2()), ("V3-Large", large), ("V3-Small", small)):
    print(f"{name:9} {graph.macs / 1e6:6.1f} million multiply-adds, {graph.total_params / 1e6:.2f} million parameters")

# %% [markdown]
# V3's end (尾部) pools *before* its last wide layer. That layer then sees one pixel:

# %%
for layer in large.layers[-12:]:
    print(f"{layer.name:28} {layer.type:24} {large.shapes[layer.name]}")

# %% [markdown]
# ## Bug hunt
#
# *"Squeeze-and-excitation adds its gate to the feature map."* If so, a gate of 0 changes nothing. hard_sigmoid(-3)
# is 0:

# %%
print(squeeze_excite(np.ones((1, 1, 1, 4)), np.zeros((4, 1)), np.zeros(1), np.zeros((1, 4)), np.full(4, -3.0)).ravel())

# %% [markdown]
# **Think.** A gate costs few multiply-adds. Why does it cost more time than its share of them?

# %% [markdown]
# ## Now you
#
# Write each function, then run the cell below it. It names the first wrong value and, if it can, the mistake.

# %%
from npmobilenet.exercises import check


# %%
def hard_swish(x):
    """x * relu6(x + 3) / 6.

    x: (n,)   returns (n,)
    """
    raise NotImplementedError


# %% tags=["raises-exception"]
check(hard_swish)


# %%
def squeeze_excite(x, w1, b1, w2, b2):
    """V3's gate: s = mean of each channel of x;  g = hard_sigmoid(relu(s @ w1 + b1) @ w2 + b2);  y = x * g.

    hard_sigmoid(a) = relu6(a + 3) / 6
    x: (H, W, C)   w1: (C, c_squeezed)   b1: (c_squeezed,)   w2: (c_squeezed, C)   b2: (C,)   returns (H, W, C)
    """
    raise NotImplementedError


# %% tags=["raises-exception"]
check(squeeze_excite)
