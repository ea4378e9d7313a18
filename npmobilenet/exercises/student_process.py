"""The process in which a student's program runs: one JSON line on standard input for a call, one back for its outcome.

Started as a script with the program's path and "blocked" or "allowed". What the program prints goes to standard error.
"""

import importlib.abc
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGES = ("npmobilenet", "npmobilenet_kernels", "npmobilenet_weights_convert")
MEMORY = 4 << 30  # bytes of address space


class Blocked(importlib.abc.MetaPathFinder):
    """Refuses to import this package."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name.partition(".")[0] in PACKAGES:
            raise ImportError(
                f"{name} cannot be imported in an exercise (npmobilenet check --allow-package lifts this)"
            )


def main(path: str, package: str) -> None:
    """Run a program, report its functions, then answer calls until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what is printed is not an answer
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    from npmobilenet.exercises.call_arguments import call_arguments
    from npmobilenet.exercises.judgment import raised, run

    sys.path.pop()
    calls = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if package == "blocked":
        for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
            del sys.modules[name]
        sys.meta_path.insert(0, Blocked())
    limit_memory()

    def answer(document: dict[str, Any]) -> None:
        answers.write(json.dumps(document, default=repr) + "\n")
        answers.flush()

    space: dict[str, Any] = {"__name__": "exercises", "__file__": path}
    try:
        exec(compile(Path(path).read_bytes(), path, "exec"), space)
    except (Exception, SystemExit) as error:
        return answer({"error": raised(error)})
    answer({"functions": [name for name, value in space.items() if callable(value)]})
    for line in calls:
        call = json.loads(line)
        args = call_arguments(call["args"], call["number"], as_lists=call["as_lists"], whole=call["whole"])
        outcome = run(space[call["name"]], args, tuple(call["arguments"]))
        answer(vars(outcome))
    return None


def limit_memory() -> None:
    """Limit the address space, where the operating system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))


if __name__ == "__main__":
    main(*sys.argv[1:])
