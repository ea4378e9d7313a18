# %% [markdown]
# # 9. Nine times fewer: how much faster?
#
# 30 minutes. Afterwards you can say why a count of multiply-adds is not a time, and what else has to be counted.

# %%
try:
    import google.colab  # noqa: F401

    get_ipython().run_line_magic("pip", "install -q npmobilenet[plot]")  # type: ignore[name-defined]
except ImportError:
    pass  # not in Colab: npmobilenet is installed already

# %%
import json
import subprocess
import sys

import matplotlib.pyplot as plt

from npmobilenet.analysis.separable_cost import SeparableCost

block = SeparableCost(H=14, W=14, c_in=512, c_out=512)
print("multiply-adds saved:", round(1 / float(block.ratio), 2), "times")

# %% [markdown]
# The ladder times one block on *your* machine, from seven loops to all cores. All rungs compute the same block.

# %%
command = [sys.executable, "-m", "npmobilenet", "ladder", "--seconds", "2", "--json"]
ladder = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
for rung in ladder["rungs"]:
    print(f"{rung['number']}  {rung['name']:28} {rung['ms']:12.3f} ms {rung['gflops']:10.4f} GFLOP/s")
plt.barh([r["name"] for r in ladder["rungs"]], [r["ms"] for r in ladder["rungs"]], log=True)
plt.xlabel("ms")
plt.show()

# %% [markdown]
# From the first rung to the last the mathematics saves a little, and the way it is computed all the rest.
# Why? Each value that is read should be used often. Count the multiply-adds for each value that a layer reads
# or writes, its *arithmetic intensity* (计算强度):

# %%
values = {"depthwise": 2 * 14 * 14 * 512, "pointwise": 2 * 14 * 14 * 512}
for name, moved in values.items():
    print(f"{name}: {block.macs[name] / (moved + block.weights[name]):.1f} multiply-adds a value")

# %% [markdown]
# The depthwise layer has hardly anything to do for each value: it waits for memory. The pointwise layer is a
# product of two matrices, which processors and libraries have been tuned for longest. It is good that it has most
# of the work:

# %%
print(
    f"share of the pointwise layer: {block.macs['pointwise'] / (block.macs['depthwise'] + block.macs['pointwise']):.3f}"
)

# %% [markdown]
# ## Now you
#
# 1. Which step of your ladder brought most? Read its code: `npmobilenet ladder --show 4` prints that of rung 4.
# 2. *"MobileNet makes a ninth of the multiplications, so it is nine times as fast."* Write the sentence so that it is true.
