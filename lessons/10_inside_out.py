# %% [markdown]
# # 10. Why turn a residual block inside out?
#
# 45 minutes. Afterwards you can explain the linear bottleneck (线性瓶颈) and the inverted residual (倒残差).

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
from npmobilenet.analysis.memory_plan import plan
from npmobilenet.architectures.mobilenet_v2 import V2
from npmobilenet.reference.layer import KernelLayer

angle = np.linspace(0, 4 * np.pi, 400)
spiral = np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1) / angle.max()
rng = np.random.default_rng(0)
figure, axes = plt.subplots(1, 4, figsize=(12, 3))
for axis, n in zip(axes, (2, 3, 5, 30), strict=True):
    matrix = rng.normal(size=(2, n))
    hidden = np.maximum(spiral @ matrix, 0)
    axis.plot(*(hidden @ np.linalg.pinv(matrix)).T)
    axis.set_title(f"{n} dimensions")
    print(
        f"{n:2} dimensions: {100 * np.mean((hidden > 0).sum(axis=1) >= 2):5.1f} % of the points keep two values or more"
    )
plt.show()

# %% [markdown]
# A spiral in the plane is mapped to n dimensions, ReLU cuts it, and a linear map brings it back. Two numbers made
# the point, so two numbers that ReLU has left whole are enough to find it again. In few dimensions they are seldom
# there.
#
# Hence V2's block: *expand* to many channels, filter there with ReLU6, and *project* to few channels without an
# activation. The residual joins the narrow ends, where a usual one joins the wide ones. One block of V2:

# %%
graph = nm.mobilenet_v2()
for layer in graph.layers:
    if layer.name.startswith("block_2_"):
        print(f"{layer.name:28} {layer.type:20} {graph.shapes[layer.name]}")

# %% [markdown]
# What lies between the blocks is narrow, but a program that goes layer by layer holds the wide inside of a block as
# well. Only one that computes a block in parts, a few expanded channels at a time, gains from the narrow ends. The peak
# of memory, in MB:

# %%
for name, network in (("V1", nm.mobilenet_v1()), ("V2", graph)):
    for policy in ("in_place", "split"):
        print(name, f"{policy:9}", round(plan(network, policy).peak_bytes / 1e6, 2))

# %% [markdown]
# ## Bug hunt
#
# *"MobileNetV2 has 19 bottleneck blocks."* (its paper, section 4) *"Every block expands its input six times."*

# %%
print(sum(row.repeat for row in V2), "blocks; expansion", [row.expand for row in V2])

# %% [markdown]
# *"MobileNetV2 has 54 layers."* *"All its kernels are 3 x 3."*

# %%
kernels = [layer for layer in graph.layers if isinstance(layer, KernelLayer)]
sizes = [layer.kernel_size for layer in kernels if layer.type != "Dense"]
print(len(kernels), "layers with weights;", {size: sizes.count(size) for size in set(sizes)})

# %% [markdown]
# *"ReLU loses nothing if one first projects to few dimensions."* The first cell of this lesson has settled it.
#
# **Think.** What would a ReLU after the projection do to the sum with the residual, block after block?

# %% [markdown]
# ## Now you
#
# Write each function, then run the cell below it. It names the first wrong value and, if it can, the mistake.

# %%
from npmobilenet.exercises import check


# %%
def inverted_residual(x, w1, bn1, w2, bn2, w3, bn3, stride):
    """V2's block: expand, filter, project, add.

    y = relu6(bn1(pointwise(x, w1)));  y = relu6(bn2(depthwise(y, w2, stride)));  y = bn3(pointwise(y, w3))
    With stride 1 and c_out = c_in, x is added.
    x: (H, W, c_in)   w1: (c_in, e)   w2: (K, K, e)   w3: (e, c_out)
    bn1, bn2, bn3: gamma, beta, mean, var of a batch normalization, (4, C); epsilon is 1e-3
    returns (H_out, W_out, c_out)
    """
    raise NotImplementedError


# %% tags=["raises-exception"]
check(inverted_residual)


# %%
def width(channels, alpha, network):
    """Channels of the layers of a network with the width multiplier alpha.

    channels: of each layer with alpha 1   network: "v1", "v2" or "v3"   returns one whole number for each layer
    V1 cuts: int(c * alpha). V2 and V3 round c * alpha to the nearest multiple of 8, halves up, 8 at least; if that is
    less than 0.9 * c * alpha, it is 8 more. The last layer of V2 keeps its channels if alpha is below 1.
    """
    raise NotImplementedError


# %% tags=["raises-exception"]
check(width)
