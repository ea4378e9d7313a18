"""Cold start: time to the first prediction with V2 1.0/224, and peak memory with V1 1.0/224.

    python benchmarks/starting.py [--rounds 8]

Times are those of a whole process, minimum of `--rounds` interleaved runs: `npmobilenet --help`; `classify` of one
photo of 500 x 375; `nm.load` and `predict` of an array. npmobilenet reads a converted `.safetensors` file and cached
kernels; LiteRT reads the same network; for comparison, importing only NumPy or Numba; and, once, the compile time.
Modules are read as bytecode, as those of an installed package are. Memory is the peak of the process (Linux). Requires
the `bench` extra.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from npmobilenet.architectures import mobilenet_v1, mobilenet_v2
from npmobilenet.bench.export_tflite import write_tflite
from npmobilenet.bench.random_weights import random_model
from npmobilenet.compiler.compilation import compile_kernels
from npmobilenet.compiler.passes import fuse

PREDICT = "import numpy as np, npmobilenet as nm; nm.load({path!r}).predict(np.zeros((224, 224, 3), np.uint8))"
COMPILE = "import npmobilenet as nm; nm.load({path!r}).compile()"
WARMUP = "from npmobilenet.compiler.compilation import compile_kernels; compile_kernels()"
LITERT = """
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter({path!r})
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.zeros((1, 224, 224, 3), np.float32))
interpreter.invoke()
interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
"""
PEAK = "\nprint(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM:')))"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    rounds = parser.parse_args().rounds

    compile_kernels()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder  # written by the first, untimed run
        v1, v2, tflite = (str(Path(folder) / name) for name in ("v1.safetensors", "v2.safetensors", "v2.tflite"))
        random_model(mobilenet_v1()).save(v1)
        model = random_model(mobilenet_v2())
        model.save(v2)
        write_tflite(fuse(model.graph, model.params), 1, Path(tflite))
        photo = Path(folder) / "photo.jpg"
        write_photo(photo)
        programs = {
            "npmobilenet --help": ["-m", "npmobilenet", "--help"],
            "npmobilenet classify": ["-m", "npmobilenet", "classify", str(photo), "--model", v2],
            "nm.load and predict": ["-c", PREDICT.format(path=v2)],
            "litert": ["-c", LITERT.format(path=tflite)],
            "import numpy": ["-c", "import numpy"],
            "import numba": ["-c", "import numba"],
        }
        minima = dict.fromkeys(programs, float("inf"))
        for run in range(1 + rounds):
            for name, program in programs.items():
                start = time.perf_counter()
                _run(program)
                if run > 0:
                    minima[name] = min(minima[name], time.perf_counter() - start)
        for name, seconds in minima.items():
            times = (f"{seconds / minima[other]:5.2f} times {other}" for other in ("import numpy", "litert"))
            print(f"{name:26} {seconds:6.3f} s  {'  '.join(times)}")
        for name, code in (("compiling for V2", COMPILE.format(path=v2)), ("compiling everything", WARMUP)):
            with tempfile.TemporaryDirectory() as empty:
                start = time.perf_counter()
                _run(["-c", code], NPMOBILENET_CACHE=empty)
                print(f"{name:26} {time.perf_counter() - start:6.2f} s")
        if sys.platform == "linux":
            for name, first in (("peak of V1", ""), ("peak of V1, Numba imported", "import numba\n")):
                print(f"{name:26} {1024 * int(_run(['-c', first + PREDICT.format(path=v1) + PEAK])) / 1e6:6.0f} MB")


def write_photo(path: Path) -> None:
    """Write a JPEG file of 500 x 375 pixels."""
    coarse = np.random.default_rng(0).integers(0, 256, (38, 50, 3), np.uint8)
    Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(path)


def _run(arguments: list[str], **environment: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | environment).stdout


if __name__ == "__main__":
    main()
