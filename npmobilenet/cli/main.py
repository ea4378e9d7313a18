"""The command line, `npmobilenet` or `python -m npmobilenet`: dispatch and exit codes.

Results go to standard output: tables on a terminal, plain text in a pipe, one JSON document with `--json`. Progress and
errors go to standard error. Exit code 0: done; 1: failed, or not everything done; 2: usage error.
"""

import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from npmobilenet.cli.options import near, print_usage_error, run_command

PROGRAM = "npmobilenet"
USAGE = f"usage: {PROGRAM} COMMAND [OPTIONS] [ARGUMENTS]\n"
OBJECTS_BETWEEN_COLLECTIONS = 50_000  # Python's own number, 700, is for programs that run on
INTERRUPTED = 130  # as shells count: 128 and the number of the signal

SUMMARIES = {
    "classify": "Classify images.",
    "detect": "Find objects on images: boxes with names, by an SSD network.",
    "features": "Write the embeddings of images, or the outputs of a layer, to a file.",
    "convert": "Convert a Keras file to a self-describing .safetensors file.",
    "quantize": "Quantize a network to 8-bit integers, by the ranges that typical images bring about.",
    "models": "List the known models: cost, accuracy, and whether cached.",
    "cost": "Count parameters, multiply-adds, FLOPs and bytes.",
    "memory": "Plan the memory of feature maps: its peak, and the offset of every tensor.",
    "trace": "Write test vectors: every tensor computed from an image, with its tolerance.",
    "bounds": "Show how rounding errors grow through a network: measured, and bounded.",
    "compare": "Find the first layer that another implementation computes wrongly, and name the mistake.",
    "dump": "Run a model file in its own runtime, and write the outputs of all its layers to a file, for `compare`.",
    "explain": "Show one value of a layer from its terms.",
    "verify": "Run the self-check of a file, and compare its layers with the engine and with Keras.",
    "page": "Write the page: a real MobileNet, number by number, in one HTML file that needs no network.",
    "figures": "Draw the papers' figures from the networks' graphs, with numbers counted, or quoted with their source.",
    "lessons": "Copy the exercises and the lessons, twelve notebooks, to a folder.",
    "check": "Judge a file of exercises: the first wrong value, how it is made, and the mistake.",
    "ladder": "Time one depthwise separable block from seven loops to all cores, on this machine.",
    "bench": "Benchmark against other runtimes and the CPU's FMA peak (interleaved), or, with --steps, by step.",
    "warmup": "Compile the kernels for this CPU ahead of their first use.",
}
"""First line of the docstring of every command, in the order of `--help`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after `npmobilenet`; None for those of this process.

    Returns:
        The exit code.
    """
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as end:  # of argparse, for --help
        return int(end.code or 0)
    return code


def _run(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] == "--help":
        print(_help())
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in SUMMARIES:
        print_usage_error(USAGE, PROGRAM, f"no such command: {name}{near(name, SUMMARIES)}")
        return 2
    return run_command(command(name), f"{PROGRAM} {name}", rest)


def command(name: str) -> Callable[..., None]:
    """The function of a command, from its own module: no other command is imported."""
    function: Callable[..., None] = getattr(import_module(f"npmobilenet.cli.{name}_command"), name)
    return function


def _help() -> str:
    width = max(map(len, SUMMARIES))
    commands = [f"  {name:{width}}  {summary}" for name, summary in SUMMARIES.items()]
    return "\n".join([
        f"{USAGE}\nMobileNet V1, V2 and V3 in NumPy, with Keras's weights.\n\ncommands:", *commands,
        f"\n'{PROGRAM} COMMAND --help' for the options of a command.",
    ])  # fmt: skip


def _end(number: int, frame: object) -> None:
    """End the program as an exception does, so that files and folders that are half written are removed."""
    sys.exit(128 + number)


def program() -> None:
    """Run the command line and exit.

    With Python's default settings, a seventh of a short command's time goes into garbage collection while modules are
    imported and when Python exits, though there is no garbage.
    """
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    signal.signal(signal.SIGTERM, _end)
    code = main()
    gc.freeze()
    sys.exit(code)
