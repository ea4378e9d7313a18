"""Other runtimes: their packages, file formats and calls.

    onnxruntime    ONNX Runtime with its CPU provider
    litert         LiteRT (TensorFlow Lite), which computes float32 with XNNPACK
    openvino       OpenVINO, restricted to float32: it defaults to bfloat16 on CPUs that support it

All compute the same fused operations with the same weights and the same batch size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from npmobilenet.compiler.ir import Operations
from npmobilenet.errors import NpMobileNetError
from npmobilenet.types import Array

Run = Callable[[], list[Array]]  # the outputs, (N, ...) each


@dataclass(frozen=True)
class Runtime:
    """Another inference runtime.

    Attributes:
        name: as on the command line.
        packages: name of each package on PyPI -> module to import; the runtime's own first.
        file: name of the file that it reads.
        export: (operations, batch size, path) writes that file.
        open: (path, images (N, H, W, C), threads) -> a function that runs them once and returns all outputs.
    """

    name: str
    packages: dict[str, str]
    file: str
    export: Callable[[Operations, int, Path], None]
    open: Callable[[Path, Array, int], Run]

    @property
    def is_installed(self) -> bool:
        """Whether all its packages are installed."""
        return all(find_spec(module) for module in self.packages.values())

    @property
    def version(self) -> str:
        """Version of the runtime itself, "" if unknown."""
        try:
            return version(next(iter(self.packages)))
        except PackageNotFoundError:  # built from source, or under another name, such as openvino-nightly
            return ""

    @property
    def install_command(self) -> str:
        """Install command."""
        return f"pip install {' '.join(self.packages)}"


def select_runtimes(names: str | None) -> list[Runtime]:
    """The runtimes with the given comma-separated names; None: all that are installed.

    Raises:
        NpMobileNetError: a name is unknown, or its runtime not installed.
    """
    if names is None:
        return [runtime for runtime in RUNTIMES.values() if runtime.is_installed]
    selected = list(dict.fromkeys(name.strip() for name in names.split(",")))
    for name in selected:
        if name not in RUNTIMES:
            raise NpMobileNetError(f"unknown runtime {name!r}; choose from {', '.join(RUNTIMES)}")
        if not RUNTIMES[name].is_installed:
            raise NpMobileNetError(f"{name} is not installed: {RUNTIMES[name].install_command}")
    return [RUNTIMES[name] for name in selected]


def _write_onnx(ops: Operations, batch: int, path: Path) -> None:
    from npmobilenet.bench.export_onnx import write_onnx

    write_onnx(ops, batch, path)


def _write_tflite(ops: Operations, batch: int, path: Path) -> None:
    from npmobilenet.bench.export_tflite import write_tflite

    write_tflite(ops, batch, path)


def _open_onnxruntime(path: Path, x: Array, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    planes = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return lambda: list(map(_channels_last, session.run(None, {"x": planes})))


def _open_litert(path: Path, x: Array, threads: int) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    results = [details["index"] for details in interpreter.get_output_details()]

    def run() -> list[Array]:
        interpreter.set_tensor(entry, x)
        interpreter.invoke()
        return [np.asarray(interpreter.get_tensor(result)) for result in results]

    return run


def _open_openvino(path: Path, x: Array, threads: int) -> Run:
    import openvino

    core = openvino.Core()
    model = core.compile_model(
        core.read_model(path), "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"},
    )  # fmt: skip
    request = model.create_infer_request()
    planes = openvino.Tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))

    def run() -> list[Array]:
        request.set_input_tensor(planes)
        request.infer()
        return [_channels_last(np.asarray(tensor.data)) for tensor in request.output_tensors]

    return run


def _channels_last(y: Array) -> Array:
    return y.transpose(0, 2, 3, 1) if y.ndim == 4 else y


_ONNX, _TFLITE = "network.onnx", "network.tflite"
RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime("onnxruntime", {"onnxruntime": "onnxruntime", "onnx": "onnx"}, _ONNX, _write_onnx, _open_onnxruntime),
        Runtime("litert", {"ai-edge-litert": "ai_edge_litert"}, _TFLITE, _write_tflite, _open_litert),
        Runtime("openvino", {"openvino": "openvino", "onnx": "onnx"}, _ONNX, _write_onnx, _open_openvino),
    )
}
"""Supported runtimes by name."""
