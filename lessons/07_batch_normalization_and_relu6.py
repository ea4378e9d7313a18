# %% [markdown]
# # 7. What do batch normalization and ReLU6 do, and when are they free?
#
# 40 minutes. Afterwards you can fold a batch normalization (批归一化) into a convolution, and say why ReLU6 stops at 6.

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
from npmobilenet.reference.activations import relu6
from npmobilenet.reference.convolution import conv2d
from npmobilenet.reference.normalization import batch_norm

params = nm.load("digits").params
w = params["conv1/kernel"]
gamma, beta, mean, var = (params[f"conv1_bn/{name}"] for name in ("gamma", "beta", "moving_mean", "moving_variance"))
x = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
after = batch_norm(conv2d(x, w, stride=2), gamma, beta, mean, var, epsilon=1e-3)
print(after.shape)

# %% [markdown]
# When the network is used, all four are constants: for each channel a factor and an offset. A convolution is
# linear, so the factor can go into its kernel and the offset into its bias (偏置). Then the layer is gone:

# %%
scale = gamma / np.sqrt(var + np.float32(1e-3))
folded = conv2d(x, w * scale, beta - mean * scale, stride=2)
print("largest difference:", float(np.abs(folded - after).max()))

# %% [markdown]
# A little is left: the same sum, rounded in another order. A forgotten epsilon is another matter, where a variance
# is small:

# %%
for v in (1.0, 0.1, 0.001):
    print(f"variance {v}: factor with epsilon {(v + 1e-3) ** -0.5:.3f}, without {v**-0.5:.3f}")

# %% [markdown]
# ReLU6 cuts below 0 and above 6. Numbers of few bits are finer near 0: this is the distance to the next float16.

# %%
for value in (1, 6, 100, 1000):
    print(value, float(np.spacing(np.float16(value))))
a = np.linspace(-3, 9, 400)
plt.plot(a, relu6(a), label="ReLU6")
plt.plot(a, (a > 0) & (a < 6), label="its derivative")
plt.legend()
plt.show()

# %% [markdown]
# **Think.** When can a batch normalization *not* be folded into the convolution before it?

# %% [markdown]
# ## Now you
#
# Write each function, then run the cell below it. It names the first wrong value and, if it can, the mistake.

# %%
from npmobilenet.exercises import check


# %%
def relu6(x):
    """min(max(x, 0), 6), and its derivative; at 0 and at 6 the derivative is 0, as TensorFlow's.

    x: (n,)   returns (y, slope), both (n,)
    """
    raise NotImplementedError


# %% tags=["raises-exception"]
check(relu6)


# %%
def batch_norm(x, gamma, beta, mean, var, epsilon):
    """y = gamma * (x - mean) / sqrt(var + epsilon) + beta, for each channel.

    x: (H, W, C)   gamma, beta, mean, var: (C,)   returns (H, W, C)
    """
    raise NotImplementedError


# %% tags=["raises-exception"]
check(batch_norm)


# %%
def fold_batch_norm(w, b, gamma, beta, mean, var, epsilon):
    """Kernel and bias of the one convolution that does what this one does with a batch normalization after it.

    w: (K, K, c_in, c_out)   b, gamma, beta, mean, var: (c_out,)   returns (w, b) of the same shapes
    """
    raise NotImplementedError


# %% tags=["raises-exception"]
check(fold_batch_norm)
