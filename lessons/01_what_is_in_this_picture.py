# %% [markdown]
# # 1. What is in this picture, and how does it know?
#
# 20 minutes. Afterwards you can run a network, open a layer, and say what the three numbers of a shape mean.

# %%
try:
    import google.colab  # noqa: F401

    get_ipython().run_line_magic("pip", "install -q npmobilenet[plot]")  # type: ignore[name-defined]
except ImportError:
    pass  # not in Colab: npmobilenet is installed already

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import npmobilenet as nm
from npmobilenet.models.example_digits import example_digits, image_of_ink

picture = image_of_ink(example_digits()[3])
plt.imshow(picture)
plt.show()

# %% [markdown]
# Which digit is it? The network answers with ten probabilities (概率) that add up to 1.

# %%
model = nm.load("digits")
x = model.scale(model.pixels(picture)[None].astype(np.float32))  # 32 x 32 pixels, scaled to -1..1
y = model.forward(x)[0]
for digit, p in enumerate(y):
    print(digit, f"{p:.4f}", "#" * round(40 * p))
print("answer:", int(y.argmax()), "  sum:", round(float(y.sum()), 5))

# %% [markdown]
# How does it know? It computes one array after the other, each from the one before. An array in the middle is
# a *feature map* (特征图): height, width, channels (通道). Watch the height fall while the channels grow.

# %%
for layer in model.graph.layers:
    if "kernel" in " ".join(model.graph.param_shapes_of(layer)):
        print(f"{layer.name:12} {type(layer).__name__:16} {model.graph.shapes[layer.name]}")

# %% [markdown]
# Open the first layer. Each channel is a picture of its own: one filter's answer at every place.

# %%
first = model.layer_output("conv1_relu", x)[0]
figure, axes = plt.subplots(1, first.shape[2], figsize=(10, 2))
for c, axis in enumerate(axes):
    axis.imshow(first[:, :, c], cmap="gray")
    axis.set_title(f"channel {c}")
    axis.axis("off")
plt.show()

# %% [markdown]
# **Think.** Which channels answer to the upper edge of a stroke? Choose another of the ten digits above and look
# again.
#
# A photograph of yours, `photo.jpg` next to this notebook, goes to a network that knows a thousand classes. Its weights
# are downloaded once, from Keras's server.

# %%
photo = Path("photo.jpg")
if photo.exists():
    for _, label, p in nm.load("mobilenet_v2_1.0_224").classify(photo)[0]:
        print(f"{p:.4f} {label}")
else:
    print("no photo.jpg here")
