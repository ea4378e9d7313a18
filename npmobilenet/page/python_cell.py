"""What view P carries: MicroPython, the exercises with their checker, and the file that students write.

A page opened from `file://` can run MicroPython in a Worker, where it can be stopped, if its loader is no module: three
changes of the loader's text make it a script.
"""

import ast
import base64
import re
from importlib.resources import files
from typing import Any

from npmobilenet.errors import NpMobileNetError
from npmobilenet.exercises import IN_MICROPYTHON
from npmobilenet.exercises.first_five import FIRST_FIVE

MICROPYTHON = "vendor/micropython-1.27.0"
REPLACEMENTS = (
    ("import.meta.url", '"about:blank"', 4),
    ("export default _createMicroPythonModule", "", 1),
    ("export async function", "async function", 1),
)
"""(text of the loader, what stands there instead, how often it occurs)."""


def python_cell() -> dict[str, Any]:
    """What view P carries.

    Returns:
        "loader": a script that sets `loading` to a promise of `loadMicroPython`; "wasm": MicroPython in base64;
        "modules": text of the modules of `IN_MICROPYTHON` by name; "starter": {"header": text, "functions": [[name,
        text]]} of the file that students get; "exercises": names of the five first.
    """
    vendor, exercises = files("npmobilenet.page").joinpath(MICROPYTHON), files("npmobilenet.exercises")
    starter = exercises.joinpath("starter.py").read_text(encoding="utf-8")
    return {
        "loader": as_script(vendor.joinpath("micropython.mjs").read_text(encoding="utf-8")),
        "wasm": base64.b64encode(vendor.joinpath("micropython.wasm").read_bytes()).decode("ascii"),
        "modules": {name: exercises.joinpath(f"{name}.py").read_text(encoding="utf-8") for name in IN_MICROPYTHON},
        "starter": starter_parts(starter, [exercise.name for exercise in FIRST_FIVE]),
        "exercises": [exercise.name for exercise in FIRST_FIVE],
    }


def as_script(loader: str) -> str:
    """MicroPython's loader, a module, as a script that sets `loading` to a promise of `loadMicroPython`.

    Raises:
        NpMobileNetError: the loader is not the one that this was written for.
    """
    for text, instead, times in REPLACEMENTS:
        found = loader.count(text)
        if found != times:
            raise NpMobileNetError(f"micropython.mjs: expected {text!r} {times} times, found it {found} times")
        loader = loader.replace(text, instead)
    return f"const loading = (async () => {{\n{loader}\nreturn loadMicroPython;\n}})();\n"


def starter_parts(starter: str, on_lists: list[str]) -> dict[str, Any]:
    """The file that students get, taken apart: {"header": text, "functions": [[name, text]]}.

    Args:
        starter: its text.
        on_lists: names of the functions that are written on nested lists: x[i, j, c] becomes x[i][j][c].
    """
    lines = starter.splitlines(keepends=True)
    functions = [node for node in ast.parse(starter).body if isinstance(node, ast.FunctionDef)]
    texts = {node.name: "".join(lines[node.lineno - 1 : node.end_lineno]).rstrip() for node in functions}
    return {
        "header": "".join(lines[: functions[0].lineno - 1]).rstrip(),
        "functions": [[name, _nested(text) if name in on_lists else text] for name, text in texts.items()],
    }


def _nested(text: str) -> str:
    """Subscripts of arrays as those of nested lists; slices stay."""
    return re.sub(r"(?<=\w)\[([^\[\]:]+)\]", lambda found: "".join(f"[{k}]" for k in found[1].split(", ")), text)
