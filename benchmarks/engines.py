"""Our engine against ONNX Runtime, LiteRT and OpenVINO: one image, float32, the same graph and weights.

    python benchmarks/engines.py [--threads 1] [--rounds 7] [--networks v1,v2,...] [--engines ours,onnxruntime,...]

Every engine runs in a fresh process pinned to `--threads` cores; the processes take turns, `--rounds` times, so that a
machine that changes its speed does so for all. Before anything is timed the outputs are compared. Printed: the least
time of each, and our least time over the best other one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.graph import Graph
from npmobilenet.ops import Array

NETWORKS = {
    "v1": lambda: mobilenet_v1(),
    "v2": lambda: mobilenet_v2(),
    "v3-large": lambda: mobilenet_v3_large(),
    "v3-small": lambda: mobilenet_v3_small(),
    "v1-0.25-128": lambda: mobilenet_v1(alpha=0.25, resolution=128),
}
ENGINES = ("ours", "onnxruntime", "litert", "openvino")
SECONDS = 0.4  # of one turn


def random_params(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Weights that keep activations near size 1, so that comparing the outputs means something."""
    generator = np.random.default_rng(seed)
    params: dict[str, Array] = {}
    for name, shape in graph.params.items():
        array = name.rsplit("/")[-1]
        if array == "kernel":
            fan_in = np.prod(shape[:-1]) if shape[-1] != 1 or len(shape) == 2 else np.prod(shape[:2])
            params[name] = generator.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
        elif array in ("gamma", "moving_variance"):
            params[name] = generator.uniform(0.7, 1.3, shape).astype(np.float32)
        else:
            params[name] = generator.normal(0, 0.2, shape).astype(np.float32)
    return params


def image_for(graph: Graph) -> Array:
    """(1, H, W, 3) pixels as the network wants them."""
    x = np.random.default_rng(1).uniform(-1, 1, (1, *graph.input_shape)).astype(np.float32)
    return (x + 1) * np.float32(127.5) if "V3" in graph.name else x


def runner(engine: str, network: str, folder: Path, threads: int):  # type: ignore[no-untyped-def]
    """A function without arguments that runs the engine once and returns the output, (1, classes)."""
    graph = NETWORKS[network]()
    x = image_for(graph)
    if engine == "ours":
        from npmobilenet.engine import Plan

        plan = Plan(graph, random_params(graph))
        return lambda: plan.run(x, threads)
    if engine == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(folder / f"{network}.onnx", options, providers=["CPUExecutionProvider"])
        planes = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        return lambda: session.run(None, {"x": planes})[0].reshape(1, -1)
    if engine == "openvino":
        import openvino

        core = openvino.Core()
        model = core.compile_model(
            core.read_model(folder / f"{network}.onnx"), "CPU",
            {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"},
        )  # fmt: skip
        request = model.create_infer_request()
        planes = openvino.Tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))

        def run_openvino() -> Array:
            request.set_input_tensor(planes)
            request.infer()
            return request.get_output_tensor().data.reshape(1, -1)

        return run_openvino
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(folder / f"{network}.tflite"), num_threads=threads)
    interpreter.allocate_tensors()
    entry, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run_litert() -> Array:
        interpreter.set_tensor(entry, x)
        interpreter.invoke()
        return interpreter.get_tensor(result).reshape(1, -1)

    return run_litert


def serve(engine: str, network: str, folder: Path, threads: int) -> None:
    """Child process: print the output once, then for every line that comes in the times of a turn, least and median."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    run = runner(engine, network, folder, threads)
    print(json.dumps(run()[0].tolist()), flush=True)
    for _ in sys.stdin:
        times, end = [], time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        print(json.dumps([min(times), sorted(times)[len(times) // 2]]), flush=True)


def compare(
    network: str, engines: list[str], folder: Path, threads: int, rounds: int
) -> dict[str, tuple[float, float]]:
    """Least and median time of each engine, in seconds, from rounds in turn."""
    children = {}
    expected = None
    for engine in engines:
        command = [sys.executable, __file__, "--serve", engine, network, str(folder), "--threads", str(threads)]
        children[engine] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        y = np.array(json.loads(_line(children[engine])))
        expected = y if expected is None else expected
        if not np.allclose(y, expected, rtol=1e-3, atol=1e-5):
            raise SystemExit(f"{network}: {engine} answers otherwise, by {abs(y - expected).max():.2g}")
    times: dict[str, list[list[float]]] = {engine: [] for engine in engines}
    for _ in range(rounds):
        for engine, child in children.items():
            child.stdin.write("go\n")
            child.stdin.flush()
            times[engine].append(json.loads(_line(child)))
    for child in children.values():
        child.stdin.close()
        child.wait()
    return {
        engine: (min(t[0] for t in turns), float(np.median([t[1] for t in turns]))) for engine, turns in times.items()
    }


def _line(child: subprocess.Popen[str]) -> str:
    while line := child.stdout.readline():
        if line.startswith("["):
            return line
    raise SystemExit("an engine's process ended; its message is above")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--models", type=Path, help="folder that keeps the exported models; default: a temporary one")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], options.serve[1], Path(options.serve[2]), options.threads)
        return
    engines = options.engines.split(",")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.models or Path(temporary)
        print(f"| network | {' | '.join(f'{engine} ms' for engine in engines)} | ours / best other |")
        print(f"|---|{'---|' * (len(engines) + 1)}")
        for network in options.networks.split(","):
            export(network, engines, folder)
            times = compare(network, engines, folder, options.threads, options.rounds)
            best = min((least for engine, (least, _) in times.items() if engine != "ours"), default=float("nan"))
            cells = " | ".join(f"{1e3 * least:.2f} ({1e3 * median:.2f})" for least, median in times.values())
            print(f"| {network} | {cells} | {times['ours'][0] / best:.2f} |", flush=True)


def export(network: str, engines: list[str], folder: Path) -> None:
    """Write the models that the engines need, unless they are there."""
    graph = NETWORKS[network]()
    if {"onnxruntime", "openvino"} & set(engines) and not (folder / f"{network}.onnx").exists():
        from export import write_onnx

        write_onnx(graph, random_params(graph), folder / f"{network}.onnx")
    if "litert" in engines and not (folder / f"{network}.tflite").exists():
        code = f"import engines, pathlib; engines.export_tflite({network!r}, pathlib.Path({str(folder)!r}))"
        subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True, capture_output=True)


def export_tflite(network: str, folder: Path) -> None:
    """Write one TensorFlow Lite file; in a process of its own, since TensorFlow takes over the threads."""
    from export import write_tflite

    graph = NETWORKS[network]()
    write_tflite(graph, random_params(graph), folder / f"{network}.tflite")


if __name__ == "__main__":
    main()
