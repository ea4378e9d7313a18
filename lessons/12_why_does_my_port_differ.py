# %% [markdown]
# # 12. Why does my port differ?
#
# 45 minutes. Afterwards you can tell rounding from a mistake, find the first wrong layer, and quantize (量化) a layer.

# %%
try:
    import google.colab  # noqa: F401

    get_ipython().run_line_magic("pip", "install -q npmobilenet[plot]")  # type: ignore[name-defined]
except ImportError:
    pass  # not in Colab: npmobilenet is installed already

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

import npmobilenet as nm
from npmobilenet.analysis.rounding_growth import network_bounds
from npmobilenet.porting.diagnose import diagnose
from npmobilenet.reference.convolution import conv2d
from npmobilenet.reference.graph import Graph

model = nm.load("digits")
picture = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
mine = dict(model.graph.run(model.params, picture))
largest = {}
for name, exact, bound in network_bounds(model.graph, model.params, picture):
    largest[name] = (np.abs(mine[name] - exact).max(), bound.max())
    assert (np.abs(mine[name] - exact) <= bound).all()
plt.semilogy([error or np.nan for error, _ in largest.values()], label="error of float32")
plt.semilogy([bound or np.nan for _, bound in largest.values()], label="bound")
plt.xlabel("layer")
plt.legend()
plt.show()

# %% [markdown]
# float32 rounds each operation, so no two programs agree to the last bit. A *bound* (误差界) is derived from the
# inputs: an error above it cannot be rounding. Now a mistake: the zeros of the first layer on the wrong side.

# %%
layer = model.graph["conv1"]
right = mine["conv1"]
wrong = conv2d(picture, model.params["conv1/kernel"], stride=2, padding=((1, 0), (1, 0)))
limit = next(bound for name, _, bound in network_bounds(model.graph, model.params, picture) if name == "conv1")
print("shapes equal:", wrong.shape == right.shape)
print(f"values above twice the bound: {100 * np.mean(np.abs(wrong - right) > 2 * limit):.0f} %")

# %% [markdown]
# Compare layer by layer and look at the *first* layer that is wrong; all later ones are wrong because of it. A port writes
# down what each of its layers computes, and `npmobilenet compare` does the rest: it computes each layer again from the
# port's own inputs, so that one mistake is one wrong layer, and names the cause where it knows it. Here is a port with two
# mistakes:

# %%
mistakes = {"conv_dw_2": {"padding": ((1, 1), (1, 1))}, "conv_dw_5_bn": {"epsilon": 1e-5}}
layers = [replace(layer, **mistakes.get(layer.name, {})) for layer in model.graph.layers if layer.name != "conv_pad_2"]
layers = [replace(layer, inputs=("conv_pw_1_relu",)) if layer.name == "conv_dw_2" else layer for layer in layers]
port = dict(Graph("port", tuple(layers)).run(model.params, picture))
for finding in diagnose(model, picture, port).wrong:
    print(finding.layer, "-", finding.explanations[0].cause if finding.explanations else "unknown")

# %% [markdown]
# On your own port: `npmobilenet trace photo.png -m MODEL -o pack` writes every tensor with its tolerance (a *golden pack*),
# your program dumps its own, and `npmobilenet compare pack dump.npz` says the same as this cell.
#
# Eight bits are another kind of rounding, a coarse one. One scale for each channel, or one for all?

# %%
w = model.params["conv_dw_1/kernel"].reshape(9, -1)


def back(values, scale):
    return np.round(values / scale) * scale


each = np.abs(w - back(w, np.abs(w).max(axis=0) / 127)).max(axis=0)
one = np.abs(w - back(w, np.abs(w).max() / 127)).max(axis=0)
print("largest error, a scale a channel:", np.round(each, 5))
print("largest error, one scale:        ", np.round(one, 5))

# %% [markdown]
# **Think.** Which channels suffer from one scale, those with large weights or those with small ones?

# %% [markdown]
# ## Now you
#
# Write each function, then run the cell below it. It names the first wrong value and, if it can, the mistake.

# %%
from npmobilenet.exercises import check


# %%
def quantize(x):
    """Every channel of x as int8, affine, and back.

    low, high = smallest and largest value of the channel, with 0;   scale = (high - low) / 255
    zero = round(-128 - low / scale);   q = round(x / scale) + zero, in -128..127;   back = (q - zero) * scale
    x: (N, C)   returns q (N, C), scale (C,), zero (C,), back (N, C)
    """
    raise NotImplementedError


# %% tags=["raises-exception"]
check(quantize)


# %%
def find_the_mistake(x, layers, values):
    """The one layer that a port has computed wrongly, and why. Later layers differ too, but are right on their inputs.

    x: (H, W, C)   values: what the port has computed for each layer, with rounding   returns (name, cause)
    layers: (name, kind, params), each reads the one before; kinds, params, and what may be wrong:
        depthwise   (w, stride)                       "symmetric padding", "flipped kernel", "transposed kernel",
                                                      "one filter for all channels"
        batch_norm  (gamma, beta, mean, var, epsilon) "epsilon 1e-5", "mean forgotten"
        relu6       ()                                "ReLU for ReLU6"
        pointwise   (w,)                              "transposed weights"
    """
    raise NotImplementedError


# %% tags=["raises-exception"]
check(find_the_mistake)
