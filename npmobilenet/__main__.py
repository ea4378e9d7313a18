"""The command line, `npmobilenet` or `python -m npmobilenet`: which command is meant, and what its end is.

Answers go to standard output, as a table where people look at it, as plain text otherwise, as one JSON document with
`--json`; progress and complaints go to standard error. Exit code 0: done. 1: could not, or not everything. 2: wrong
use. Only the module of the command that is meant is imported.
"""

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from npmobilenet.cli.options import near, print_usage_error, run_command

PROGRAM = "npmobilenet"
USAGE = f"usage: {PROGRAM} COMMAND [OPTIONS] [ARGUMENTS]\n"
OBJECTS_BETWEEN_COLLECTIONS = 50_000  # Python's own number, 700, is for programs that run on
INTERRUPTED = 130  # as shells count: 128 and the number of the signal

COMMANDS = {
    "classify": ("npmobilenet.cli.main", "Name what is on pictures."),
    "convert": ("npmobilenet.cli.main", "Turn a Keras file into a .safetensors file that explains and checks itself."),
    "models": (
        "npmobilenet.cli.main",
        "List the known models: what they cost, how good they are, whether they are here already.",
    ),
    "cost": ("npmobilenet.cli.cost_command", "Count parameters, multiply-adds, FLOPs and bytes."),
    "memory": (
        "npmobilenet.cli.cost_command",
        "Plan the memory that activations need: its peak, and where every tensor goes.",
    ),
    "trace": (
        "npmobilenet.cli.verify_command",
        "Write a golden pack: every tensor that a network computes from a picture, with its tolerance.",
    ),
    "bounds": (
        "npmobilenet.cli.verify_command",
        "Show how rounding errors grow through a network: measured, and bounded.",
    ),
    "compare": (
        "npmobilenet.cli.compare_command",
        "Find the first layer that another implementation computes wrongly, and name the mistake.",
    ),
    "verify": (
        "npmobilenet.cli.verify_command",
        "Run a file's self-check again, and compare its layers with the engine's and with Keras's.",
    ),
    "bench": (
        "npmobilenet.cli.bench_command",
        "Time the engine beside others and the CPU's peak, in turns; or, with --steps, its steps.",
    ),
    "warmup": ("npmobilenet.cli.main", "Compile the kernels for this CPU ahead of their first use."),
}
"""Where each command is, and the first line of what it says about itself."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what was typed after `npmobilenet`; None for what was.

    Returns:
        The exit code.
    """
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough
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
    if name not in COMMANDS:
        print_usage_error(USAGE, PROGRAM, f"no such command: {name}{near(name, COMMANDS)}")
        return 2
    module, _ = COMMANDS[name]
    return run_command(getattr(import_module(module), name), f"{PROGRAM} {name}", rest)


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = [f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join([
        f"{USAGE}\nMobileNet V1, V2 and V3 from scratch in NumPy, with Keras's own weights.\n\ncommands:", *commands,
        f"\n'{PROGRAM} COMMAND --help' says more about each.",
    ])  # fmt: skip


def program() -> None:
    """Be the `npmobilenet` program: run the command line and end this process.

    Without these settings a seventh of a short command's time goes into collecting garbage among modules, of which
    there is none: while they are imported, and once more as Python ends.
    """
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    code = main()
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    program()
