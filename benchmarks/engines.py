"""The engine compared with ONNX Runtime, LiteRT and OpenVINO on five networks and two detectors: the README's table.

    python benchmarks/engines.py [--threads 1] [--batch 1] [--rounds 7] [--networks v1,v2,...] [--engines litert,...]

`npmobilenet bench` for each network with random weights, printed as the Markdown table of the README: minimum time per
image in milliseconds, or throughput in images/s for a larger batch; the ratio of npmobilenet's minimum to that of the
fastest other runtime; and npmobilenet's share of the FMA peak. With --int8, the networks are
quantized after training first, and all runtimes have the same 8-bit weights. Requires the `bench` extra.
"""

import argparse
from collections.abc import Callable

import numpy as np

from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.architectures.ssd import ssd
from npmobilenet.bench.measure import EngineComparison, Timing, compare_engines
from npmobilenet.bench.measure_bytes import compare_byte_engines
from npmobilenet.bench.random_weights import random_model
from npmobilenet.bench.runtimes import select_runtimes
from npmobilenet.models.model import Model
from npmobilenet.models.quantizing import quantize_model
from npmobilenet.quantized.rules import RULES
from npmobilenet.quantized.tensors import Network
from npmobilenet.reference.graph import Graph

NETWORKS: dict[str, tuple[str, Callable[[], Graph]]] = {
    "v1": ("V1 1.0/224", mobilenet_v1),
    "v2": ("V2 1.0/224", mobilenet_v2),
    "v3-large": ("V3-Large 224", mobilenet_v3_large),
    "v3-small": ("V3-Small 224", mobilenet_v3_small),
    "v1-0.25-128": ("V1 0.25/128", lambda: mobilenet_v1(alpha=0.25, resolution=128)),
    "ssdlite-v2": ("SSDLite V2 320", lambda: ssd("mobilenet_v2")),
    "ssdlite-v3-large": ("SSDLite V3-Large 320", lambda: ssd("mobilenet_v3_large", reduced_tail=True)),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--int8", action="store_true", help="quantized networks")
    parser.add_argument("--rule", choices=RULES, default="tflite", help="how npmobilenet rounds with --int8")
    parser.add_argument("--engines", help="runtimes to compare with (default: all installed)")
    options = parser.parse_args()
    if options.int8 and options.batch != 1:
        parser.error("quantized files compute one image at a time: --batch does not apply")

    runtimes = select_runtimes(options.engines)
    names = ["npmobilenet", *(runtime.name for runtime in runtimes)]
    first = "network" if options.batch == 1 else f"network, {options.batch} images"
    heads = [first, "threads", *names, "npmobilenet / best other"]
    heads += [] if options.int8 else ["npmobilenet, % of FMA peak"]
    print(f"| {' | '.join(heads)} |")
    print(f"|---|{'---:|' * (len(heads) - 1)}")
    for network in options.networks.split(","):
        title, graph = NETWORKS[network]
        model = random_model(graph())
        if options.int8:
            rule = RULES[options.rule]
            compared = compare_byte_engines(
                _quantized(model), rule, runtimes, threads=options.threads, rounds=options.rounds
            )
        else:
            how = {"threads": options.threads, "batch": options.batch, "rounds": options.rounds}
            compared = compare_engines(model, runtimes, **how)
        timings = (_cell(timing, options.batch) for timing in compared.timings)
        cells = [title, str(options.threads), *timings, *_shares(compared)][: len(heads)]
        print(f"| {' | '.join(cells)} |", flush=True)


def _quantized(model: Model) -> Network:
    """The network with 8-bit weights; ranges are those of eight random images."""
    H, W, C = model.graph.input_shape
    images = np.random.default_rng(0).integers(0, 256, (8, H, W, C), dtype=np.uint8)
    return quantize_model(model, [*images]).network


def _cell(timing: Timing, batch: int) -> str:
    if timing.minimum is None:
        return timing.problem
    return f"{1e3 * timing.minimum:.2f}" if batch == 1 else f"{batch / timing.minimum:.0f}"


def _shares(compared: EngineComparison) -> tuple[str, str]:
    share = compared.share_of_peak(compared.timings[0])
    ratio = "" if compared.ratio is None else f"{compared.ratio:.2f}"
    return ratio, "" if share is None else f"{100 * share:.0f}"


if __name__ == "__main__":
    main()
