"""Post-processing of a detector, timed: minimum of 30 runs, with outputs drawn as a trained network's may be.

    python benchmarks/postprocessing.py

1,917 anchors, 90 classes and the background; sixty anchors are sure of one class.
"""

from collections.abc import Callable
from functools import partial
from time import perf_counter

import numpy as np

from npmobilenet.detection.anchors import tensorflow_anchors
from npmobilenet.detection.tensorflow_rule import PostProcessing, TensorFlowRule
from npmobilenet.types import Array

MAPS = ((19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1))
SLOTS = 91
RUNS = 30


def main() -> None:
    """Measure and print."""
    anchors = tensorflow_anchors(MAPS)
    codes, scores = drawn_heads(len(anchors))
    print("| suppression | score threshold | boxes | ms |\n|---|---:|---:|---:|")
    for is_regular in (False, True):
        for threshold in (1e-8, 0.01, 0.3):
            options = PostProcessing(threshold, use_regular_nms=is_regular)
            rule = TensorFlowRule(anchors, options)
            count = len(rule.found(codes, scores).scores)
            name = "regular" if is_regular else "fast"
            milliseconds = 1e3 * minimum(partial(rule.found, codes, scores))
            print(f"| {name} | {threshold:g} | {count} | {milliseconds:.2f} |")


def drawn_heads(anchors: int) -> tuple[Array, Array]:
    """Box codes (A, 4) and scores (A, SLOTS) before the sigmoid."""
    rng = np.random.default_rng(7)
    scores = (rng.normal(0, 1, (anchors, SLOTS)) * 1.5 - 6).astype(np.float32)
    sure = rng.choice(anchors, 60, replace=False)
    scores[sure, rng.integers(1, SLOTS, 60)] += 7
    return (rng.normal(0, 0.5, (anchors, 4))).astype(np.float32), scores


def minimum(run: Callable[[], object]) -> float:
    """Seconds of the fastest run."""
    seconds = []
    for _ in range(RUNS):
        start = perf_counter()
        run()
        seconds.append(perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
