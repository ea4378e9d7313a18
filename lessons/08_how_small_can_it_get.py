# %% [markdown]
# # 8. How small can it get?
#
# 45 minutes. Afterwards you can predict the cost of any width and resolution, and read a chart of accuracy against cost.

# %%
try:
    import google.colab  # noqa: F401

    get_ipython().run_line_magic("pip", "install -q npmobilenet[plot]")  # type: ignore[name-defined]
except ImportError:
    pass  # not in Colab: npmobilenet is installed already

# %%
import matplotlib.pyplot as plt

import npmobilenet as nm
from npmobilenet.analysis.published import accuracies
from npmobilenet.architectures.baselines import squeezenet
from npmobilenet.figures.figure_catalog import FIGURES
from npmobilenet.reference.layer import KernelLayer

full = nm.mobilenet_v1()
for alpha in (1.0, 0.75, 0.5, 0.25):
    for resolution in (224, 128):
        graph = nm.mobilenet_v1(alpha=alpha, resolution=resolution)
        print(f"alpha {alpha:4}  {resolution}  {graph.macs / full.macs:6.3f} of the multiply-adds,", end="")
        print(f" {graph.total_params / full.total_params:6.3f} of the parameters")

# %% [markdown]
# The width multiplier (宽度乘子) alpha works on both, nearly squared. The resolution multiplier (分辨率乘子) works on
# the multiply-adds alone: a kernel does not know how large the picture is.
#
# What does it cost in accuracy? TF-Slim's page lists sixteen trained networks, four widths at four resolutions:

# %%
points = FIGURES["v1-accuracy-macs"].data()["points"]
for alpha in sorted({point["alpha"] for point in points}):
    line = sorted((point["macs"] / 1e6, point["top1"]) for point in points if point["alpha"] == alpha)
    plt.semilogx(*zip(*line, strict=True), "o-", label=f"alpha {alpha}")
ticks = (15, 30, 60, 120, 250, 500)
plt.xticks(ticks, map(str, ticks))
plt.minorticks_off()
plt.xlabel("million multiply-adds")
plt.ylabel("top-1, percent")
plt.legend()
plt.show()
print(len(points), "networks")

# %% [markdown]
# Thin or shallow? The paper leaves out five layers, or makes all of them narrower:

# %%
for name, graph in (("shallow", nm.mobilenet_v1(shallow=True)), ("thin", nm.mobilenet_v1(alpha=0.75))):
    print(f"{name:8} {graph.macs / 1e6:.0f} million multiply-adds, {graph.total_params / 1e6:.1f} million parameters")
paper = [f for f in accuracies() if f.source == "arXiv:1704.04861v1" and f.metric == "top1"]
thin = next(f for f in paper if (f.model, f.alpha, f.resolution) == ("MobileNetV1", 0.75, 224))
for f in paper:
    if "hallow" in f.model:
        print(f.model, f.printed, "%", "   alpha 0.75:", thin.printed, "%")

# %% [markdown]
# And the end of the network: global average pooling (全局平均池化) makes one number of each channel. Flattening
# instead would give the classifier a weight for each pixel, too:

# %%
pooling = next(layer for layer in full.layers if "global" in layer.type.lower())
last = pooling.inputs[0]
H, W, C = full.shapes[last]
print("pooled:", C * 1000, " flattened:", H * W * C * 1000)

# %% [markdown]
# ## Bug hunt
#
# *"MobileNetV1 has 28 layers, not counting the classifier."*

# %%
for graph in (nm.mobilenet_v1(include_top=False), full):
    print(sum(isinstance(layer, KernelLayer) for layer in graph.layers))

# %% [markdown]
# *"SqueezeNet has 22 times the parameters of MobileNet 0.5/160."* The paper says so of the computation. Neither is
# right:

# %%
large, small = squeezenet(), nm.mobilenet_v1(0.5, 160)
print("parameters:", round(large.trainable_params / small.trainable_params, 2))
print("multiply-adds:", round(large.macs / small.macs, 1))

# %% [markdown]
# **Think.** You may spend 150 million multiply-adds. Which width and resolution do you choose, from the chart?

# %% [markdown]
# ## Now you
#
# Write each function, then run the cell below it. It names the first wrong value and, if it can, the mistake.

# %%
from npmobilenet.exercises import check


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
