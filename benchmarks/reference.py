"""The NumPy reference compared with ONNX\'s own reference in NumPy: MobileNetV1 1.0/224, one image, one core.

    python benchmarks/reference.py [--rounds 5]

Both compute the same network with the same weights; for ONNX batch normalization is folded, which saves it 27 layers.
The outputs are compared first; then runs are interleaved. Requires the `bench` extra.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx.reference import ReferenceEvaluator

from npmobilenet.architectures import mobilenet_v1
from npmobilenet.bench.export_onnx import write_onnx
from npmobilenet.bench.random_weights import random_model, sample_images
from npmobilenet.compiler.passes import fuse
from npmobilenet.types import Array


def main() -> None:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds

    model = random_model(mobilenet_v1())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v1.onnx"
        write_onnx(fuse(model.graph, model.params), 1, path)
        evaluator = ReferenceEvaluator(str(path))
    x = sample_images(model, 1)  # (1, 224, 224, 3)
    nchw = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    runs: dict[str, Callable[[], Array]] = {
        "npmobilenet reference": lambda: model.forward(x, backend="reference"),
        "onnx.reference": lambda: np.asarray(next(iter(evaluator.run(None, {"x": nchw})))),
    }
    own, other = (run() for run in runs.values())
    np.testing.assert_allclose(own.ravel(), other.ravel(), rtol=1e-3, atol=1e-6)

    minima = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            minima[name] = min(minima[name], time.perf_counter() - start)
    for name, seconds in minima.items():
        print(f"{name:24} {1e3 * seconds:8.1f} ms")
    print(f"ratio {minima['npmobilenet reference'] / minima['onnx.reference']:.2f}")


if __name__ == "__main__":
    main()
