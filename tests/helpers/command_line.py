"""The command line, run inside the test's own process."""

import contextlib
import io
import json
import sys
from typing import Any, NamedTuple
from unittest.mock import patch

from npmobilenet.cli.main import main


class Result(NamedTuple):
    """Output of a command, and its exit code."""

    exit_code: int
    stdout: str
    stderr: str


def run(*arguments: object, stdin: bytes = b"") -> Result:
    """`npmobilenet` with these arguments; no standard stream is a terminal."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
    ):
        code = main(list(map(str, arguments)))
    return Result(code, stdout.getvalue(), stderr.getvalue())


def document(result: Result, exit_code: int = 0) -> Any:
    """The JSON document that a command printed."""
    assert result.exit_code == exit_code, result.stderr
    return json.loads(result.stdout)
