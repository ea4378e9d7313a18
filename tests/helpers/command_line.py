"""The command line inside the test's own process."""

import contextlib
import io
import sys
from typing import NamedTuple
from unittest.mock import patch

from npmobilenet.cli.main import main


class Result(NamedTuple):
    """What a command printed, and its exit code."""

    exit_code: int
    stdout: str
    stderr: str


def run(*arguments: object, stdin: bytes = b"") -> Result:
    """`npmobilenet` with these arguments; nothing that it writes to or reads from is a terminal."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
    ):
        code = main(list(map(str, arguments)))
    return Result(code, stdout.getvalue(), stderr.getvalue())
